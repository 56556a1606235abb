"""The table with and without the items that stand in training text.

The scores and verdicts of the table include all items. A note gives the scores that change, baselines included, without
the items that the training text of any row covers, and the marks that change with them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ssl_nlp.comparison.columns import BOUND
from ssl_nlp.comparison.table import signs
from ssl_nlp.comparison.types import Column, Row
from ssl_nlp.comparison.verdicts import RowResults, with_verdicts
from ssl_nlp.evaluation import Result
from ssl_nlp.evaluation.result import OVERLAP_WITH, Array, statistic_of


def judged(
    columns: Sequence[Column], methods: Sequence[tuple[Row, RowResults]], baselines: Sequence[tuple[Row, RowResults]]
) -> tuple[list[Row], list[str]]:
    """All rows with their verdicts and their scores without covered items, and sentences on these scores."""
    covered = _covered([given for _, given in [*methods, *baselines]])
    methods, baselines = ([(_added(*pair, covered), pair[1]) for pair in pairs] for pairs in (methods, baselines))
    rows = with_verdicts(columns, methods, baselines)
    if not covered:
        return rows, []
    others = with_verdicts(columns, _without(methods, covered), _without(baselines, covered))
    given = [its for _, its in [*methods, *baselines]]
    marks = {
        (row.label, column.key): (signs(row, column), signs(other, column))
        for row, other in zip(rows, others, strict=True)
        for column in columns
    }
    said = [
        f"{column.title} without the {covered[place].mean():.1%} of its items of which training text covers every word: "
        f"{_scores(rows, column)}.{_read(rows, given, place)}{_changed(marks, rows, column)}"
        for column in columns
        if (place := column.key.rpartition("/")[0]) in covered and any(column.key in row.covered for row in rows)
    ]
    return rows, said


def _covered(given: Sequence[RowResults]) -> dict[str, Array]:
    """(N,) whether the training text of any row covers each item, by SUITE/EVALUATOR, where that is so of one item."""
    found: dict[str, Array] = {}
    for results in (results for its in given for results in its.results):
        for place, result in results.items():
            if result.overlap is not None:
                its = result.overlap == 1
                before = found.setdefault(place, its)
                if len(before) == len(its):
                    found[place] = before | its
    return {place: items for place, items in found.items() if items.any()}


def _fits(result: Result, covered: Array | None) -> bool:
    return covered is not None and result.items is not None and len(result.items) == len(covered)


def _added(row: Row, given: RowResults, covered: Mapping[str, Array]) -> Row:
    """A row with the share of covered items, and its scores without these, by the key of the column."""
    shares: dict[str, float] = {}
    scores: dict[str, list[float]] = {}
    for results in given.results:
        for place, result in results.items():
            if _fits(result, items := covered.get(place)):
                assert items is not None and result.items is not None
                shares[key := f"{place}/{result.primary_metric}"] = float(items.mean())
                if not items.all():
                    scores.setdefault(key, []).append(statistic_of(result.items[~items], result.statistic))
    return replace(row, covered=shares, uncovered={key: float(np.mean(several)) for key, several in scores.items()})


def _without(pairs: Sequence[tuple[Row, RowResults]], covered: Mapping[str, Array]) -> list[tuple[Row, RowResults]]:
    """Rows with results on the other items alone; what has none keeps its own."""
    return [
        (
            row,
            replace(
                given, results=[{k: _others(r, covered.get(k)) for k, r in seed.items()} for seed in given.results]
            ),
        )
        for row, given in pairs
    ]


def _others(result: Result, covered: Array | None) -> Result:
    if covered is None or not _fits(result, covered) or covered.all():
        return result
    assert result.items is not None
    items, groups = result.items[~covered], None if result.groups is None else result.groups[~covered]
    own = (result.primary_metric, f"{result.primary_metric}{BOUND}")  # an exact likelihood also serves as a bound
    score = statistic_of(items, result.statistic)
    metrics = {name: score if name in own else value for name, value in result.metrics.items()}
    return replace(result, metrics=metrics, items=items, groups=groups, overlap=None)


def _scores(rows: Sequence[Row], column: Column) -> str:
    """The scores that are others without the covered items."""
    key = column.key
    numbers = {row.label: (row.uncovered[key], row.scores[key].mean) for row in rows if key in row.uncovered}
    shown = {label: tuple(f"{number:.3f}" for number in pair) for label, pair in numbers.items()}
    changed = [f"{label} {without} instead of {whole}" for label, (without, whole) in shown.items() if without != whole]
    if not numbers:
        return "none is left"
    return ", ".join([*changed, *(["the others stay as they are"] if len(changed) < len(numbers) else [])])


def _read(rows: Sequence[Row], given: Sequence[RowResults], place: str) -> str:
    """Which part of its training text the overlap of a row was measured on, if not all of it."""
    parts: dict[str, list[str]] = {}
    for row, its in zip(rows, given, strict=True):
        found = {results[place].details.get(OVERLAP_WITH) for results in its.results if place in results}
        for part in () if row.baseline else sorted(filter(None, found)):
            parts.setdefault(part, []).append(row.label)
    return "".join(
        f" Of the training text of {', '.join(labels)}, only the {part} were read." for part, labels in parts.items()
    )


def _changed(marks: Mapping[tuple[str, str], tuple[str, str]], rows: Sequence[Row], column: Column) -> str:
    """The marks that are others without the covered items."""
    found = {row.label: marks[row.label, column.key] for row in rows}
    changed = [
        f"{label} {after or 'none'} instead of {before or 'none'}"
        for label, (before, after) in found.items()
        if after != before
    ]
    return f" Marks that would be others: {', '.join(changed)}." if changed else ""
