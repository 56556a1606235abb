"""Intervals for the difference of two scores, over the choice of test items and of seeds.

The Multi-Bootstrap (Sellam et al., arXiv:2106.16163, section 3) resamples both: test items in pairs, because all methods
predict the same ones, and the seeds of each method independently. This module does the same with one change: with two or
three seeds the bootstrap underestimates the variance by (n - 1)/n and has no tails. The deviation of a mean over seeds is
therefore drawn from Student's t, as in the t-interval of that mean; for the difference of two means this gives the
Behrens-Fisher interval. A method with one seed is assumed to vary as much as the others. If all methods have one seed, the
variation between seeds is unknown and is assumed to be as large as that between samples of test items, which widens the
intervals by the square root of two. The effect of a seed on single items counts in both parts, so the intervals tend to be
too wide rather than too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ssl_nlp.evaluation.result import OF_SUMS, Array, Statistic

RESAMPLES = 2000
CHUNK = 100  # resamples in memory at a time
SEED = 0


@dataclass(frozen=True)
class Sample:
    """Scores of one row in one column.

    Attributes:
        scores: (S,) one number per seed.
        items: for each seed the contribution of each test item, (N,) or as `evaluation.Result` says; None if the score is
            not made of items.
        statistic: of the items, which is the score, as in `evaluation.Result`.
        trained: whether we trained it, from a seed. Baselines and published models do not vary with a seed.
    """

    scores: Array
    items: tuple[Array, ...] | None
    statistic: Statistic = "mean"
    trained: bool = True


def t_interval(scores: Array, level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean of independent numbers; None for fewer than two."""
    if len(scores) < 2:
        return None
    reach = float(stats.t.ppf((1 + level) / 2, len(scores) - 1) * scores.std(ddof=1) / np.sqrt(len(scores)))
    return float(scores.mean()) - reach, float(scores.mean()) + reach


@dataclass(frozen=True)
class Resamples:
    """Resampled scores, which give the interval of the difference between any two samples.

    Attributes:
        samples: the S samples.
        seeds: (S, R) deviations of the means over seeds.
        items: (S, R) mean scores over seeds when the same items are drawn for all samples; None without items.
    """

    samples: Sequence[Sample]
    seeds: Array
    items: Array | None

    def interval(self, one: int, other: int, level: float = 0.95) -> tuple[float, float] | None:
        """Interval of the score of sample `one` minus that of `other`; None without items and without several seeds."""
        if self.items is None and np.ptp(self.seeds[[one, other]], axis=1).min() == 0:
            return None
        if self.items is None:
            difference = self.samples[one].scores.mean() - self.samples[other].scores.mean()
        else:
            difference = self.items[one] - self.items[other]
        if not self.seeds.any() and (self.samples[one].trained or self.samples[other].trained):
            difference = difference.mean() + np.sqrt(2) * (difference - difference.mean())
        tail = (1 - level) / 2
        low, high = np.quantile(difference + self.seeds[one] - self.seeds[other], [tail, 1 - tail])
        return float(low), float(high)


def resample(samples: Sequence[Sample], resamples: int = RESAMPLES) -> Resamples:
    """Draw test items and seeds.

    Args:
        samples: on the same test items in the same order, if they have items.
        resamples: number of draws.
    """
    return Resamples(samples, _seed_draws(samples, resamples), _item_draws(samples, resamples))


def _seed_draws(samples: Sequence[Sample], resamples: int) -> Array:
    """(samples, R): deviations of the means over seeds."""
    several = [sample.scores for sample in samples if len(sample.scores) > 1]
    freedom = sum(len(scores) - 1 for scores in several)
    pooled = np.sqrt(sum(float(np.square(scores - scores.mean()).sum()) for scores in several) / max(freedom, 1))
    draws = np.zeros((len(samples), resamples))
    for number, sample in enumerate(samples):
        seeds, rng = len(sample.scores), np.random.default_rng((SEED, 1, number))
        if seeds > 1:
            draws[number] = _students(seeds - 1, resamples, rng) * sample.scores.std(ddof=1) / np.sqrt(seeds)
        elif several and sample.trained:
            draws[number] = _students(freedom, resamples, rng) * pooled
    return draws


def _students(freedom: int, number: int, rng: np.random.Generator) -> Array:
    """Quantiles of Student's t in random order: random draws would leave the length of its long tails to chance."""
    return rng.permutation(stats.t.ppf((np.arange(number) + 0.5) / number, freedom))


def _item_draws(samples: Sequence[Sample], resamples: int) -> Array | None:
    """(samples, R): mean scores over seeds, with the same items drawn for all samples; None without items."""
    if not samples or any(sample.items is None for sample in samples):
        return None
    columns = [items for sample in samples for items in sample.items or ()]
    rng, size, drawn = np.random.default_rng((SEED, 0)), len(columns[0]), []
    for start in range(0, resamples, CHUNK):
        chosen = rng.integers(size, size=(min(CHUNK, resamples - start), size))
        rows = np.arange(len(chosen))[:, None] * size
        counts = np.bincount((chosen + rows).ravel(), minlength=len(chosen) * size).reshape(len(chosen), size)
        drawn.append(_means(samples, counts.astype(np.float64)))
    return np.concatenate(drawn, axis=1)


def _means(samples: Sequence[Sample], counts: Array) -> Array:
    means = []
    for sample in samples:
        if sample.statistic == "mean":
            items = np.asarray(np.mean(sample.items or (), axis=0, dtype=np.float64))
            known = ~np.isnan(items)  # words are not covered elsewhere
            means.append(counts[:, known] @ items[known] / np.maximum(counts[:, known].sum(axis=1), 1))
        elif sample.statistic == "spearman":  # the mean of the correlations, which is not that of the mean prediction
            means.append(np.mean([spearman_of_resamples(items, counts) for items in sample.items or ()], axis=0))
        else:
            of_sums = OF_SUMS[sample.statistic]
            means.append(np.mean([of_sums(counts @ items) for items in sample.items or ()], axis=0))
    return np.stack(means)


def spearman_of_resamples(items: Array, counts: Array) -> Array:
    """Compute rank correlations of resamples without building or sorting them.

    Args:
        items: (N, 2). Rows with NaN are ignored.
        counts: (R, N), how often each row occurs in each resample.

    Returns:
        (R,); 0 if one of the two columns is constant.
    """
    known = ~np.isnan(items).any(axis=1)
    items, counts = items[known], counts[:, known]
    middle = (counts.sum(axis=1, keepdims=True) + 1) / 2
    x, y = (_midranks(column, counts) - middle for column in items.T)
    covariance, deviation = (counts * x * y).sum(axis=1), np.sqrt((counts * x * x).sum(axis=1))
    deviation *= np.sqrt((counts * y * y).sum(axis=1))
    return np.divide(covariance, deviation, out=np.zeros_like(covariance), where=deviation > 0)


def _midranks(values: Array, counts: Array) -> Array:
    """(R, N): rank of each value in each resample; equal values share their mean rank."""
    order = np.argsort(values, kind="stable")
    first = np.concatenate([[True], np.diff(values[order]) > 0])
    each = np.add.reduceat(counts[:, order], np.flatnonzero(first), axis=1)
    ranks = np.cumsum(each, axis=1) - (each - 1) / 2
    group = np.empty(len(values), dtype=np.intp)
    group[order] = np.cumsum(first) - 1
    return np.asarray(ranks[:, group])
