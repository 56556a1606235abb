"""Is a difference more than chance? Chance chose the test items and, for a method, the seeds.

The Multi-Bootstrap (Sellam et al., arXiv:2106.16163, section 3) resamples both: test items in pairs, since all methods
answer the same ones, and the seeds of each method on their own. That is done here, with one change: of two or three seeds
the bootstrap finds a variance that is too small by (n - 1)/n, and no tails. The deviation of a mean over seeds is
therefore drawn from Student's t, as the t-interval of that mean has it, which for the difference of two means is the
interval of Behrens and Fisher. A method with one seed is taken to vary as the others do. Where all have one seed, nothing
is known of the variation between seeds, and it is assumed to be as large as that between samples of test items, which
makes the intervals wider by the square root of two. What a seed changes on single items counts in both parts, so that
the intervals are rather too wide than too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ssl_nlp.evaluation.result import Array, Statistic

RESAMPLES = 2000
CHUNK = 100  # resamples in memory at a time
SEED = 0


@dataclass(frozen=True)
class Sample:
    """What one row answered in one column.

    Attributes:
        scores: (S,) one number a seed.
        items: for each seed what each test item contributed, (N,) or (N, 2); None where the number is not made of items.
        statistic: how items make up the number, as in `evaluation.Result`.
        trained: by us, from a seed. What is not (baselines, published models) does not vary with one.
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
    """Draws from which the interval of the difference of any two samples can be read.

    Attributes:
        samples: S of them.
        seeds: (S, R) deviations of the means over seeds.
        items: (S, R) mean scores over seeds when the same items are drawn for all samples; None without items.
    """

    samples: Sequence[Sample]
    seeds: Array
    items: Array | None

    def interval(self, one: int, other: int, level: float = 0.95) -> tuple[float, float] | None:
        """Interval of the mean score of sample `one` minus that of `other`; None if neither items nor seeds are known."""
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
    """Draw items and seeds.

    Args:
        samples: of the same test items in the same order, where they have items.
        resamples: how many draws.
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
    """Draws from Student's t that lie as its quantiles do: its tails are long, and chance would decide how long."""
    return rng.permutation(stats.t.ppf((np.arange(number) + 0.5) / number, freedom))


def _item_draws(samples: Sequence[Sample], resamples: int) -> Array | None:
    """(samples, R): the mean score over seeds of each sample when the same items are drawn for all; None without items."""
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
            items = np.mean(sample.items or (), axis=0, dtype=np.float64)
            means.append(counts @ items / counts.sum(axis=1))
        else:  # the mean of the correlations, which is not the correlation of the mean prediction
            means.append(np.mean([spearman_of_resamples(items, counts) for items in sample.items or ()], axis=0))
    return np.stack(means)


def spearman_of_resamples(items: Array, counts: Array) -> Array:
    """Rank correlations of resamples, without building or sorting any of them.

    Args:
        items: (N, 2). A row with NaN does not count.
        counts: (R, N), how often each row occurs in each resample.

    Returns:
        (R,); 0 where one of the two columns does not vary.
    """
    known = ~np.isnan(items).any(axis=1)
    items, counts = items[known], counts[:, known]
    middle = (counts.sum(axis=1, keepdims=True) + 1) / 2
    x, y = (_midranks(column, counts) - middle for column in items.T)
    covariance, deviation = (counts * x * y).sum(axis=1), np.sqrt((counts * x * x).sum(axis=1))
    deviation *= np.sqrt((counts * y * y).sum(axis=1))
    return np.divide(covariance, deviation, out=np.zeros_like(covariance), where=deviation > 0)


def _midranks(values: Array, counts: Array) -> Array:
    """(R, N): the mean rank of each value in each resample, equal values sharing theirs."""
    order = np.argsort(values, kind="stable")
    first = np.concatenate([[True], np.diff(values[order]) > 0])
    each = np.add.reduceat(counts[:, order], np.flatnonzero(first), axis=1)
    ranks = np.cumsum(each, axis=1) - (each - 1) / 2
    group = np.empty(len(values), dtype=np.intp)
    group[order] = np.cumsum(first) - 1
    return np.asarray(ranks[:, group])
