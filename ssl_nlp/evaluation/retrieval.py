"""Retrieval: each text is to find the one that belongs to it among all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.preprocessing import normalize

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.evaluator import CrossFitted
from ssl_nlp.evaluation.result import Array, Result
from ssl_nlp.evaluation.vectors import Matrix, all_cosines, embed

CHUNK = 512  # queries whose cosines are in memory at a time
TIE = 1e-9  # cosines that differ by less differ by rounding only


@dataclass(frozen=True)
class TextPairs:
    """Queries, and the text that each is to find.

    Raises:
        UserError: there are fewer than two different texts to find.
    """

    name: str
    queries: Sequence[str]
    answers: Sequence[str]

    def __post_init__(self) -> None:
        if len(set(self.answers)) < 2:
            raise UserError(f"{self.name} has no two different texts to find: retrieval needs at least two")

    @property
    def texts(self) -> list[str]:
        """All texts."""
        return [*self.queries, *self.answers]

    @cached_property
    def candidates(self) -> list[str]:
        """The texts to find, each once."""
        return list(dict.fromkeys(self.answers))


@dataclass(frozen=True)
class Retrieval(CrossFitted):
    """Exact search by cosine: mean reciprocal rank at 10, and recall at 1, 10 and 100."""

    ranked = True  # the predictions are ranks
    data: TextPairs

    @property
    def texts(self) -> list[str]:
        return self.data.texts

    @property
    def groups(self) -> Sequence[str]:
        return self.data.answers

    def predictions(self, embedder: Embedder) -> Array:
        """(Q,): the rank of the text that each query is to find among all candidates."""
        place = {text: i for i, text in enumerate(self.data.candidates)}
        answers = np.array([place[text] for text in self.data.answers])
        return ranks_of(embed(embedder, self.data.queries), embed(embedder, self.data.candidates), answers)

    def quality(self, predictions: Array, rows: Array) -> float:
        return float(_reciprocal(predictions[rows]).mean()) if rows.any() else 0.0

    def result(self, predictions: Array, embedder: Embedder) -> Result:
        reciprocal = _reciprocal(predictions)
        metrics = {"mrr@10": float(reciprocal.mean())}
        metrics |= {f"recall@{k}": float((predictions <= k).mean()) for k in (1, 10, 100)}
        details = {"candidates": len(self.data.candidates)}
        return Result("mrr@10", metrics, details, reciprocal.astype(np.float32))


def _reciprocal(ranks: Array) -> Array:
    return np.where(ranks <= 10, 1 / ranks, 0.0)


def ranks_of(queries: Matrix, candidates: Matrix, answers: Array) -> Array:
    """(Q,): the rank, from 1, of each query's text by cosine. Ties count against it, so a collapse gains nothing.

    Args:
        queries: (Q, E).
        candidates: (C, E).
        answers: (Q,), the row of `candidates` that each query is to find.
    """
    queries, candidates = normalize(queries), normalize(candidates)
    ranks = []
    for start in range(0, len(answers), CHUNK):
        found = all_cosines(queries[start : start + CHUNK], candidates)
        own = np.take_along_axis(found, answers[start : start + CHUNK, None], axis=1)
        ranks.append((found >= own - TIE).sum(axis=1))
    return np.concatenate(ranks)
