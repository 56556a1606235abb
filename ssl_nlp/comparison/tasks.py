"""Fine-tuned runs in one comparison: a row for each pretraining, a column for each task.

A row is what the encoders of its runs come from, and what differs in how these were fine-tuned, such as a frozen encoder
beside a trained one. Where the pretrained runs were evaluated, the scores of their frozen embeddings stand in the same
row. Seeds belong to the fine-tuning. Where the pretraining of any row has several seeds, the mean of
the runs from each pretraining counts as one: runs that start from the same weights say less about another pretraining than
their number suggests. Encoders without ancestry, trained on the task alone, are baselines.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssl_nlp.comparison import configuration as configurations
from ssl_nlp.comparison.assemble import choose, estimates, items, ordered, placed, read_results, row_of
from ssl_nlp.comparison.columns import FINE_TUNED, GROUPS, METRICS, columns, titled
from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.contributions import contributions
from ssl_nlp.comparison.covered import judged
from ssl_nlp.comparison.fine_tuned import FineTuned, data_of, sharing_text
from ssl_nlp.comparison.frozen import frozen_embeddings, joined, together
from ssl_nlp.comparison.item_notes import probe_doubts
from ssl_nlp.comparison.items import apart, without_items
from ssl_nlp.comparison.task_differences import cut_alike, not_equal, settings_that_differ
from ssl_nlp.comparison.types import Column, Comparison, Row
from ssl_nlp.comparison.verdicts import RowResults, assumptions
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
    tuned = sharing_text([FineTuned(run, found) for run, found in zip(chosen, results, strict=True)])
    groups = _rows(tuned)
    labels = _labels(groups)
    repeated = {task for members in groups.values() for task in _repeated(members)}
    rows: list[tuple[Row, RowResults]] = []
    for label, members in zip(labels, groups.values(), strict=True):
        given = _by_weights(members, repeated)
        rows.append((_row(label, members, given), given))
    alone = [row for row, _ in rows if not row.baseline] or [row for row, _ in rows]
    frozen = frozen_embeddings(dict(zip(labels, groups.values(), strict=True)), SUITE)
    rows = [joined(pair, frozen.rows[pair[0].label]) if pair[0].label in frozen.rows else pair for pair in rows]
    methods = [pair for pair in rows if not pair[0].baseline]
    if not methods:
        methods, rows = [(replace(row, baseline=False), given) for row, given in rows], []
    baselines = together([*(pair for pair in rows if pair[0].baseline), *_baselines(tuned), *frozen.baselines])
    columns = _columns([given for _, given in [*methods, *baselines]])
    if not any(column.group == FINE_TUNED for column in columns):
        reasons = "; ".join(f"{one.run.name}: {next(iter(one.results.missing.values()))}" for one in tuned)
        raise UserError(f"no run has a score ({reasons})")
    notes += frozen.notes
    for tuning, place, remedy in (
        (True, "", "ssl-nlp compare --task TASK --seeds 3 RUN..."),
        (False, "Frozen embeddings: ", "ssl-nlp compare --seeds 3 CONFIG... and fine-tune them all"),
    ):
        notes += [place + note for note in assumptions(_only(methods, tuning), _only(baselines, tuning), remedy)]
    found, said = judged(columns, methods, baselines)
    notes += said
    notes += probe_doubts([*methods, *baselines], columns)
    notes += _notes(tuned, columns) + cut_alike(alone)
    origins = dict(zip(labels, map(_pretrainings, groups.values()), strict=True))
    notes += configurations.unknown_text({label: runs for label, runs in origins.items() if runs})
    configuration = settings_that_differ(labels, list(groups.values()))
    differences = not_equal(labels, list(groups.values()), alone)
    return Comparison(
        SUITE,
        PROTOCOL,
        columns,
        ordered(found, columns),
        differences + frozen.differences,
        configuration,
        notes,
        fine_tuned=True,
        items=_items(tuned) | frozen.items,
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


def _pretrainings(members: Sequence[FineTuned]) -> list[ComparedRun]:
    """The runs that the encoders of a row come from, each once, as far as they are there."""
    found = (one.pretraining for one in members)
    return list({run.folder: run for run in found if run is not None}.values())


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
    fine-tuning alone vary less. Published models keep their seeds: nobody else's pretraining is meant. So do untrained
    encoders. These seeds say nothing of how pretrainings vary.

    Args:
        members: the runs of the row.
        repeated: tasks on which a row has several pretrainings.
    """
    results: list[dict[str, Result]] = []
    tasks = list(dict.fromkeys(one.task for one in members))
    ours = bool(members[0].run.ancestry) and members[0].run.ancestry[-1]["digest"] is not None
    for task in tasks:
        by_weights: dict[str, list[FineTuned]] = {}
        for one in members:
            if one.task == task and task in one.results.evaluators:
                by_weights.setdefault(one.weights, []).append(one)
        several = len(by_weights) > 1 or (ours and task in repeated)
        for same in by_weights.values():
            found = [one.results.evaluators[task] for one in same]
            results += [placed(SUITE, {task: result}) for result in ([_mean(found)] if several else found)]
    tuned = [] if ours else [f"{SUITE}/{task}" for task in tasks if task in repeated]
    return RowResults(results, varies=True, trainings=_pretrainings_that_vary(members), tuned=tuned)


