"""How much each test item moves a score: from this follows the variance of the score over the choice of items."""

import math
from collections.abc import Callable

import numpy as np

from ssl_nlp.evaluation.result import OF_SUMS, Array, Statistic


def contributions(items: Array, statistic: Statistic) -> Array:
    """The contribution of each item to the score: (N,), with mean 0.

    Their variance divided by N is the variance of the score over items. A contribution is the derivative of the score with
    respect to the weight of the item (the empirical influence function), which for a rank correlation or an average
    precision contains what the item does to the ranks of the others, and for a V-measure takes the clusters as given; of
    statistics of sums, it is what the score loses without the item (the jackknife). Items with NaN do not count and move
    nothing.

    Args:
        items: (N,) or as `evaluation.Result` says.
        statistic: of the items, which is the score.
    """
    known = known_rows(items)
    given = items[known].astype(np.float64)
    found = np.zeros(len(items))
    if len(given):
        found[known] = _moved(given, statistic) * len(items) / len(given)
    return found


def known_rows(items: Array) -> Array:
    """(N,) bool: the items without NaN, which count."""
    return np.asarray(~np.isnan(items.reshape(len(items), -1)).any(axis=1))


def covariance_of_means(moved: Array, groups: Array | None = None) -> Array:
    """The covariance over items of S scores, (S, S), from what N items contribute to them, (S, N), with mean 0.

    Items in one group may vary together: the products of the contributions of two items count if they have a group in
    common (Liang and Zeger, Biometrika 73(1), 1986; for items of two groups each, Fafchamps and Gubert, Journal of
    Development Economics 83(2), 2007). What the mean takes from the groups is given back by a factor, with which the
    variance of effects of groups is right on average: for groups that have shares w of the items, Σ w² / (Σ w² - 2 Σ w³ +
    (Σ w²)²); for items of two groups, G (G - 1) / ((G - 2) (G - 3)), which supposes that each group meets all others.

    Args:
        moved: as `contributions` gives it.
        groups: (N, 1) or (N, 2), as in `evaluation.Result`; None if each item is on its own. Of one group nothing is
            known, nor of three where items have two: then the items vary as one.
    """
    size = moved.shape[1]
    if groups is None:
        return np.atleast_2d(np.cov(moved)) / size
    shares = group_shares(groups, np.ones(size))
    number, ways = len(shares), groups.shape[1]
    if number < (2 if ways == 1 else 4):
        return np.atleast_2d(np.cov(moved))
    columns = np.unique(groups, return_inverse=True)[1].reshape(groups.shape).T
    sums = _sums(moved, columns[0], number)
    if ways == 1:
        second, third = (float((shares**power).sum()) for power in (2, 3))
        return sums @ sums.T / size**2 * second / (second - 2 * third + second**2)
    other = moved * (columns[0] != columns[1])
    sums += _sums(other, columns[1], number)
    _, both = np.unique(np.sort(columns, axis=0), axis=1, return_inverse=True)
    twice = _sums(other, both.ravel(), size)  # items with the same two groups were counted for each of these
    return (sums @ sums.T - twice @ twice.T) / size**2 * number * (number - 1) / ((number - 2) * (number - 3))


def covariances(moved: Array, groups: Array | None, known: Array) -> list[Array]:
    """The covariance over items and, if there are groups, over these.

    Args:
        moved: (S, N), contributions.
        groups: of the items.
        known: (N,) bool, which items count. At least two must.
    """
    found = [covariance_of_means(moved)]
    if groups is not None:
        found.append(covariance_of_means(moved[:, known] * known.mean(), groups[known]))
    return found


def weights_of(items: Array, statistic: Statistic) -> Array:
    """(N,): how much of the score each item carries, up to a factor; 0 if it does not count.

    A sentence without an entity says nothing about the F1 of entities, and a long text carries more of a ratio than a short
    one.
    """
    known = known_rows(items)
    given = items[known].astype(np.float64)
    weights = np.zeros(len(items))
    weights[known] = WEIGHTS[statistic](given) if statistic in WEIGHTS else 1.0
    return weights


WEIGHTS: dict[Statistic, Callable[[Array], Array]] = {
    "average_precision": lambda items: items[:, 1],  # what is to be ranked first
    "bleu": lambda items: items[:, 1],  # words of the reference
    "f1": lambda items: items[:, 1] + items[:, 2],
    "ratio": lambda items: items[:, 1],
    "perplexity": lambda items: items[:, 1],
}


def number_of(weights: Array, groups: Array | None) -> float:
    """The number of items or of their groups, which count as fewer the more their weights differ; 0 if none has any.

    A variance that is a sum over groups with shares w of the weight, in which the contribution of each goes by w^2, has the
    degrees of freedom of (sum of w^2)^2 / (sum of w^4) groups (Satterthwaite's formula).

    Args:
        weights: (N,), as `weights_of` gives them.
        groups: (N, 1) or (N, 2), as in `evaluation.Result`; None if each item is on its own.
    """
    if not weights.any():
        return 0.0
    shares = group_shares(np.arange(len(weights))[:, None] if groups is None else groups, weights)
    second, fourth = (float((shares**power).sum()) for power in (2, 4))
    return second**2 / fourth


