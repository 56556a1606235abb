"""Differences between rows of fine-tuned runs: in the pretraining, in the fine-tuning on each task, and in its data."""

from collections.abc import Mapping, Sequence

from ssl_nlp.comparison import configuration as configurations
from ssl_nlp.comparison.characters import shares_read
from ssl_nlp.comparison.costs import token_differences
from ssl_nlp.comparison.fine_tuned import FineTuned, data_of
from ssl_nlp.comparison.items import without_items
from ssl_nlp.comparison.types import Row
from ssl_nlp.corpora.digests import SHORT


def settings_that_differ(labels: Sequence[str], groups: Sequence[Sequence[FineTuned]]) -> dict[str, dict[str, str]]:
    """The settings that differ between rows: of the pretraining, and of fine-tuning on each task."""
    found: dict[str, dict[str, str]] = {}
    origins = [{f"pretraining.{key}": value for key, value in members[0].origin.items()} for members in groups]
    for key, values in configurations.difference(origins).items():
        found[key] = dict(zip(labels, values, strict=True))
    for task, of_rows in _by_task(labels, groups).items():
        for key, values in configurations.difference([one.settings for one in of_rows.values()]).items():
            found[f"{task}.{key}"] = dict(zip(of_rows, values, strict=True))
    return found


def _by_task(labels: Sequence[str], groups: Sequence[Sequence[FineTuned]]) -> dict[str, dict[str, FineTuned]]:
    """The first run of each row on each task, by task and label."""
    found: dict[str, dict[str, FineTuned]] = {}
    for label, members in zip(labels, groups, strict=True):
        for one in members:
            found.setdefault(without_items(one.task), {}).setdefault(label, one)
    return found


def cut_alike(methods: Sequence[Row]) -> list[str]:
    """One sentence for each data set of whose characters all rows read the same share, and not all of them."""
    return [
        f"Each row reads {next(iter(shares.values()))} of the characters of {data}: raise data.length to read more."
        for data, shares in shares_read(methods).items()
        if _alike(shares)
    ]


def _alike(shares: Mapping[str, str]) -> bool:
    return len({*shares.values()}) == 1


def not_equal(labels: Sequence[str], groups: Sequence[Sequence[FineTuned]], methods: Sequence[Row]) -> list[str]:
    said = []
    for task, of_rows in _by_task(labels, groups).items():
        name = data_of(task)
        differing = configurations.difference([one.settings for one in of_rows.values()])
        parts = configurations.differing_keys(
            {key: dict(zip(of_rows, values, strict=True)) for key, values in differing.items()}
        )
        if parts:
            said.append(f"Fine-tuning on {name} differs: {'; '.join(parts)}.")
        tested = {
            label: " and ".join(
                dict.fromkeys(one.results.data[:SHORT] for one in members if without_items(one.task) == task)
            )
            for label, members in zip(labels, groups, strict=True)
            if label in of_rows
        }
        if len({*tested.values()}) > 1:
            said.append(
                f"The test data of {name} differ: {configurations.spoken(tested)} (digests). Each has a column of its own."
            )
    said += [
        f"The share of the characters of {data} that is read is {configurations.spoken(shares)}: raise data.length."
        for data, shares in shares_read(methods).items()
        if not _alike(shares)
    ]
    known = {
        label: members[0].origin
        for label, members in zip(labels, groups, strict=True)
        if members[0].pretraining is not None
    }
    said += [f"Pretraining: {line[0].lower()}{line[1:]}" for line in configurations.sentences(known)]
    names = {row.label for row in methods}
    unknown = [
        label
        for label, members in zip(labels, groups, strict=True)
        if members[0].pretraining is None and label in names and members[0].run.ancestry
    ]
    if unknown:
        said.append(
            f"How {', '.join(unknown)} was pretrained is not known here: corpus, tokens and encoder may differ."
        )
    return [*said, *token_differences(methods, " in pretraining and fine-tuning")]
