"""Each row beside the best method and the best baseline of each column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_nlp.comparison.statistics import Sample, difference_intervals
from ssl_nlp.comparison.types import Column, Row, Verdict
from ssl_nlp.evaluation import Result


@dataclass(frozen=True)
class RowResults:
    """What a row answered.

    Attributes:
        results: for each seed, by evaluator.
        data: fingerprints of the test data; one where the seeds agree.
        trained: from a seed, by us.
    """

    results: Sequence[Mapping[str, Result]]
    data: set[str]
    trained: bool

    def sample(self, column: Column) -> Sample | None:
        """Those to one question; None where it was not answered."""
        _, name, metric = column.key.rsplit("/", 2)
        found = [results[name] for results in self.results if name in results and metric in results[name].metrics]
        if not found:
            return None
        items = [result.items for result in found if result.items is not None]
        whole = len(items) == len(found) and len({len(given) for given in items}) == 1
        scores = np.array([result.metrics[metric] for result in found])
        return Sample(scores, tuple(items) if whole else None, found[0].statistic, self.trained)


def with_verdicts(
    columns: Sequence[Column], methods: Sequence[tuple[Row, RowResults]], baselines: Sequence[tuple[Row, RowResults]]
) -> list[Row]:
    """All rows, with their verdicts filled in."""
    rows = [row for row, _ in [*methods, *baselines]]
    answers = [given for _, given in [*methods, *baselines]]
    for column in columns:
        if column.higher_is_better is None:
            continue
        samples = [given.sample(column) for given in answers]
        is_method = np.arange(len(rows)) < len(methods)
        best = _best(samples, is_method, column.higher_is_better)
        asked = sum(samples[n] is not None for n in range(len(methods)))
        if best is not None and asked > 1:
            level = 1 - 0.05 / (asked - 1)
            for n, verdict in _verdicts(samples, answers, best, level).items():
                rows[n] = replace(rows[n], ties=rows[n].ties | {column.key: verdict})
        baseline = _best(samples, ~is_method, column.higher_is_better)
        if baseline is not None:
            for n, verdict in _verdicts(samples, answers, baseline, 0.95).items():
                if is_method[n]:
                    rows[n] = replace(rows[n], over_baseline=rows[n].over_baseline | {column.key: verdict})
    return rows


def beats(column: Column, verdict: Verdict) -> bool:
    """Whether a difference is more than chance, and in the right direction."""
    return not verdict.tie and (verdict.difference > 0) == column.higher_is_better


def _best(samples: Sequence[Sample | None], among: np.ndarray, higher_is_better: bool) -> int | None:
    scores = {n: sample.scores.mean() for n, sample in enumerate(samples) if sample is not None and among[n]}
    if not scores:
        return None
    return (max if higher_is_better else min)(scores, key=lambda n: float(scores[n]))


def _verdicts(
    samples: Sequence[Sample | None], answers: Sequence[RowResults], best: int, level: float
) -> dict[int, Verdict]:
    """By row. Rows whose test data differ from those of `best` are not compared with it."""
    one = samples[best]
    assert one is not None
    paired = {
        n: sample
        for n, sample in enumerate(samples)
        if sample is not None and answers[n].data == answers[best].data and len(answers[n].data) == 1
    }
    if best not in paired:
        return {}
    lengths = {len(sample.items[0]) for sample in paired.values() if sample.items}
    if len(lengths) > 1 or any(sample.items is None for sample in paired.values()):
        paired = {n: replace(sample, items=None) for n, sample in paired.items()}
    rows = list(paired)
    intervals = difference_intervals(list(paired.values()), rows.index(best), level)
    verdicts = {}
    for n, interval in zip(rows, intervals, strict=True):
        difference = float(paired[n].scores.mean() - one.scores.mean())
        if n == best:
            verdicts[n] = Verdict(0.0, 0.0, 0.0, tie=True, best=True)
        elif interval is not None:
            low, high = interval
            verdicts[n] = Verdict(difference, low, high, tie=low <= 0 <= high)
    return verdicts