def _pretrainings_that_vary(members: Sequence[FineTuned]) -> frozenset[str]:
    """The names and digests of the pretrainings of a row, if there are several, by which rows that share them are known."""
    last = [one.run.ancestry[-1] for one in members if one.run.ancestry]
    each = {(one["run"], one["digest"]) for one in last if one["digest"] is not None}
    return frozenset(name for names in each for name in names if name is not None) if len(each) > 1 else frozenset()


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
    groups = next((result.groups for result in results if result.groups is not None), None)
    return replace(
        first, metrics=metrics, items=np.mean(items, axis=0) if whole else None, statistic="mean", groups=groups
    )


def _row(label: str, members: Sequence[FineTuned], given: RowResults) -> Row:
    missing = {f"{SUITE}/{name}": reason for one in members for name, reason in one.results.missing.items()}
    return row_of(
        label,
        [one.run for one in members],
        not members[0].run.ancestry,
        given.results,
        items=items(SUITE, [one.results for one in members]),
        cost=estimates([one.run.record.get("cost", {}) for one in members]),
        missing={key: reason for key, reason in missing.items() if not key.endswith("/baseline")},
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
        results = [placed(SUITE, {task: one.results.baselines[name][task]}) for task, one in by_task.items()]
        given = RowResults(results, varies=False)
        runs = [one.run for one in by_task.values()]
        missing = {
            f"{SUITE}/{one.task}": one.results.missing[_baseline_of(one)]
            for one in tuned
            if _baseline_of(one) in one.results.missing
        }
        label = BASELINES.get(name, name)
        rows.append((row_of(label, runs, True, results, missing=missing), given))
    return rows


def _only(rows: Sequence[tuple[Row, RowResults]], tuned: bool) -> list[tuple[Row, RowResults]]:
    """The rows with their scores after fine-tuning alone, or with the other ones alone; without those that have none."""
    found = [
        (replace(row, scores={key: v for key, v in row.scores.items() if key.startswith(f"{SUITE}/") == tuned}), given)
        for row, given in rows
    ]
    return [(row, given) for row, given in found if row.scores]


# --------------------------------------------------------------------------------------------------------------- columns


def _columns(rows: Sequence[RowResults]) -> list[Column]:
    """The tasks, then frozen embeddings. What titles share is told apart by the task or the suite."""
    found: dict[str, Column] = {}
    for given in rows:
        for results in given.results:
            for place, result in results.items():
                suite, name = place.split("/", 1)
                key = f"{place}/{result.primary_metric}"
                new = [_column(key, result.details.get(TASKS, {}))] if suite == SUITE else columns(suite, name, result)
                for column in new:
                    found.setdefault(column.key, column)
    titles = [column.title for column in found.values()]
    several = [
        replace(column, title=f"{column.title} ({_kind(column.key)})") if titles.count(column.title) > 1 else column
        for column in found.values()
    ]
    suites = [column.key.partition("/")[0] for column in several]
    return sorted(several, key=lambda one: (GROUPS.index(one.group), suites.index(one.key.partition("/")[0])))


def _column(key: str, about: Mapping[str, Any]) -> Column:
    name, metric = key.rsplit("/", 2)[1:]
    title = f"{data_of(name)} {METRICS.get(metric, metric.replace('_', ' '))}"
    valid = " (valid)" if about.get("split") == "valid" else ""
    return Column(key, titled(title + valid, name), bool(about.get("higher", True)), group=FINE_TUNED)


def _kind(key: str) -> str:
    """The task of a column, or the suite of frozen embeddings."""
    if not key.startswith(f"{SUITE}/"):
        return key.partition("/")[0]
    return without_items(key.rsplit("/", 2)[1]).rpartition(".")[2].replace("_", " ")


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
