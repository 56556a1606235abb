"""Intervals of single scores: over seeds, or over the choice of test items."""

import math

import numpy as np
from scipy import stats

from ssl_nlp.comparison.contributions import contributions, covariances, known_rows, number_of, weights_of
from ssl_nlp.comparison.statistics import Uncertainty
from ssl_nlp.evaluation.result import Array, Result, Statistic, statistic_of

LEVEL = 0.95
"""Level of the intervals of single scores: how probably they cover the score that all possible items would give."""
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
    items: Array, statistic: Statistic, level: float = LEVEL, groups: Array | None = None
) -> tuple[float, float] | None:
    """Interval of a score over the choice of test items, within the range that it can have; None if these do not give one.

    Items that are all right prove little if they are few: where N are, at least ((1 - level) / 2)^(1 / N) of all are
    (Clopper and Pearson), and likewise where all are wrong. F1, BLEU and average precision are treated as such shares, with
    the number of items that carry them. Other scores that no item moves, such as a correlation of exactly 1, have no
    interval.

    Args:
        items: as in `Sample`.
        statistic: of the items, which is the score.
        level: its probability to cover the score of all items that there could be.
        groups: as in `Sample`.
    """
    weights = weights_of(items, statistic) if len(items) else np.zeros(0)
    if not weights.any():
        return None
    counting = known_rows(items)
    known, number = items[counting], min(number_of(weights, None), number_of(weights, groups))
    score, (low, high) = statistic_of(items, statistic), _range(known, statistic)
    variance = 0.0
    if (weights > 0).sum() > 1:
        moved = contributions(items, statistic)[None]
        variance = max(each.item() for each in covariances(moved, groups, counting))
    if not math.isfinite(score + variance):
        return None
    if math.sqrt(variance) > 1e-9 * (high - low if math.isfinite(high - low) else abs(score)):
        reach = Uncertainty(variance, size=max(number, 2.0)).reach(level)
    elif _all_right_or_wrong(known, statistic, score):
        reach = (high - low) * (1 - ((1 - level) / 2) ** (1 / number))
    else:
        return None
    return max(score - reach, low), min(score + reach, high)


def _range(known: Array, statistic: Statistic) -> tuple[float, float]:
    """The lowest and the highest value that the score can have; infinite where its items set no limit."""
    if statistic in RANGES:
        return RANGES[statistic]
    return (0.0, 1.0) if _shares(known, statistic) else (-math.inf, math.inf)


def _shares(known: Array, statistic: Statistic) -> bool:
    """Whether a mean or a ratio is one of shares: those of the items, or of items that are right, wrong or undecided."""
    if statistic == "mean":
        return bool(((known >= 0) & (known <= 1)).all())
    return bool((known[:, :1] == known[:, 1:] * (0, 0.5, 1)).any(axis=1).all())


def _all_right_or_wrong(known: Array, statistic: Statistic, score: float) -> bool:
    """Whether a score that no item moves is a share of right ones, or like one."""
    if statistic in ("mean", "ratio"):
        return _shares(known, statistic)
    if statistic == "average_precision":
        return math.isclose(score, 1) and not known[:, 1].all()  # where all are to be ranked first, it is 1 anyway
    return statistic in ("f1", "bleu") and any(math.isclose(score, end) for end in RANGES[statistic])


def result_interval(result: Result) -> tuple[float, float] | None:
    """The 95 % interval of the primary metric of a result; None where it has no items, or too few for one.

    It is over the test items and, for prompts with examples, over the draws of these, too, as `Prompts` has computed it.
    """
    if "prompts" in result.details and "low" in result.metrics:
        return result.metrics["low"], result.metrics["high"]
    return None if result.items is None else score_interval(result.items, result.statistic, groups=result.groups)
