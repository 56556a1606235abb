"""Tests of each row against the other methods and the best baseline of each column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_nlp.comparison.statistics import Resamples, Sample, resample
from ssl_nlp.comparison.types import Column, Row, Verdict
from ssl_nlp.evaluation import Result


@dataclass(frozen=True)
class RowResults:
    """Evaluation results of a row.

    Attributes:
        results: for each seed, by evaluator.
        data: for each of the results, the fingerprint of the test data.
        trained: whether we trained it, from a seed.
    """

    results: Sequence[Mapping[str, Result]]
    data: Sequence[str]
    trained: bool

    def tested_on(self, column: Column) -> set[str]:
        """Fingerprints of the test data of one column; one if the seeds agree."""
        name = column.key.rsplit("/", 2)[1]
        return {data for data, results in zip(self.data, self.results, strict=True) if name in results}

    def sample(self, column: Column) -> Sample | None:
        """Scores in one column; None if there are none."""
        _, name, metric = column.key.rsplit("/", 2)
        found = [results[name] for results in self.results if name in results and metric in results[name].metrics]
        if not found:
            return None
        items = [
            r.items for r in found if r.items is not None and r.primary_metric == metric
        ]  # those of another metric
        whole = len(items) == len(found) and len({len(given) for given in items}) == 1
        scores = np.array([result.metrics[metric] for result in found])
        return Sample(scores, tuple(items) if whole else None, found[0].statistic, self.trained)


def with_verdicts(
    columns: Sequence[Column], methods: Sequence[tuple[Row, RowResults]], baselines: Sequence[tuple[Row, RowResults]]
) -> list[Row]:
    """Return all rows with their verdicts."""
    rows = [row for row, _ in [*methods, *baselines]]
    results = [given for _, given in [*methods, *baselines]]
    for column in columns:
        if column.higher_is_better is None:
            continue
        samples = [given.sample(column) for given in results]
        data = [given.tested_on(column) for given in results]
        is_method = np.arange(len(rows)) < len(methods)
        scored = sum(sample is not None for sample in samples[: len(methods)])
        best = _best(samples, is_method, column.higher_is_better)
        if best is not None and scored > 1:
            level = 1 - 0.05 / (scored - 1)
            compared = _Comparable.to(best, samples, data)
            for n, verdict in compared.verdicts(best, level).items():
                rows[n] = replace(rows[n], ties=rows[n].ties | {column.key: verdict})
            for n in filter(lambda n: is_method[n], compared.rows):
                verdicts = compared.verdicts(n, level)
                alike = {rows[m].label for m, verdict in verdicts.items() if verdict.tie and is_method[m] and m != n}
                rows[n] = replace(rows[n], alike=rows[n].alike | {column.key: alike})
        baseline = _best(samples, ~is_method, column.higher_is_better)
        if baseline is not None and scored:
            compared = _Comparable.to(baseline, samples, data)
            for n, verdict in compared.verdicts(baseline, 1 - 0.05 / scored).items():
                if is_method[n]:
                    rows[n] = replace(rows[n], over_baseline=rows[n].over_baseline | {column.key: verdict})
    return rows


def beats(column: Column, verdict: Verdict) -> bool:
    """Tell whether a difference is more than chance and in the right direction."""
    return not verdict.tie and (verdict.difference > 0) == column.higher_is_better


def _best(samples: Sequence[Sample | None], among: np.ndarray, higher_is_better: bool) -> int | None:
    scores = {n: sample.scores.mean() for n, sample in enumerate(samples) if sample is not None and among[n]}
    if not scores:
        return None
    return (max if higher_is_better else min)(scores, key=lambda n: float(scores[n]))


@dataclass(frozen=True)
class _Comparable:
    """Rows that were tested on the same data, in one column.

    Attributes:
        rows: their numbers, in the order of the resamples.
        resamples: of their scores.
    """

    rows: list[int]
    resamples: Resamples

    @classmethod
    def to(cls, one: int, samples: Sequence[Sample | None], data: Sequence[set[str]]) -> "_Comparable":
        """Select the rows with the test data of row `one`; none if its own seeds have different test data."""
        paired = {
            n: sample
            for n, sample in enumerate(samples)
            if sample is not None and data[n] == data[one] and len(data[n]) == 1
        }
        lengths = {len(sample.items[0]) for sample in paired.values() if sample.items}
        if len(lengths) > 1 or any(sample.items is None for sample in paired.values()):
            paired = {n: replace(sample, items=None) for n, sample in paired.items()}
        return cls(list(paired), resample(list(paired.values())))

    def verdicts(self, other: int, level: float) -> dict[int, Verdict]:
        """Difference of each row from row `other`, by row; rows without an interval are left out."""
        verdicts: dict[int, Verdict] = {}
        if other not in self.rows:
            return verdicts
        place = self.rows.index(other)
        means = [float(sample.scores.mean()) for sample in self.resamples.samples]
        for number, n in enumerate(self.rows):
            if n == other:
                verdicts[n] = Verdict(0.0, 0.0, 0.0, tie=True, best=True)
            elif interval := self.resamples.interval(number, place, level):
                low, high = interval
                verdicts[n] = Verdict(means[number] - means[place], low, high, tie=low <= 0 <= high)
        return verdicts
