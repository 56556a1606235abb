"""What an evaluator is called with, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy import stats
from torch import Tensor

PROTOCOL = 1
"""Version of the questions: data, caps, hyperparameters. Numbers of different versions are not comparable."""

Statistic = Literal["mean", "spearman"]
Array = npt.NDArray[Any]


@runtime_checkable
class Embedder(Protocol):
    """Anything that turns texts into vectors. Evaluators also take a model of sentence-transformers, with its `encode`.

    One with a closed vocabulary may also have `covers(word) -> bool`, which word similarity asks.
    """

    def embed(self, texts: Sequence[str], /) -> Tensor:
        """(N, E) float32 on the CPU, one row a text; dense, or in the layout `torch.sparse_coo`."""


class Evaluator(Protocol):
    """A question with its data."""

    @property
    def texts(self) -> list[str]:
        """Every text whose embedding it will ask for; some may occur several times."""

    def __call__(self, embedder: Embedder) -> "Result":
        """What the embeddings are worth."""


@dataclass(frozen=True)
class Result:
    """Numbers of one evaluator.

    Attributes:
        primary_metric: the name of the one number to look at.
        metrics: all numbers by name.
        details: what is too long for a table, as plain data: confusion matrix, numbers by class.
        items: what each test item contributes to the primary metric, for a paired bootstrap over items; None where it
            is not made of items. (N,) or, for a correlation, (N, 2): what was predicted, what was asked for.
        statistic: what of the items is the primary metric: their mean, or the rank correlation of their columns.
    """

    primary_metric: str
    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    items: Array | None = None
    statistic: Statistic = "mean"

    @property
    def primary(self) -> float:
        """The number to look at."""
        return self.metrics[self.primary_metric]

    def to_json(self) -> dict[str, Any]:
        """Everything but the items, as plain data."""
        plain: dict[str, Any] = {"primary_metric": self.primary_metric, "metrics": self.metrics}
        return plain | {"details": self.details} | ({} if self.items is None else {"statistic": self.statistic})

    @classmethod
    def from_json(cls, plain: dict[str, Any], items: Array | None) -> "Result":
        """What `to_json` made plain, and its items."""
        return cls(items=items, **plain)


def statistic_of(items: Array, statistic: Statistic) -> float:
    """The primary metric of items, or of a resample of their rows. Rows with NaN (words that nobody knows) do not count."""
    if statistic == "mean":
        return float(items.mean())
    return spearman(*items[~np.isnan(items).any(axis=1)].T)


def spearman(x: Array, y: Array) -> float:
    """Rank correlation; 0 where one of the two does not vary, since it then says nothing about the other."""
    return float(stats.spearmanr(x, y).statistic) if _vary(x, y) else 0.0


def pearson(x: Array, y: Array) -> float:
    """Linear correlation; 0 where one of the two does not vary."""
    return float(stats.pearsonr(x, y).statistic) if _vary(x, y) else 0.0


def _vary(*columns: Array) -> bool:
    return all(len(column) > 1 and np.ptp(column) > 0 for column in columns)
