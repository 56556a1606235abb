"""Intervals of single scores: over seeds, or over the choice of test items."""

import math

import numpy as np
from scipy import stats

from ssl_nlp.comparison.contributions import contributions, covariances, known_rows, number_of
from ssl_nlp.comparison.statistics import Uncertainty
from ssl_nlp.evaluation.result import Array, Result, Statistic, statistic_of

RANGES: dict[Statistic, tuple[float, float]] = {
    "spearman": (-1.0, 1.0),
    "average_precision": (0.0, 1.0),
    "v_measure": (0.0, 1.0),
    "bleu": (0.0, 100.0),
    "f1": (0.0, 1.0),
    "perplexity": (1.0, math.inf),
}


def t_interval(scores: Array, level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean of independent numbers; None for fewer than two."""
    if len(scores) < 2:
        return None
    reach = float(stats.t.ppf((1 + level) / 2, len(scores) - 1) * scores.std(ddof=1) / np.sqrt(len(scores)))
    return float(scores.mean()) - reach, float(scores.mean()) + reach


def score_interval(
    items: Array, statistic: Statistic, level: float = 0.95, groups: Array | None = None
) -> tuple[float, float] | None:
    """Interval of a score over the choice of test items, within the range that it can have; None if these do not give one.

    Items that all say the same prove little if they are few: all N of them right, at least ((1 - level) / 2)^(1 / N) are
    (Clopper and Pearson). This share of the range stands for other bounded scores, too. Of an unbounded one, less than two
    items that count say nothing.

    Args:
        items: as in `Sample`.
        statistic: of the items, which is the score.
        level: its probability to cover the score of all items that there could be.
        groups: as in `Sample`.
    """
    counting = known_rows(items)
    known = items[counting]
    if not len(known):
        return None
    score, size = statistic_of(items, statistic), number_of(items, groups)
    low, high = _range(known, statistic)
    moved = contributions(items, statistic)[None]
    variance = max(each.item() for each in covariances(moved, groups, counting)) if len(known) > 1 else 0.0
    if math.isfinite(high - low) and math.sqrt(variance) < 1e-9 * (high - low) and _alike(score, low, high, statistic):
        reach = (high - low) * (1 - ((1 - level) / 2) ** (1 / min(len(known), size)))
    elif len(known) < 2:
        return None
    else:
        reach = Uncertainty(variance, size=size).reach(level)
    return max(score - reach, low), min(score + reach, high)


def _range(known: Array, statistic: Statistic) -> tuple[float, float]:
    """What the score can be at least and at most, as far as its items tell."""
    if statistic in RANGES:
        return RANGES[statistic]
    if statistic == "mean":
        shares = ((known >= 0) & (known <= 1)).all()
    else:  # a ratio, which is a share where each item is right, wrong or undecided
        shares = (known[:, :1] == known[:, 1:] * (0, 0.5, 1)).any(axis=1).all()
    return (0.0, 1.0) if shares else (-math.inf, math.inf)


def _alike(score: float, low: float, high: float, statistic: Statistic) -> bool:
    """Whether items that do not move the score all say the same, and not that there is nothing to rank."""
    return statistic in ("mean", "ratio") or math.isclose(score, low) or math.isclose(score, high)


def result_interval(result: Result) -> tuple[float, float] | None:
    """The 95 % interval of the primary metric of a result; None where it has no items, or too few for one.

    It is over the test items and, for prompts with examples, over the draws of these, too, as `Prompts` has computed it.
    """
    if "prompts" in result.details and "low" in result.metrics:
        return result.metrics["low"], result.metrics["high"]
    return None if result.items is None else score_interval(result.items, result.statistic, groups=result.groups)
