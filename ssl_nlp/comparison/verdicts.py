"""Tests of each row against the other methods and the best baseline of each column.

The best row of a column is chosen by its score, so every pair that might have been compared counts: the intervals of a
column hold at once for all pairs of methods, and for all pairs of a method and a baseline (Bonferroni). For claims about
several columns, Holm's method corrects for the same pairs in all columns of the table.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from ssl_nlp.comparison.columns import BOUND
from ssl_nlp.comparison.statistics import ASSUMED, Differences, Sample, holm
from ssl_nlp.comparison.types import ALPHA, Column, Row, Verdict
from ssl_nlp.evaluation import Result

ONE_SEED = (
    "There is one seed of each method, so the variation between seeds is unknown. Verdicts assume that seeds move a score "
    f"at most {ASSUMED:.0f} times as much as the choice of test items does. If it is twice as much as that, a third of the "
    "columns or more hold a false claim; the report says for each claim how much seeds may vary."
)


@dataclass(frozen=True)
class RowResults:
    """Evaluation results of a row.

    Attributes:
        results: for each seed, by SUITE/EVALUATOR. Rows with results of one were tested on the same items (`items.apart`).
        varies: whether another seed would give other results, as in `Sample`.
        trainings: names of trainings that differ between its seeds, which other rows may share, as in `Sample`.
        tuned: those keys of `results` for which its seeds are fine-tunings or draws of a baseline, though seeds of
            other rows are pretrainings.
    """

    results: Sequence[Mapping[str, Result]]
    varies: bool
    trainings: frozenset[str] = frozenset()
    tuned: Collection[str] = ()

    def sample(self, column: Column) -> Sample | None:
        """Scores in one column; None if there are none."""
        key, _, metric = column.key.rpartition("/")
        found = [results[key] for results in self.results if key in results and metric in results[key].metrics]
        if not found:
            return None
        # Items belong to the primary metric. An exact likelihood also serves as a bound, with the same items.
        own = {metric, metric.removesuffix(BOUND)}
        items = [result.items for result in found if result.items is not None and result.primary_metric in own]
        whole = len(items) == len(found) and len({len(given) for given in items}) == 1
        scores = np.array([result.metrics[metric] for result in found])
        given = tuple(items) if whole else None
        groups = next((result.groups for result in found if result.groups is not None), None)
        return Sample(
            scores,
            given,
            found[0].statistic,
            self.varies,
            self.trainings,
            key not in self.tuned,
            groups if whole else None,
        )


def with_verdicts(
    columns: Sequence[Column], methods: Sequence[tuple[Row, RowResults]], baselines: Sequence[tuple[Row, RowResults]]
) -> list[Row]:
    """Return all rows with their verdicts."""
    rows = [row for row, _ in [*methods, *baselines]]
    results = [given for _, given in [*methods, *baselines]]
    of_methods, of_baselines = range(len(methods)), range(len(methods), len(rows))
    measured = {column.key: _Measured(column, results) for column in columns if column.higher_is_better is not None}
    among = _Family(measured, list(combinations(of_methods, 2)))
    against = _Family(measured, list(product(of_methods, of_baselines)))
    for key, found in measured.items():
        best = found.best(of_methods) if len(found.scored(of_methods)) > 1 else None
        if best is not None and found.comparable(best, best):
            for n in range(len(rows)):
                verdict = (among if n in of_methods else against).verdict(key, n, best)
                if verdict is not None:
                    rows[n] = replace(rows[n], ties=rows[n].ties | {key: verdict})
            for n in of_methods:
                alike = {rows[m].label for m in of_methods if among.alike(key, n, m)}
                rows[n] = replace(rows[n], alike=rows[n].alike | {key: alike})
        baseline = found.best(of_baselines)
        for n in of_methods:
            verdict = None if baseline is None else against.verdict(key, n, baseline)
            if verdict is not None:
                rows[n] = replace(rows[n], over_baseline=rows[n].over_baseline | {key: verdict})
    return rows


def beats(column: Column, verdict: Verdict) -> bool:
    """Tell whether a difference is more than chance and in the right direction."""
    return not verdict.tie and (verdict.difference > 0) == column.higher_is_better


def assumptions(
    methods: Sequence[tuple[Row, RowResults]], baselines: Sequence[tuple[Row, RowResults]], remedy: str
) -> list[str]:
    """Say what verdicts take for granted about rows with one seed, and what follows if it is not so.

    Args:
        remedy: a command that trains several seeds.
    """
    trained = [row.label for row, given in [*methods, *baselines] if not given.tuned]
    seeds = {row.label: _seeds(row) for row, given in [*methods, *baselines] if given.varies}
    single = [label for label, number in seeds.items() if number == 1]
    if not single or len(methods) + len(baselines) < 2:
        return []
    of_trained = [number for label, number in seeds.items() if label in trained]
    if all(number == 1 for number in of_trained or seeds.values()):
        return [f"{ONE_SEED} To train several seeds, use {remedy}"]
    return [
        f"{'; '.join(single)}: one seed each, assumed to vary as much as the rows with several seeds. If they vary more, "
        "more claims about them are false."
    ]


def _seeds(row: Row) -> int:
    return max((score.n for score in row.scores.values()), default=0)


class _Measured:
    """Scores of all rows in one column."""

    def __init__(self, column: Column, results: Sequence[RowResults]) -> None:
        self.higher_is_better = column.higher_is_better
        self.samples = [given.sample(column) for given in results]
        self._places = {n: place for place, n in enumerate(self.scored(range(len(results))))}
        self._differences = Differences(_paired([sample for sample in self.samples if sample is not None]))

    def scored(self, among: Sequence[int]) -> list[int]:
        return [n for n in among if self.samples[n] is not None]

    def best(self, among: Sequence[int]) -> int | None:
        """The row with the best score; the first of several."""
        choose = max if self.higher_is_better else min
        scores = {n: float(sample.scores.mean()) for n in among if (sample := self.samples[n]) is not None}
        return choose(scores, key=lambda n: scores[n]) if scores else None

    def comparable(self, one: int, other: int) -> bool:
        """Whether the error of the difference of two rows is known."""
        if one not in self._places or other not in self._places:
            return False
        first, second = self._places[one], self._places[other]
        return one == other or self._differences.uncertainty(first, second) is not None

    def p_value(self, one: int, other: int) -> float:
        first, second = self._places[one], self._places[other]
        uncertainty = self._differences.uncertainty(first, second)
        assert uncertainty is not None
        return uncertainty.p_value(self._differences.difference(first, second))

    def verdict(self, one: int, other: int, level: float, corrected: float) -> Verdict:
        """The difference of two comparable rows with its interval.

        Args:
            level: of the interval.
            corrected: p-value after the correction for all columns.
        """
        first, second, differences = self._places[one], self._places[other], self._differences
        uncertainty, difference = differences.uncertainty(first, second), differences.difference(first, second)
        assert uncertainty is not None
        reach = uncertainty.reach(level)
        tie = abs(difference) <= reach
        assumed = differences.assumed(first, second) and not tie
        limit = differences.largest_deviation(first, second, level) if assumed else None
        low, high = difference - reach, difference + reach
        return Verdict(difference, low, high, tie, level=level, corrected=corrected, seeds_up_to=limit)


def _paired(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, without their items if some have none or others."""
    if len({len(sample.items[0]) if sample.items else None for sample in samples}) > 1:
        return [replace(sample, items=None) for sample in samples]
    return list(samples)


