"""How a table changes without the test items that training text contains.

Its scores and verdicts include all items. For each column that has such items, a note names the scores and the marks that
change without them. All rows leave out the same ones: those that the training text of any row covers completely.
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

Measured = tuple[Row, RowResults]


def judged(
    columns: Sequence[Column], methods: Sequence[Measured], baselines: Sequence[Measured]
) -> tuple[list[Row], list[str]]:
    """All rows, with verdicts and with scores without covered items; and a note on each column that has covered items."""
    covered = _covered_items([given for _, given in [*methods, *baselines]])
    methods, baselines = ([_with_uncovered(*pair, covered) for pair in pairs] for pairs in (methods, baselines))
    rows = with_verdicts(columns, methods, baselines)
    if not covered:
        return rows, []
    others = with_verdicts(columns, _without(methods, covered), _without(baselines, covered))
    given = [its for _, its in [*methods, *baselines]]
    notes = [
        f"{column.title} without the {covered[place].mean():.1%} of its items that training text covers completely: "
        f"{_changed_scores(rows, column)}.{_partly_read(rows, given, place)}{_changed_marks(rows, others, column)}"
        for column in columns
        if (place := column.key.rpartition("/")[0]) in covered and any(column.key in row.covered for row in rows)
    ]
    return rows, notes


def _covered_items(given: Sequence[RowResults]) -> dict[str, Array]:
    """(N,) whether the training text of any row covers each item, by SUITE/EVALUATOR; only where it covers some."""
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


def _with_uncovered(row: Row, given: RowResults, covered: Mapping[str, Array]) -> Measured:
    """A row with the share of its items that is covered and its score on the others, by the key of the column."""
    shares: dict[str, float] = {}
    scores: dict[str, list[float]] = {}
    for results in given.results:
        for place, result in results.items():
            if _fits(result, items := covered.get(place)):
                assert items is not None and result.items is not None
                shares[key := f"{place}/{result.primary_metric}"] = float(items.mean())
                if not items.all():
                    scores.setdefault(key, []).append(statistic_of(result.items[~items], result.statistic))
    means = {key: float(np.mean(of_seeds)) for key, of_seeds in scores.items()}
    return replace(row, covered=shares, uncovered=means), given


def _without(pairs: Sequence[Measured], covered: Mapping[str, Array]) -> list[Measured]:
    """Rows with results on uncovered items only; a result that has none is left as it is."""

    def without(results: Mapping[str, Result]) -> dict[str, Result]:
        return {place: _uncovered(result, covered.get(place)) for place, result in results.items()}

    return [(row, replace(given, results=[*map(without, given.results)])) for row, given in pairs]


def _uncovered(result: Result, covered: Array | None) -> Result:
    if covered is None or not _fits(result, covered) or covered.all():
        return result
    assert result.items is not None
    items, groups = result.items[~covered], None if result.groups is None else result.groups[~covered]
    own = (result.primary_metric, f"{result.primary_metric}{BOUND}")  # an exact likelihood also serves as a bound
    score = statistic_of(items, result.statistic)
    metrics = {name: score if name in own else value for name, value in result.metrics.items()}
    return replace(result, metrics=metrics, items=items, groups=groups, overlap=None)


def _changed_scores(rows: Sequence[Row], column: Column) -> str:
    """The scores that differ, as they are shown, without the covered items."""
    key = column.key
    numbers = {row.label: (row.uncovered[key], row.scores[key].mean) for row in rows if key in row.uncovered}
    shown = {label: tuple(f"{number:.3f}" for number in pair) for label, pair in numbers.items()}
    changed = [f"{label} {without} instead of {whole}" for label, (without, whole) in shown.items() if without != whole]
    if not numbers:
        return "no items are left"
    if not changed:
        return "no score changes"
    return ", ".join(changed) + ("; the other scores stay the same" if len(changed) < len(numbers) else "")


def _changed_marks(rows: Sequence[Row], others: Sequence[Row], column: Column) -> str:
    """The marks that differ between `rows` and `others`, the same rows without covered items."""
    changed = [
        f"{row.label} {after or 'none'} instead of {before or 'none'}"
        for row, other in zip(rows, others, strict=True)
        if (after := signs(other, column)) != (before := signs(row, column))
    ]
    return f" Marks that change: {', '.join(changed)}." if changed else ""


def _partly_read(rows: Sequence[Row], given: Sequence[RowResults], place: str) -> str:
    """Which part of the training text was searched for items, where it was not all."""
    parts: dict[str, list[str]] = {}
    for row, its in zip(rows, given, strict=True):
        found = {results[place].details.get(OVERLAP_WITH) for results in its.results if place in results}
        for part in () if row.baseline else sorted(filter(None, found)):
            parts.setdefault(part, []).append(row.label)
    return "".join(
        f" Of the training text of {', '.join(labels)}, only the {part} were read." for part, labels in parts.items()
    )
