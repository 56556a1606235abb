"""Fine-tuned runs in one comparison: a row for each pretraining, a column for each task.

A row is what the encoders of its runs come from, and what differs in how these were fine-tuned, such as a frozen encoder
beside a trained one. Seeds belong to the fine-tuning. Where the pretraining of any row has several seeds, the mean of
the runs from each pretraining counts as one: runs that start from the same weights say less about another pretraining than
their number suggests. Encoders without ancestry, trained on the task alone, are baselines.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssl_nlp.comparison import configuration as configurations
from ssl_nlp.comparison.assemble import choose, estimates, items, ordered, primaries, read_results, scores
from ssl_nlp.comparison.characters import cut_texts
from ssl_nlp.comparison.columns import FINE_TUNED, METRICS, titled
from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.fine_tuned import FineTuned
from ssl_nlp.comparison.items import apart, without_items
from ssl_nlp.comparison.statistics import contributions
from ssl_nlp.comparison.types import Column, Comparison, Row
from ssl_nlp.comparison.verdicts import RowResults, assumptions, with_verdicts
from ssl_nlp.corpora.digests import SHORT
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import PROTOCOL, Result

SUITE = "tasks"
TASKS = "task"
"""Key of the details of a result: `split` that it is on, and whether `higher` is better."""
BASELINES = {"tfidf": "TF-IDF", "majority_tag": "majority tag per word"}


def compare_tasks(runs: Sequence[ComparedRun]) -> Comparison:
    """Compare fine-tuned runs that were scored.

    Args:
        runs: in any order, with `evaluation.json`.

    Raises:
        UserError: no run is finished, or a run has no scores, or broken ones.
    """
    notes, chosen = choose(runs)
    results = apart([read_results(run, SUITE) for run in chosen])
    tuned = [FineTuned(run, found) for run, found in zip(chosen, results, strict=True)]
    groups = _rows(tuned)
    labels = _labels(groups)
    repeated = {task for members in groups.values() for task in _repeated(members)}
    rows: list[tuple[Row, RowResults]] = []
    for label, members in zip(labels, groups.values(), strict=True):
        given = _by_weights(members, repeated)
        rows.append((_row(label, members, given), given))
    methods = [pair for pair in rows if not pair[0].baseline]
    if not methods:
        methods, rows = [(replace(row, baseline=False), given) for row, given in rows], []
    baselines = [pair for pair in rows if pair[0].baseline] + _baselines(tuned)
    columns = _columns([given for _, given in [*methods, *baselines]])
    if not columns:
        reasons = "; ".join(f"{one.run.name}: {next(iter(one.results.missing.values()))}" for one in tuned)
        raise UserError(f"no run has a score ({reasons})")
    notes += assumptions(methods, baselines, "ssl-nlp compare --task TASK --seeds 3 RUN...")
    notes += _notes(tuned, columns)
    pretrained = {
        label: [members[0].pretraining or members[0].run]
        for label, members in zip(labels, groups.values(), strict=True)
    }
    notes += configurations.unknown_text(pretrained)
    configuration = _configuration(labels, list(groups.values()))
    differences = _differences(labels, list(groups.values()), [row for row, _ in methods])
    return Comparison(
        SUITE,
        PROTOCOL,
        columns,
        ordered(with_verdicts(columns, methods, baselines), columns),
        differences,
        configuration,
        notes,
        fine_tuned=True,
        items=_items(tuned),
    )


# ------------------------------------------------------------------------------------------------------------------ rows


def _rows(tuned: Sequence[FineTuned]) -> dict[str, list[FineTuned]]:
    """Runs by row: the same start and, where one start was fine-tuned in several ways on a task, the same way."""
    together: dict[tuple[str, str], list[FineTuned]] = {}
    for one in tuned:
        together.setdefault((one.start, without_items(one.task)), []).append(one)
    rows: dict[str, list[FineTuned]] = {}
    for (start, _), members in together.items():
        varied = configurations.difference([one.settings for one in members])
        for one in members:
            way = {key: one.settings.get(key, "–") for key in varied}
            rows.setdefault(json.dumps([start, way], sort_keys=True), []).append(one)
    return {key: sorted(members, key=lambda one: (one.task, one.run.seed or 0)) for key, members in rows.items()}


def _labels(groups: Mapping[str, Sequence[FineTuned]]) -> list[str]:
    names = [members[0].name for members in groups.values()]
    chosen = [members[0].origin | json.loads(key)[1] for key, members in groups.items()]
    unique = [members[0].run.name for members in groups.values()]
    return configurations.told_apart(names, chosen, unique)


def _repeated(members: Sequence[FineTuned]) -> set[str]:
    """Tasks on which a row has several pretrainings."""
    if not members[0].run.ancestry:
        return set()
    starts = {(one.task, one.weights) for one in members}
    tasks = [task for task, _ in starts]
    return {task for task in tasks if tasks.count(task) > 1}


def _by_weights(members: Sequence[FineTuned], repeated: Collection[str]) -> RowResults:
    """The results of a row: one for each seed or, where weights differ, the means of those from the same weights.

    On a task on which any row has several pretrainings, each pretraining counts once in all rows, because the seeds of
    fine-tuning alone vary less. Published models keep their seeds: nobody else's pretraining is meant.

    Args:
        members: the runs of the row.
        repeated: tasks on which a row has several pretrainings.
    """
    results: list[dict[str, Result]] = []
    for task in dict.fromkeys(one.task for one in members):
        by_weights: dict[str, list[FineTuned]] = {}
        for one in members:
            if one.task == task and task in one.results.evaluators:
                by_weights.setdefault(one.weights, []).append(one)
        ours = bool(members[0].run.ancestry) and members[0].run.ancestry[-1]["digest"] is not None
        several = len(by_weights) > 1 or (ours and task in repeated)
        for same in by_weights.values():
            found = [one.results.evaluators[task] for one in same]
            results += [{task: result} for result in ([_mean(found)] if several else found)]
    return RowResults(results, varies=True)


def _mean(results: Sequence[Result]) -> Result:
    """The mean of several results on the same items.

    Where a score is not a mean of items, such as an F1, each item stands for the score and how much the item moves it: the
    mean of these is the score, and their variance that of the score over items.
    """
    first = results[0]
    metrics = {name: float(np.mean([result.metrics[name] for result in results])) for name in first.metrics}
    items = [
        result.items if result.statistic == "mean" else result.primary + contributions(result.items, result.statistic)
        for result in results
        if result.items is not None
    ]
    whole = len(items) == len(results) and len({len(one) for one in items}) == 1
    return replace(first, metrics=metrics, items=np.mean(items, axis=0) if whole else None, statistic="mean")


def _row(label: str, members: Sequence[FineTuned], given: RowResults) -> Row:
    missing = {f"{SUITE}/{name}": reason for one in members for name, reason in one.results.missing.items()}
    return Row(
        label,
        tuple(one.run for one in members),
        not members[0].run.ancestry,
        scores(SUITE, given.results),
        items=items(SUITE, [one.results for one in members]),
        cost=estimates([one.run.record.get("cost", {}) for one in members]),
        missing={key: reason for key, reason in missing.items() if not key.endswith("/baseline")},
        read=primaries(SUITE, given.results, lambda result: result.read),
    )


def _baseline_of(one: FineTuned) -> str:
    """The key of the reason why there is no baseline."""
    return f"{without_items(one.task)}/baseline"


def _baselines(tuned: Sequence[FineTuned]) -> list[tuple[Row, RowResults]]:
    """A row for each kind of baseline that needs no encoder: that of the run which reads the most of the texts."""
    found: dict[str, dict[str, FineTuned]] = {}
    for one in sorted(tuned, key=lambda one: -one.read):
        for name in one.results.baselines:
            found.setdefault(name, {}).setdefault(one.task, one)
    rows = []
    for name, by_task in found.items():
        results = [{task: one.results.baselines[name][task]} for task, one in by_task.items()]
        given = RowResults(results, varies=False)
        runs = tuple(one.run for one in by_task.values())
        missing = {
            f"{SUITE}/{one.task}": one.results.missing[_baseline_of(one)]
            for one in tuned
            if _baseline_of(one) in one.results.missing
        }
        label = BASELINES.get(name, name)
        rows.append((Row(label, runs, True, scores(SUITE, results), missing=missing), given))
    return rows


# --------------------------------------------------------------------------------------------------------------- columns


def _columns(rows: Sequence[RowResults]) -> list[Column]:
    found: dict[str, Column] = {}
    for given in rows:
        for results in given.results:
            for name, result in results.items():
                key = f"{SUITE}/{name}/{result.primary_metric}"
                found.setdefault(key, _column(key, result.details.get(TASKS, {})))
    titles = [column.title for column in found.values()]
    return [
        replace(column, title=f"{column.title} ({_kind(column.key)})") if titles.count(column.title) > 1 else column
        for column in found.values()
    ]


def _column(key: str, about: Mapping[str, Any]) -> Column:
    name, metric = key.rsplit("/", 2)[1:]
    title = f"{data_of(name)} {METRICS.get(metric, metric.replace('_', ' '))}"
    valid = " (valid)" if about.get("split") == "valid" else ""
    return Column(key, titled(title + valid, name), bool(about.get("higher", True)), group=FINE_TUNED)


def _kind(key: str) -> str:
    return without_items(key.rsplit("/", 2)[1]).rpartition(".")[2].replace("_", " ")


def data_of(task: str) -> str:
    """The name of the data of DATA.TASK."""
    return without_items(task).rpartition(".")[0]


def _notes(tuned: Sequence[FineTuned], columns: Sequence[Column]) -> list[str]:
    notes = [
        f"{column.title}: the task has no test split, so that its scores are on the validation split, on which the "
        "checkpoint was chosen, too."
        for column in columns
        if "(valid)" in column.title
    ]
    reasons = {
        f"No TF-IDF for {data_of(one.task)}: {one.results.missing[_baseline_of(one)]}."
        for one in tuned
        if _baseline_of(one) in one.results.missing
    }
    return [*dict.fromkeys(notes), *sorted(reasons)]


def _items(tuned: Sequence[FineTuned]) -> dict[str, str]:
    """The beginning of the digest of the test data, by the name of the data."""
    found: dict[str, dict[str, None]] = {}
    for one in tuned:
        found.setdefault(data_of(one.task), {})[one.results.data[:SHORT]] = None
    return {name: " and ".join(digests) for name, digests in found.items()}


# ----------------------------------------------------------------------------------------------------------- differences


def _configuration(labels: Sequence[str], groups: Sequence[Sequence[FineTuned]]) -> dict[str, dict[str, str]]:
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


def _differences(labels: Sequence[str], groups: Sequence[Sequence[FineTuned]], methods: Sequence[Row]) -> list[str]:
    said = []
    for task, of_rows in _by_task(labels, groups).items():
        name = data_of(task)
        differing = configurations.difference([one.settings for one in of_rows.values()])
        parts = [
            f"{key} is {configurations.spoken(dict(zip(of_rows, values, strict=True)))}"
            for key, values in list(differing.items())[: configurations.SHOWN]
        ]
        more = len(differing) - len(parts)
        parts += [f"{more} more keys differ"] if more > 0 else []
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
    said += cut_texts(methods, "raise data.length")
    known = {
        label: members[0].origin
        for label, members in zip(labels, groups, strict=True)
        if members[0].pretraining is not None
    }
    differing = configurations.difference(list(known.values()))
    said += [
        f"Pretraining: {line[0].lower()}{line[1:]}"
        for line in configurations.sentences({k: dict(zip(known, v, strict=True)) for k, v in differing.items()})
    ]
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
    tokens = {row.label: row.cost["tokens"].mean for row in methods if "tokens" in row.cost}
    if tokens and max(tokens.values()) > min(tokens.values()) * (1 + configurations.TOLERANCE):
        shown = {label: f"{value:,.0f}" for label, value in tokens.items()}
        said.append(f"The tokens seen in pretraining and fine-tuning differ: {configurations.spoken(shown)}.")
    return said
