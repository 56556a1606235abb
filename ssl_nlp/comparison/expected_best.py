"""How the best value of a search grows with the number of its trials."""

from collections.abc import Sequence

import numpy as np

from ssl_nlp.evaluation.result import Array


def expected_best(values: Sequence[float], trials: int | None = None) -> tuple[Array, Array]:
    """Mean and variance of the best of n trials, for n from 1 to the number of trials.

    Expected validation performance (Dodge et al. 2019, arXiv:1909.03004): the n trials are drawn with
    replacement from those that were made, so that

        P(best <= v) = (share of the values that are at most v)^n,

    and mean and variance follow from this distribution. The trials must be independent draws from one space. Because values
    repeat within a draw, the mean is rather too low where n is near the number of trials, and most where they are few
    (Tang et al. 2020, arXiv:2004.13705).

    Args:
        values: of all trials, in any order; higher is better.
        trials: the largest n; default: the number of values.

    Returns:
        Two arrays (trials,).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = np.arange(1, (trials or len(ordered)) + 1)[:, None]
    shares = np.arange(len(ordered) + 1) / len(ordered)  # of equal values, each takes a part of their probability
    probabilities = np.diff(shares**n, axis=1)
    mean = probabilities @ ordered
    variance = (probabilities * (ordered - mean[:, None]) ** 2).sum(axis=1)
    return mean, variance
