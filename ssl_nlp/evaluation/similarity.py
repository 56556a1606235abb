"""Similarity: the cosine of two embeddings against how similar people find the two texts, or words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.pair_cosines import PairCosines, pair_cosines
from ssl_nlp.evaluation.result import Array, Result, groups_of, pearson, spearman
from ssl_nlp.evaluation.vectors import coverage_of


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of texts with human scores of their similarity, on any scale.

    Attributes:
        valid: other pairs, for validation.

    Raises:
        UserError: there are fewer than two different scores.
    """

    name: str
    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]
    valid: "ScoredPairs | None" = None

    def __post_init__(self) -> None:
        if len(set(self.scores)) < 2:
            raise UserError(
                f"all pairs of {self.name} have the same score, so nothing can correlate with it: give different scores"
            )

    @property
    def texts(self) -> list[str]:
        """All texts."""
        return [*self.first, *self.second]


@dataclass(frozen=True)
class _Similarity(PairCosines):
    """The parts that are the same for sentences and words."""

    statistic = "spearman"
    data: ScoredPairs

    @property
    def gold(self) -> Array:
        return np.array(self.data.scores, dtype=np.float64)


@dataclass(frozen=True)
class SentenceSimilarity(_Similarity):
    """Spearman's and Pearson's correlation of cosines with human scores."""

    def result(self, predictions: Array, embedder: Embedder) -> Result:
        items = np.stack([predictions, self.gold], axis=1)
        metrics = {"spearman": spearman(*items.T), "pearson": pearson(*items.T)}
        return Result("spearman", metrics, items=items, statistic=self.statistic)


@dataclass(frozen=True)
class WordSimilarity(_Similarity):
    """The correlation over the pairs of words that the embedder covers, and the share of words that it covers.

    An embedder without `covers` has an open vocabulary and covers all.
    """

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        return []  # words stand in training text anyway

    @property
    def shared(self) -> Array | None:
        """The two words."""
        return groups_of(self.data.first, self.data.second)

    def predictions(self, embedder: Embedder) -> Array:
        """(N,): the cosine of each pair; NaN if one of its words is not covered."""
        known = self._known(embedder)
        pairs = list(zip(self.data.first, self.data.second, strict=True))
        rows = [i for i, (a, b) in enumerate(pairs) if a in known and b in known]
        found = np.full(len(pairs), np.nan)
        if rows:
            first, second = ([side[i] for i in rows] for side in (self.data.first, self.data.second))
            found[rows] = pair_cosines(embedder, first, second)
        return found

    def result(self, predictions: Array, embedder: Embedder) -> Result:
        rows = ~np.isnan(predictions)
        items = np.stack([predictions, self.gold], axis=1)
        metrics = {
            "spearman": spearman(*items[rows].T),
            "pearson": pearson(*items[rows].T),
            "coverage": len(self._known(embedder)) / len(set(self.data.texts)),
        }
        details = {"pairs": len(items), "covered_pairs": int(rows.sum())}
        return Result("spearman", metrics, details, items, self.statistic)

    def _known(self, embedder: Embedder) -> set[str]:
        return set(filter(coverage_of(embedder), set(self.data.texts)))