def group_shares(groups: Array, weights: Array) -> Array:
    """(G,): the share of each group in the weights of the items, (N,), of (N, 1) or (N, 2)."""
    _, places = np.unique(groups, return_inverse=True)
    sums = np.bincount(places.ravel(), weights.repeat(groups.shape[1]))
    return np.asarray(sums / sums.sum())


def _sums(moved: Array, group: Array, number: int) -> Array:
    """(S, number): the sums of (S, N) over the items of each group (N,)."""
    return np.stack([np.bincount(group, weights, minlength=number) for weights in moved])


def _moved(items: Array, statistic: Statistic) -> Array:
    if statistic == "mean":
        return items - items.mean()
    if statistic in DERIVATIVES:
        return DERIVATIVES[statistic](*items.T)
    # Of smooth functions of sums, what is missing without the item says as much as a derivative.
    sums = items.sum(axis=0)
    missing = OF_SUMS[statistic](sums) - OF_SUMS[statistic](sums - items) if len(items) > 1 else np.zeros(1)
    return np.asarray((len(items) - 1) * (missing - missing.mean()))


def _of_rank_correlation(x: Array, y: Array) -> Array:
    """Differentiate C / sqrt(U V), the correlation of the ranks u and v, which are shares of N with ties in the middle.

    The derivative of mean(u v) is u_j v_j - 3 mean(u v) + (sum of v over the items above x_j + sum of u over those above
    y_j) / N, because item j raises the ranks of the items above it. Those of the variances are the same with u = v.
    """
    u, v = (1 - _above(given, np.ones(len(given))) for given in (x, y))

    def moved(one: Array, ranks: Array, other: Array, its_ranks: Array) -> tuple[float, Array]:
        mean = float((ranks * its_ranks).mean())
        return mean - 0.25, ranks * its_ranks - 3 * mean + _above(one, its_ranks) + _above(other, ranks)

    (c, dc), (a, da), (b, db) = moved(x, u, y, v), moved(x, u, x, u), moved(y, v, y, v)
    if min(a, b) < 1e-12:  # one of the two does not vary
        return np.zeros(len(x))
    return (dc - c / 2 * (da / a + db / b)) / math.sqrt(a * b)


def _of_average_precision(predictions: Array, gold: Array) -> Array:
    """Differentiate Σ_i y_i p_i / Σ_i y_i, where y is gold and p_i the mean of y over the items ranked no lower than i.

    Item j changes p_i by (y_j - p_i) / n_i for the n_i items that p_i is a mean of, if j is one of them.
    """
    if not gold.any():
        return np.zeros(len(gold))
    _, group = np.unique(-predictions, return_inverse=True)  # from the highest one

    def reached(weights: Array) -> Array:
        return np.bincount(group, weights).cumsum()

    number = reached(np.ones(len(gold)))
    precision = reached(gold) / number
    share = np.bincount(group, gold) / number
    below, below_by_precision = (sums[::-1].cumsum()[::-1][group] for sums in (share, share * precision))
    own = gold * precision[group]
    return np.asarray(
        (own + gold * below - below_by_precision - gold * own.sum() / gold.sum()) * len(gold) / gold.sum()
    )


def _of_v_measure(clusters: Array, classes: Array) -> Array:
    """Differentiate 2 I / (H + G), the mutual information and the entropies of two partitions with fixed parts."""

    def surprise(parts: Array) -> Array:
        _, part, sizes = np.unique(parts, return_inverse=True, return_counts=True, axis=0)
        return np.asarray(np.log(len(parts) / sizes)[part.ravel()])

    one, other = surprise(clusters), surprise(classes)
    both = one + other
    shared = both - surprise(np.stack([clusters, classes], axis=1))
    total = both.mean()
    if total < 1e-12:  # both have one part
        return np.zeros(len(clusters))
    value = 2 * shared.mean() / total
    return np.asarray((2 * (shared - shared.mean()) - value * (both - total)) / total)


DERIVATIVES: dict[Statistic, Callable[[Array, Array], Array]] = {
    "spearman": _of_rank_correlation,
    "average_precision": _of_average_precision,
    "v_measure": _of_v_measure,
}


def _above(values: Array, weights: Array) -> Array:
    """(N,): for each value the sum of the weights of all greater ones and half of those of its equals, over N."""
    _, group = np.unique(values, return_inverse=True)
    sums = np.bincount(group, weights)
    return np.asarray((sums[::-1].cumsum()[::-1] - sums / 2)[group] / len(values))
