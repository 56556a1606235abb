"""Evaluators that set the cosine of two embeddings against what people say about the two texts."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.evaluator import CrossFitted, TestItems
from ssl_nlp.evaluation.result import OF_COLUMNS, Array, Statistic
from ssl_nlp.evaluation.vectors import cosines, embed

DIGITS = 9  # of cosines; those that differ by less differ by rounding only


class Pairs(TestItems, Protocol):
    """Pairs of texts."""

    @property
    def first(self) -> Sequence[str]:
        """The first text of each pair."""

    @property
    def second(self) -> Sequence[str]:
        """The second one."""


@dataclass(frozen=True)
class PairCosines(CrossFitted):
    """Cosines of N pairs against a number for each.

    Attributes:
        data: the pairs.
        statistic: of cosines and numbers, which is the primary metric.
    """

    ranked = False
    statistic: ClassVar[Statistic]
    data: Pairs

    @property
    @abstractmethod
    def gold(self) -> Array:
        """(N,) float64: what people say."""

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        return list(zip(self.data.first, self.data.second, strict=True))

    @property
    def groups(self) -> Sequence[str]:
        return self.data.first

    def predictions(self, embedder: Embedder) -> Array:
        """(N,): the cosine of each pair."""
        return pair_cosines(embedder, self.data.first, self.data.second)

    def quality(self, predictions: Array, rows: Array) -> float:
        known = rows & ~np.isnan(predictions)
        return OF_COLUMNS[self.statistic](predictions[known], self.gold[known])


def pair_cosines(embedder: Embedder, first: Sequence[str], second: Sequence[str]) -> Array:
    """(N,): the cosine of the embeddings of N pairs of texts; those that differ by rounding only are equal."""
    return np.round(cosines(embed(embedder, first), embed(embedder, second)), DIGITS)
