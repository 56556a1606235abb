"""Differences of two scores beyond the choice of test items and of seeds: p-values and intervals.

All rows of a column predict the same test items, so items are paired, as in the Multi-Bootstrap (Sellam et al.,
arXiv:2106.16163, section 3). The error of the difference of two mean scores has two independent parts:

- over items: the variance of the mean of the paired differences of the items' contributions, normal (Student's t with N - 1
  degrees of freedom for N items). Contributions are the items themselves where the score is their mean, and else how much
  the score changes with the weight of an item (`comparison.contributions`). Where items have something in common, such as
  the answer to find, the items of a group may vary together: the variance is that over groups if it is the larger one, with
  the degrees of freedom of the groups (`contributions.number_of`);
- over seeds: s^2 (1/n + 1/m) for n and m seeds, where s^2 is the variance between the seeds of a row, pooled over the rows
  of the column, with the degrees of freedom of all of them. It is estimated, so its part is Student's t. Rows that
  share trainings (two scores of one model, two ways to fine-tune it) may vary together, and say no more of s^2 than one
  does.

The effect of a seed on single items is in s^2 and would count a second time in the first part, so it is subtracted there.
The sum of a normal and a Student's variable has the distribution of Behrens and Fisher, which is integrated numerically.
Without seeds the test is the paired t-test; without items it is the two-sample t-test with a common variance.

If no row has a second seed, s^2 is unknown: seeds are assumed to move a score at most `ASSUMED` times as much as the choice
of items does. The paired difference would be the wrong measure: two runs of one configuration agree closely on which texts
are hard, but not on the loss. `benchmarks/verdicts.py` simulates how often claims are false.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import optimize, special, stats

from ssl_nlp.comparison.contributions import contributions, covariances, known_rows, number_of, weights_of
from ssl_nlp.evaluation.result import Array, Statistic

ASSUMED = 3.0
"""Standard deviation of a score over seeds, as a multiple of that over items, which is assumed where it is unknown."""
POINTS = 101  # of the numerical integral, for seven digits


@dataclass(frozen=True)
class Sample:
    """Scores of one row in one column.

    Attributes:
        scores: (S,) one number per seed.
        items: for each seed the contribution of each test item, (N,) or as `evaluation.Result` says; None if the score is
            not made of items.
        statistic: of the items, which is the score, as in `evaluation.Result`.
        varies: whether another seed would give another score. Published models and baselines that are counted do not vary.
        trainings: names of trainings that differ between its seeds. Samples that share some may vary together.
        whole: whether its seeds are whole trainings, as those of other samples are, and not fine-tunings alone or draws of
            a baseline, which may vary less.
        groups: what the items have in common, as in `evaluation.Result`; None if nothing.
    """

    scores: Array
    items: tuple[Array, ...] | None
    statistic: Statistic = "mean"
    varies: bool = True
    trainings: frozenset[str] = frozenset()
    whole: bool = True
    groups: Array | None = None


@dataclass(frozen=True)
class Uncertainty:
    """The error of one difference: two independent parts with mean 0.

    Attributes:
        items: variance over the choice of items.
        seeds: estimated variance over seeds.
        size: number of items, or of their groups; infinite if `items` is not estimated from any.
        freedom: degrees of freedom of `seeds`; 0 if it was not estimated.
    """

    items: float
    seeds: float = 0.0
    size: float = math.inf
    freedom: float = 0

    def p_value(self, difference: float) -> float:
        """Probability of a difference at least as large in either direction where there is none."""
        if difference == 0:
            return 1.0
        factors, weights = _inverse_chi_square(self.freedom)
        variances = self.items + self.seeds * factors
        if not variances.any():
            return 0.0
        variances = np.maximum(variances, np.finfo(float).tiny)
        with np.errstate(divide="ignore", over="ignore"):  # without items, or with very few degrees of freedom of seeds
            freedom = (self.size - 1) * np.square(np.divide(variances, self.items))  # Welch and Satterthwaite
        tails = special.stdtr(freedom, -abs(difference) / np.sqrt(variances))
        return float(min(2 * (weights @ tails), 1.0))

    def reach(self, level: float) -> float:
        """Half the width of the interval of the difference that covers the truth with probability `level`."""
        scale = math.sqrt(self.items + self.seeds)
        if scale == 0:
            return 0.0
        upper = 4 * scale
        while self.p_value(upper) > 1 - level:
            upper *= 4
        least = 1e-9 * scale
        return float(optimize.brentq(lambda reach: self.p_value(reach) - (1 - level), least, upper, xtol=least))


@lru_cache(maxsize=64)
def _inverse_chi_square(freedom: float) -> tuple[Array, Array]:
    """Values of freedom / chi-square, (P,), and their probabilities: the trapezoidal rule in the logarithm."""
    if freedom == 0:
        return np.ones(1), np.ones(1)
    low, high = np.log(stats.chi2.ppf((1e-12, 1 - 1e-12), freedom))
    logs = np.linspace(low, high, POINTS)
    weights = stats.chi2.pdf(np.exp(logs), freedom) * np.exp(logs)
    return freedom / np.exp(logs), weights / weights.sum()


@dataclass(frozen=True)
class Differences:
    """Differences between the samples of one column, which share the estimate of the variance between seeds.

    Attributes:
        samples: on the same test items in the same order, if they have items.
    """

    samples: Sequence[Sample]

    def difference(self, one: int, other: int) -> float:
        """The mean score of sample `one` minus that of `other`."""
        return float(self.samples[one].scores.mean() - self.samples[other].scores.mean())

    def uncertainty(self, one: int, other: int) -> Uncertainty | None:
        """The error of their difference.

        It is None where fewer than two items carry the scores, and without any items unless the seeds of both vary and some
        row has several.
        """
        varies = self.varies(one, other)
        if any(sample.items is None for sample in self.samples):
            both = self.samples[one].varies and self.samples[other].varies
            return Uncertainty(0.0, varies * self.seeds, freedom=self.freedom) if both and self.freedom else None
        if not self._errors:
            return None
        items = self._over_items(one, other, varies if self.freedom else 0)
        if not varies:
            return Uncertainty(items, size=self._size)
        if not self.freedom:
            least = self._least(one, other) / 2
            each = (max(float(of[n, n]) for of, _ in self._errors) for n in (one, other) if self.samples[n].varies)
            return Uncertainty(items + ASSUMED**2 * sum(max(variance, least) for variance in each), size=self._size)
        return Uncertainty(items, varies * self.seeds, self._size, self.freedom)

    def assumed(self, one: int, other: int) -> bool:
        """Whether their difference varies with seeds, of which nothing is known."""
        return not self.freedom and self.varies(one, other) > 0

    def largest_deviation(self, one: int, other: int, level: float) -> float:
        """The largest standard deviation between seeds with which the interval of an `assumed` difference excludes zero.

        It measures how scores of single runs vary, and is the same for both samples; 0 if every interval includes zero.
        """
        items = self._over_items(one, other)
        most = (self.difference(one, other) / Uncertainty(1.0, size=self._size).reach(level)) ** 2
        return math.sqrt(max(most - items, 0.0) / self.varies(one, other))

    def varies(self, one: int, other: int) -> float:
        """The variance of their difference over seeds, in variances of one seed: 1/n + 1/m."""
        return sum(1 / len(sample.scores) for sample in (self.samples[one], self.samples[other]) if sample.varies)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of `seeds`, a lower bound where samples share their trainings; 0 if none has several seeds.

        The sums of squares of k samples with v degrees of freedom each, added with weights 1/k, have v of them where the
        samples vary as one, and more (by Satterthwaite's formula) the less they do.
        """
        return self._freedom(self._shares)

    @property
    def seeds(self) -> float:
        """The variance between the seeds of a sample, pooled over all that vary.

        Where only some have whole trainings as seeds, these alone give it, or all if that is larger. The seeds of others
        say nothing of trainings of which none has a second seed.
        """
        return self._variance(self._shares)

    @cached_property
    def _shares(self) -> dict[int, float]:
        """The samples that `seeds` is estimated from, by their place, each with its share of its trainings."""
        several = [n for n, sample in enumerate(self.samples) if sample.varies and len(sample.scores) > 1]
        whole = [n for n in several if self.samples[n].whole]
        if not whole and any(sample.varies and sample.whole for sample in self.samples):
            return {}
        return max(self._shared(several), self._shared(whole), key=self._variance)

    def _shared(self, among: Sequence[int]) -> dict[int, float]:
        """Shares of the samples among these that have the most seeds of those with which they share trainings."""
        samples = self.samples
        alike = {n: [m for m in among if m == n or samples[n].trainings & samples[m].trainings] for n in among}
        most = [n for n in among if len(samples[n].scores) == max(len(samples[m].scores) for m in alike[n])]
        return {n: 1 / sum(m in most for m in alike[n]) for n in most}

    def _freedom(self, shares: Mapping[int, float]) -> float:
        return sum(share * (len(self.samples[n].scores) - 1) for n, share in shares.items())

    def _variance(self, shares: Mapping[int, float]) -> float:
        squares = {n: float(np.square(self.samples[n].scores - self.samples[n].scores.mean()).sum()) for n in shares}
        return sum(share * squares[n] for n, share in shares.items()) / (self._freedom(shares) or 1)

    def _over_items(self, one: int, other: int, varies: float = 0) -> float:
        """The variance of their difference over items, without what seeds do to single items.

        Args:
            varies: as `varies` gives it; 0 to leave in what seeds do.
        """
        found = (of[one, one] + of[other, other] - 2 * of[one, other] - varies * noise for of, noise in self._errors)
        return max(float(max(found)), self._least(one, other))

    def _least(self, one: int, other: int) -> float:
        """A lower bound of that variance.

        If all N items have the same difference d, their sample variance is 0, but a few items prove little. The bound is
        the variance with one more item, whose difference is -d. With five items that is about the sign test; with many
        it never binds.
        """
        return (2 * self.difference(one, other) / (self._size + 1)) ** 2

    @cached_property
    def _groups(self) -> Array | None:
        """The groups of the items, from any sample that has them: records of earlier versions have none."""
        return next((sample.groups for sample in self.samples if sample.groups is not None), None)

    @cached_property
    def _known(self) -> Array:
        """(N,) bool: the items that count for any sample."""
        return np.any([known_rows(items) for sample in self.samples for items in sample.items or ()], axis=0)

    @cached_property
    def _weights(self) -> Array:
        """(N,): how much of the scores each item carries, on average over the samples and their seeds."""
        each = [weights_of(items, sample.statistic) for sample in self.samples for items in sample.items or ()]
        return np.asarray(sum(weights / (weights.sum() or 1.0) for weights in each))

    @cached_property
    def _size(self) -> float:
        """The number of items, or of their groups; at least two, as a variance is estimated from them."""
        return max(number_of(self._weights, self._groups), 2.0)

    @cached_property
    def _errors(self) -> list[tuple[Array, float]]:
        """The error over items: covariance and noise, and the same over their groups; empty unless two carry the scores.

        The covariance is between the samples' mean scores. The noise is the variance of the score of one seed that comes
        from the effects of the seed on single items; it is part of the covariance and of `seeds`.
        """
        if (self._weights > 0).sum() < 2:
            return []
        each = [
            np.stack([contributions(one, sample.statistic) for one in sample.items or ()]) for sample in self.samples
        ]
        means = np.stack([given.mean(axis=0) for given in each])
        over_items = covariances(means, self._groups, self._known)
        noises = np.zeros(len(over_items))
        for n, share in self._shares.items():
            of_seeds = covariances(each[n] - each[n].mean(axis=0), self._groups, self._known)
            noises += [share * covariance.trace() / self.freedom for covariance in of_seeds]
        return list(zip(over_items, noises.tolist(), strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number: those up to a level contain any false claim with at most that probability.

    Holm (1979), Scandinavian Journal of Statistics 6(2): the k-th smallest of n, counted from 0, is multiplied by n - k and
    is at least those before it.
    """
    found = np.empty(len(p_values))
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    found[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors), 1.0)
    return [float(p) for p in found]