class _Family:
    """Pairs of rows whose differences are tested in all columns, and corrected for their number."""

    def __init__(self, columns: Mapping[str, _Measured], pairs: Sequence[tuple[int, int]]) -> None:
        self._columns = columns
        tested = [(key, pair) for key, found in columns.items() for pair in pairs if found.comparable(*pair)]
        raw = [columns[key].p_value(*pair) for key, pair in tested]
        named = [(key, frozenset(pair)) for key, pair in tested]
        self._corrected = dict(zip(named, holm(raw), strict=True))
        self._tests = Counter(key for key, _ in tested)
        self._raw = dict(zip(named, raw, strict=True))

    def verdict(self, key: str, one: int, other: int) -> Verdict | None:
        """The difference of row `one` from row `other` in a column; None if it was not tested."""
        if one == other:
            return Verdict(0.0, 0.0, 0.0, tie=True, best=True)
        corrected = self._corrected.get((key, frozenset((one, other))))
        if corrected is None:
            return None
        return self._columns[key].verdict(one, other, 1 - ALPHA / self._tests[key], corrected)

    def alike(self, key: str, one: int, other: int) -> bool:
        """Whether two rows were tested in a column and their difference does not hold in the table."""
        pair = (key, frozenset((one, other)))
        if pair not in self._raw:
            return False
        return self._raw[pair] > ALPHA / self._tests[key] or self._corrected[pair] > ALPHA
