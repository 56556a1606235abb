"""Frozen embeddings beside fine-tuning: the scores of pretrained runs, in the rows of the runs that were fine-tuned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssl_nlp.comparison.assemble import REMEDY, baselines, items, merged, placed, read_results, row_of
from ssl_nlp.comparison.characters import cut_texts
from ssl_nlp.comparison.columns import FROZEN, columns
from ssl_nlp.comparison.compared_runs import ComparedRun, read_run
from ssl_nlp.comparison.fine_tuned import FineTuned
from ssl_nlp.comparison.item_notes import items_lost, known_words
from ssl_nlp.comparison.items import apart, item_sentences
from ssl_nlp.comparison.types import Row
from ssl_nlp.comparison.verdicts import RowResults
from ssl_nlp.corpora.digests import SHORT
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import PROTOCOL, Result
from ssl_nlp.evaluation.record import SuiteResult


@dataclass
class Frozen:
    """The frozen embeddings of pretrained runs on all suites that they were evaluated on.

    Attributes:
        rows: by the label of a row of fine-tuned runs; rows of one pretraining have it once.
        baselines: of these suites.
        items: as in `Comparison`.
        differences: sentences on items and protocols that are not equal.
        notes: on evaluations that are left out, broken or old.
    """

    rows: dict[str, tuple[Row, RowResults]] = field(default_factory=dict)
    baselines: list[tuple[Row, RowResults]] = field(default_factory=list)
    items: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def frozen_embeddings(groups: Mapping[str, Sequence[FineTuned]], skipped: str) -> Frozen:
    """Read the evaluations of the runs that fine-tuned ones come from.

    Only those of the very weights that were fine-tuned count. Where one pretraining was fine-tuned in several ways, its
    numbers stand in the first row, and the others say so.

    Args:
        groups: the runs of each row, by its label.
        skipped: the name of the suite that holds the scores of fine-tuning.
    """
    found = Frozen()
    owners: dict[str, str] = {}
    pretrained: dict[str, dict[str, ComparedRun]] = {}
    published: dict[Path, dict[str, ComparedRun]] = {}
    for label, members in groups.items():
        for one in members:
            owner = owners.setdefault(one.start, label)
            evaluated = one.pretraining
            if evaluated is None and one.published is not None:
                folder = one.run.folder.parent
                if folder not in published:
                    published[folder] = _published(folder, found.notes)
                evaluated = published[folder].get(f"pretrained:{one.published}")
            if evaluated is not None:
                pretrained.setdefault(owner, {})[one.weights] = evaluated
    records = [run.record.get("suites", {}) for runs in pretrained.values() for run in runs.values()]
    for suite in dict.fromkeys(suite for suites in records for suite in suites if suite != skipped):
        _add(found, suite, pretrained)
    for label, members in groups.items():
        owner = owners[members[0].start]
        if owner != label and owner in found.rows:
            keys = {key.rpartition("/")[0] for key in found.rows[owner][0].scores}
            same = dict.fromkeys(sorted(keys), f"as for {owner}, which is the same pretraining")
            found.rows[label] = (Row(label, (), False, {}, missing=same), RowResults([], varies=True))
    return found


def _published(folder: Path, notes: list[str]) -> dict[str, ComparedRun]:
    """The evaluated published models in a folder of runs by `pretrained:NAME`; broken ones are named in the notes."""
    found: dict[str, ComparedRun] = {}
    for path in sorted(folder.glob("pretrained-*/evaluation.json")):
        try:
            model = read_run(path.parent)
        except UserError as error:
            notes.append(f"{path.parent.name} is left out: {error}.")
            continue
        checkpoint = model.record.get("checkpoint")
        if isinstance(checkpoint, dict):
            found.setdefault(str(checkpoint.get("file")), model)
    return found


def _add(found: Frozen, suite: str, pretrained: Mapping[str, Mapping[str, ComparedRun]]) -> None:
    """Add the numbers on one suite."""
    chosen: dict[str, list[ComparedRun]] = {}
    read: list[SuiteResult] = []
    for label, by_weights in pretrained.items():
        for weights, run in by_weights.items():
            entry: Any = run.record.get("suites", {}).get(suite)
            if not isinstance(entry, dict):
                continue
            checkpoint = entry.get("checkpoint") or {}
            if run.config and checkpoint.get("digest") != weights:
                found.notes.append(
                    f"The evaluation of {run.name} on {suite} is left out, because another checkpoint was fine-tuned: "
                    "evaluate it again."
                )
                continue
            try:
                read.append(read_results(run, suite))
            except UserError as error:
                found.notes.append(f"The evaluation of {run.name} on {suite} is left out: {error}.")
                continue
            chosen.setdefault(label, []).append(run)
    runs = [run for several in chosen.values() for run in several]
    results = apart(_frozen_alone(suite, read), [run.text.get("train", "") for run in runs])
    if not any(result.evaluators for result in results):
        return
    evaluated = dict(zip([run.folder for run in runs], results, strict=True))
    rows = []
    for label, several in chosen.items():
        seeds = [evaluated[run.folder] for run in several]
        given = RowResults([placed(suite, seed.evaluators) for seed in seeds], varies=True)
        missing = {f"{suite}/{name}": reason for seed in seeds for name, reason in seed.missing.items()}
        row = row_of(label, several, False, given.results, missing=missing, items=items(suite, seeds))
        rows.append(row)
        found.rows[label] = joined(found.rows[label], (row, given)) if label in found.rows else (row, given)
    found.baselines = together([*found.baselines, *baselines(suite, rows, evaluated)])
    found.items[suite] = " and ".join(dict.fromkeys(result.data[:SHORT] for result in results))
    found.notes += items_lost(runs, suite)
    found.differences += known_words(rows) + cut_texts(rows, REMEDY) + item_sentences(rows, evaluated)
    if (protocol := max(result.protocol for result in results)) < PROTOCOL:
        found.notes.append(
            f"The frozen embeddings on {suite} were evaluated by protocol {protocol}, and this version has protocol "
            f"{PROTOCOL}: evaluate the pretrained runs again for numbers that can be compared with new ones."
        )


def _frozen_alone(suite: str, results: Sequence[SuiteResult]) -> list[SuiteResult]:
    """The results without those of other groups of columns, such as language modelling."""

    def of_group(name: str, result: Result) -> bool:
        return columns(suite, name, result)[0].group == FROZEN

    names = {name for result in results for name, one in result.evaluators.items() if of_group(name, one)}
    return [
        replace(
            result,
            evaluators={name: one for name, one in result.evaluators.items() if name in names},
            baselines={
                baseline: {name: one for name, one in several.items() if name in names}
                for baseline, several in result.baselines.items()
            },
            missing={name: reason for name, reason in result.missing.items() if name in names},
            digests={name: digest for name, digest in result.digests.items() if name in names},
        )
        for result in results
    ]


def joined(one: tuple[Row, RowResults], other: tuple[Row, RowResults]) -> tuple[Row, RowResults]:
    """A row with the numbers of another one in its empty columns."""
    (row, given), (more, beside) = one, other
    results, trainings = [*given.results, *beside.results], given.trainings | beside.trainings
    return merged(row, more), replace(given, results=results, trainings=trainings, tuned={*given.tuned, *beside.tuned})


def together(rows: Sequence[tuple[Row, RowResults]]) -> list[tuple[Row, RowResults]]:
    """Rows of the same label as one."""
    found: dict[str, tuple[Row, RowResults]] = {}
    for row, given in rows:
        found[row.label] = joined(found[row.label], (row, given)) if row.label in found else (row, given)
    return list(found.values())
