"""Pair classification: whether the cosine of two embeddings tells pairs that belong together from others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.pair_cosines import PairCosines
from ssl_nlp.evaluation.result import Array, Result, average_precision


@dataclass(frozen=True)
class RelatedPairs:
    """Pairs of texts, and whether they belong together.

    Attributes:
        valid: other pairs, for validation.

    Raises:
        UserError: all pairs are of one kind.
    """

    name: str
    first: Sequence[str]
    second: Sequence[str]
    related: Sequence[bool]
    valid: "RelatedPairs | None" = None

    def __post_init__(self) -> None:
        if len(set(self.related)) < 2:
            raise UserError(
                f"{self.name} has pairs of one kind only: give it some that belong together and some that do not"
            )

    @property
    def texts(self) -> list[str]:
        """All texts."""
        return [*self.first, *self.second]


@dataclass(frozen=True)
class PairClassification(PairCosines):
    """Average precision of cosines: pairs that belong together should have the highest ones."""

    statistic = "average_precision"
    data: RelatedPairs

    @property
    def gold(self) -> Array:
        return np.array(self.data.related, dtype=np.float64)

    def result(self, predictions: Array, embedder: Embedder) -> Result:
        items = np.stack([predictions, self.gold], axis=1)
        metrics = {"average_precision": average_precision(*items.T)}
        details = {"pairs": len(items), "related": int(sum(self.data.related))}
        return Result("average_precision", metrics, details, items, self.statistic)
