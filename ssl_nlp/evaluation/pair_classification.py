"""Pair classification: whether the cosine of two embeddings tells pairs that belong together from others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.evaluator import CrossFitted
from ssl_nlp.evaluation.result import Array, Result, average_precision
from ssl_nlp.evaluation.vectors import cosines, embed


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
class PairClassification(CrossFitted):
    """Average precision of cosines: pairs that belong together should have the highest ones."""

    ranked = False
    data: RelatedPairs

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        return list(zip(self.data.first, self.data.second, strict=True))

    @property
    def groups(self) -> Sequence[str]:
        return self.data.first

    def predictions(self, embedder: Embedder) -> Array:
        """(N,): the cosine of each pair; those that differ by rounding only are equal."""
        return np.round(cosines(embed(embedder, self.data.first), embed(embedder, self.data.second)), 9)

    def quality(self, predictions: Array, rows: Array) -> float:
        return average_precision(predictions[rows], np.array(self.data.related)[rows])

    def result(self, predictions: Array, embedder: Embedder) -> Result:
        items = np.stack([predictions, np.array(self.data.related, dtype=np.float64)], axis=1)
        metrics = {"average_precision": average_precision(*items.T)}
        details = {"pairs": len(items), "related": int(sum(self.data.related))}
        return Result("average_precision", metrics, details, items, "average_precision")
