"""The numbers of an evaluator."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import average_precision_score, v_measure_score

PROTOCOL = 6
"""Version of the evaluation protocol: data, caps, hyperparameters. Numbers of different versions cannot be compared.

1: each method was evaluated with its own pooling. 2: each evaluator chooses among the same poolings for all methods.
3: logistic regressions converge, and baselines learn from training text only. 4: texts that training text covers, and
queries that occur twice, are not in the suite docs. 5: everybody gets the same characters of each text.
6: where there are too many texts, which of them are chosen does not depend on how the corpus was split; and bits per
byte include the spelling of unknown tokens.
"""

OVERLAP_WITH = "overlap_with"
"""Key of the details of a result: which part of training text its overlap was measured on, if not all of it."""

Statistic = Literal["mean", "spearman", "average_precision", "v_measure", "bleu", "f1", "ratio", "perplexity"]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Result:
    """Numbers of one evaluator.

    Attributes:
        primary_metric: the name of the main number.
        metrics: all numbers by name.
        details: plain data that are too long for a table: confusion matrix, numbers by class, the chosen `pooling`.
        items: the contribution of each test item to the primary metric, for paired tests over items; None if it
            does not consist of items. (N,) or, for a correlation, (N, 2): predictions and gold scores; for an average
            precision, (N, 2): predictions, and 1 or 0 for what is to be ranked first or last; for a V-measure, (N, 2):
            numbers of clusters and of classes; for BLEU, (N, 10), and for an F1, (N, 3): the counts that `bleu` and `f1`
            take; for a ratio or a perplexity, (N, 2): what is summed, and what it is divided by.
        statistic: how the primary metric follows from the items: as their mean, from their columns (rank correlation,
            average precision, V-measure), or as the BLEU, the F1, the ratio or the perplexity of their sums.
        validation: the primary metric on validation items, of which none is a test item; None if there are none. Settings
            of a model are chosen by this number.
        overlap: (N,), the share of each item's words that training text covers (`ssl_nlp.evaluation.overlap`); None where
            it is not known.
        read: the share of the characters of its texts that the model reads (`ssl_nlp.evaluation.excerpts`); None where it
            is not known, or nothing is read.
        groups: (N, 1) or (N, 2), numbers of what items have in common, such as the answer to find (`groups_of`); None where
            that is nothing. A model that is bad at one item of a group may be bad at all of them.
    """

    primary_metric: str
    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    items: Array | None = None
    statistic: Statistic = "mean"
    validation: float | None = None
    overlap: Array | None = None
    read: float | None = None
    groups: Array | None = None

    @property
    def primary(self) -> float:
        """The main number."""
        return self.metrics[self.primary_metric]

    @property
    def covered(self) -> float | None:
        """The share of the items of which training text covers every word; None where it is not known."""
        return None if self.overlap is None else float((self.overlap == 1).mean())

    @property
    def uncovered(self) -> float | None:
        """The primary metric of the other items; None where there are none, or where it is not known."""
        if self.overlap is None or self.items is None or (self.overlap == 1).all():
            return None
        return statistic_of(self.items[self.overlap < 1], self.statistic)

    def to_json(self) -> dict[str, Any]:
        """Everything except what belongs to single items, as plain data."""
        plain: dict[str, Any] = {"primary_metric": self.primary_metric, "metrics": self.metrics}
        plain |= {} if self.validation is None else {"validation": self.validation}
        plain |= {} if self.overlap is None else {"covered": self.covered, "uncovered": self.uncovered}
        plain |= {} if self.read is None else {"read": self.read}
        return plain | {"details": self.details} | ({} if self.items is None else {"statistic": self.statistic})

    @classmethod
    def from_json(
        cls, plain: dict[str, Any], items: Array | None, overlap: Array | None = None, groups: Array | None = None
    ) -> "Result":
        """The result whose `to_json` is `plain`, with its items, their overlap and their groups."""
        given = {key: value for key, value in plain.items() if key not in ("covered", "uncovered")}
        return cls(items=items, overlap=overlap, groups=groups, **given)


def groups_of(*shared: Sequence[Hashable]) -> Array | None:
    """Number what items may have in common.

    Args:
        shared: one thing of each of N items, or two of a kind, such as the two pairs of words of an analogy.

    Returns:
        (N, 1) or (N, 2) int32; None if nothing occurs twice.
    """
    places: dict[Hashable, int] = {}
    numbers = [[places.setdefault(thing, len(places)) for thing in things] for things in shared]
    found = np.array(numbers, dtype=np.int32).T
    return None if len(places) == found.size else found


def statistic_of(items: Array, statistic: Statistic) -> float:
    """The primary metric of items, or of a resample of their rows. Rows with NaN (unknown words) do not count."""
    known = items[~np.isnan(items.reshape(len(items), -1)).any(axis=1)]
    if statistic == "mean":
        return float(known.mean()) if len(known) else 0.0
    if statistic in OF_COLUMNS:
        return OF_COLUMNS[statistic](*known.T)
    return float(OF_SUMS[statistic](known.sum(axis=0)))


def spearman(x: Array, y: Array) -> float:
    """Rank correlation; 0 if one of the two does not vary, because it then says nothing about the other."""
    return float(stats.spearmanr(x, y).statistic) if _vary(x, y) else 0.0


def pearson(x: Array, y: Array) -> float:
    """Linear correlation; 0 if one of the two does not vary."""
    return float(stats.pearsonr(x, y).statistic) if _vary(x, y) else 0.0


def average_precision(predictions: Array, gold: Array) -> float:
    """The mean precision at the places of the items with gold 1 where predictions rank them; 0 if there are none.

    Items of equal prediction share the lowest of their places, so that predictions that are all the same have the share of
    the items with gold 1, as random ones have on average.
    """
    return float(average_precision_score(gold, predictions)) if gold.any() else 0.0


def v_measure(clusters: Array, classes: Array) -> float:
    """Twice the mutual information of two partitions, divided by the sum of their entropies; 1 if both have one part.

    It is the harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg, EMNLP-CoNLL 2007).
    """
    return float(v_measure_score(classes, clusters))


def bleu(counts: Array) -> Array:
    """Corpus BLEU (...) in percent, smoothed as sacrebleu's by default.

    Args:
        counts: (..., 10), summed over the texts of a corpus: words of the outputs; words of the references; n-grams of the
            outputs that match one of the reference, for n from 1 to 4; n-grams of the outputs.
    """
    counts = np.asarray(counts, dtype=np.float64)
    words, wanted, matched, grams = np.split(counts, [1, 2, 6], axis=-1)
    halved = 0.5 ** np.cumsum(matched == 0, axis=-1)  # matches that count where there are none: 1/2, then 1/4, ...
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(grams > 0, np.where(matched > 0, matched, halved) / np.maximum(grams, 1), 0))
    brevity = np.minimum(1 - wanted / np.maximum(words, 1), 0)
    return np.asarray(np.where(matched.any(axis=-1), 100 * np.exp(logs.mean(axis=-1) + brevity[..., 0]), 0.0))


def f1(counts: Array) -> Array:
    """(...): the F1 of counts (..., 3), summed over texts: predictions that are right, predictions, and what is true.

    It is 0 where nothing is predicted and nothing is true.
    """
    right, predicted, true = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return np.asarray(2 * right / np.maximum(predicted + true, 1))


def ratio(sums: Array) -> Array:
    """(...): the first of two sums (..., 2), divided by the second."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def perplexity(sums: Array) -> Array:
    """(...): e to the power of the ratio of nats and tokens, which are two sums (..., 2)."""
    return np.exp(ratio(sums))


OF_COLUMNS: dict[Statistic, Callable[[Array, Array], float]] = {
    "spearman": spearman,
    "average_precision": average_precision,
    "v_measure": v_measure,
}
"""The statistics that follow from two columns of the items."""

OF_SUMS: dict[Statistic, Callable[[Array], Array]] = {
    "bleu": bleu,
    "f1": f1,
    "ratio": ratio,
    "perplexity": perplexity,
}
"""The statistics that follow from sums over the items."""


def _vary(*columns: Array) -> bool:
    return all(len(column) > 1 and np.ptp(column) > 0 for column in columns)
