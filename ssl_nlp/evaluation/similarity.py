"""Does the cosine of two embeddings say how similar people find the two texts, or words?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import Embedder, Result, pearson, spearman
from ssl_nlp.evaluation.vectors import cosines, embed


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of texts and how similar people found them, on any scale.

    Raises:
        UserError: fewer than two pairs, or scores that are all the same.
    """

    name: str
    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]

    def __post_init__(self) -> None:
        if len(set(self.scores)) < 2:
            raise UserError(f"{self.name} has no two pairs with different scores: nothing can correlate with them")

    @property
    def texts(self) -> list[str]:
        """All of them."""
        return [*self.first, *self.second]


@dataclass(frozen=True)
class SentenceSimilarity:
    """Spearman's and Pearson's correlation of cosines with human scores."""

    data: ScoredPairs

    @property
    def texts(self) -> list[str]:
        return self.data.texts

    def __call__(self, embedder: Embedder) -> Result:
        predicted = cosines(embed(embedder, self.data.first), embed(embedder, self.data.second))
        items = np.stack([predicted, np.array(self.data.scores, dtype=np.float64)], axis=1)
        metrics = {"spearman": spearman(*items.T), "pearson": pearson(*items.T)}
        return Result("spearman", metrics, items=items, statistic="spearman")


@dataclass(frozen=True)
class WordSimilarity:
    """The correlation over the pairs of words that the embedder covers, and the share of words that it covers.

    An embedder without `covers` has an open vocabulary and covers all.
    """

    data: ScoredPairs

    @property
    def texts(self) -> list[str]:
        return self.data.texts

    def __call__(self, embedder: Embedder) -> Result:
        words = set(self.data.texts)
        covers = getattr(embedder, "covers", lambda word: True)
        known = {word for word in words if covers(word)}
        pairs = list(zip(self.data.first, self.data.second, strict=True))
        rows = [i for i, (a, b) in enumerate(pairs) if a in known and b in known]
        items = np.stack([np.full(len(pairs), np.nan), np.array(self.data.scores, dtype=np.float64)], axis=1)
        if rows:
            first, second = ([side[i] for i in rows] for side in (self.data.first, self.data.second))
            items[rows, 0] = cosines(embed(embedder, first), embed(embedder, second))
        metrics = {
            "spearman": spearman(*items[rows].T),
            "pearson": pearson(*items[rows].T),
            "coverage": len(known) / len(words),
        }
        return Result("spearman", metrics, {"pairs": len(pairs), "covered_pairs": len(rows)}, items, "spearman")
