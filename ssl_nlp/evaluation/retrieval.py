"""Retrieval: each query is to find the texts that belong to it among all others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.preprocessing import normalize

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder, Retriever
from ssl_nlp.evaluation.evaluator import CrossFitted
from ssl_nlp.evaluation.result import Array, Result, groups_of
from ssl_nlp.evaluation.vectors import all_cosines, embed

SCORES = 2**22  # scores of queries and documents that are in memory at a time
TIE = 1e-9  # scores that differ by less differ by rounding only
DEEPEST = 100  # places of a ranking that any metric looks at


@dataclass(frozen=True)
class TextPairs:
    """Queries, and the text that each is to find.

    Attributes:
        valid: other queries with their texts, for validation.

    Raises:
        UserError: there are fewer than two different texts to find.
    """

    name: str
    queries: Sequence[str]
    answers: Sequence[str]
    valid: "TextPairs | None" = None

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
    """Exact search by cosine: mean reciprocal rank at 10, and recall at 1, 10 and 100.

    Ties count against the text to find, so a collapse gains nothing.
    """

    ranked = True  # the predictions are ranks
    data: TextPairs

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        return [(text,) for text in self.data.answers]

    @property
    def shared(self) -> Array | None:
        """The answer, and the query, which may have several."""
        return groups_of(self.data.answers, self.data.queries)

    @property
    def groups(self) -> Sequence[str]:
        return self.data.answers

    def predictions(self, embedder: Embedder | Retriever) -> Array:
        """(Q,): the rank, from 1, of the text that each query is to find among all candidates."""
        place = {text: i for i, text in enumerate(self.data.candidates)}
        answers = np.array([place[text] for text in self.data.answers])
        ranks = []
        for rows, scores in scores_of(embedder, self.data.queries, self.data.candidates):
            own = np.take_along_axis(scores, answers[rows, None], axis=1)
            ranks.append((scores >= own - TIE).sum(axis=1))
        return np.concatenate(ranks)

    def quality(self, predictions: Array, rows: Array) -> float:
        return float(_reciprocal(predictions[rows]).mean()) if rows.any() else 0.0

    def result(self, predictions: Array, embedder: Embedder | Retriever) -> Result:
        reciprocal = _reciprocal(predictions)
        metrics = {"mrr@10": float(reciprocal.mean())}
        metrics |= {f"recall@{k}": float((predictions <= k).mean()) for k in (1, 10, 100)}
        details = {"candidates": len(self.data.candidates)}
        return Result("mrr@10", metrics, details, reciprocal.astype(np.float32))


def _reciprocal(ranks: Array) -> Array:
    return np.where(ranks <= 10, 1 / ranks, 0.0)


def scores_of(
    model: Embedder | Retriever, queries: Sequence[str], documents: Sequence[str]
) -> Iterator[tuple[slice, Array]]:
    """The scores (q, D) of D documents for some queries at a time: those of a retriever, or the cosines of embeddings.

    Yields:
        The rows of these queries among all, and their scores.
    """
    search = model.search_in(documents) if isinstance(model, Retriever) else _by_cosine(model, documents)
    number = max(1, SCORES // len(documents))
    for start in range(0, len(queries), number):
        rows = slice(start, min(start + number, len(queries)))
        yield rows, search(queries[rows])


def _by_cosine(embedder: Embedder, documents: Sequence[str]) -> Callable[[Sequence[str]], Array]:
    vectors = normalize(embed(embedder, documents))
    return lambda queries: all_cosines(normalize(embed(embedder, queries)), vectors)


# ------------------------------------------------------------------------------------------------------ with judgements


@dataclass(frozen=True)
class Judgements:
    """Queries, documents, and how relevant people find some of the documents to a query.

    Attributes:
        name: of the data set.
        queries: Q of them.
        documents: D different texts to search, in the order in which those of equal score are ranked.
        gains: for each query, how relevant a document is, above 0, by its place among `documents`; 0 for all others.
        itself: for each query, the place of the document that it is itself, which is no answer; None where there is none.
        valid: other queries with their judgements, for validation.

    Raises:
        UserError: there are fewer than two documents, or no query has a relevant one.
    """

    name: str
    queries: Sequence[str]
    documents: Sequence[str]
    gains: Sequence[Mapping[int, float]]
    itself: Sequence[int | None]
    valid: "Judgements | None" = None

    def __post_init__(self) -> None:
        if len(self.documents) < 2:
            raise UserError(f"{self.name} has fewer than two documents: retrieval needs at least two")
        if not self.queries:
            raise UserError(f"{self.name} has no query with a relevant document: judge one as 1 or more")

    @property
    def texts(self) -> list[str]:
        """All texts."""
        return [*self.queries, *self.documents]


@dataclass(frozen=True)
class JudgedRetrieval(CrossFitted):
    """Exact search by cosine among documents with judgements: nDCG@10, and MRR@10 and recall at 1, 10 and 100.

        nDCG@10 = DCG of the ranking / DCG of the best possible one,   DCG = Σ over places i to 10: gain_i / log2(i + 1)

    as trec_eval's `ndcg_cut` (Järvelin and Kekäläinen, ACM TOIS 20(4), 2002). Recall is the share of a query's relevant
    documents that are among the first k. Documents of equal score are ranked in the order of `Judgements`, which knows
    nothing of relevance, so a collapse ranks by chance. The items are the nDCG@10 of the queries.
    """

    ranked = True  # the predictions are metrics
    data: Judgements

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        """The documents to find, as in `Retrieval`."""
        return [tuple(self.data.documents[place] for place in gains) for gains in self.data.gains]

    @property
    def shared(self) -> Array | None:
        """The query."""
        return groups_of(self.data.queries)

    @property
    def groups(self) -> Sequence[str]:
        return self.data.queries

    def predictions(self, embedder: Embedder | Retriever) -> Array:
        """(Q, 5): the metrics of each query, in the order of `METRICS`."""
        found = []
        for rows, scores in scores_of(embedder, self.data.queries, self.data.documents):
            each = zip(scores, self.data.gains[rows], self.data.itself[rows], strict=True)
            for row, gains, itself in each:
                if itself is not None:
                    row[itself] = -np.inf
                found.append(query_metrics([gains.get(int(place), 0.0) for place in first_places(row)], gains))
        return np.array(found)

    def quality(self, predictions: Array, rows: Array) -> float:
        return float(predictions[rows, 0].mean()) if rows.any() else 0.0

    def result(self, predictions: Array, embedder: Embedder | Retriever) -> Result:
        metrics = dict(zip(METRICS, predictions.mean(axis=0).tolist(), strict=True))
        details = {"documents": len(self.data.documents), "queries": len(self.data.queries)}
        return Result("ndcg@10", metrics, details, predictions[:, 0].astype(np.float32))


METRICS = ("ndcg@10", "mrr@10", "recall@1", "recall@10", "recall@100")
_DISCOUNT = 1 / np.log2(np.arange(2, 12))


def first_places(scores: Array) -> Array:
    """The places of the 100 highest of the scores (D,), highest first, and those of equal scores in their own order."""
    scores = np.round(scores / TIE)
    number = min(DEEPEST, len(scores))
    kept = np.flatnonzero(scores >= np.partition(scores, -number)[-number])
    return kept[np.argsort(-scores[kept], kind="stable")][:number]


def query_metrics(ranking: Sequence[float], gains: Mapping[int, float]) -> list[float]:
    """The `METRICS` of one query.

    Args:
        ranking: the gains of the documents that were found, the first one first.
        gains: of all relevant documents.
    """
    found = np.array(ranking)
    best = np.sort([*gains.values()])[::-1][:10]
    places = np.flatnonzero(found)
    reciprocal = 1 / (places[0] + 1) if len(places) and places[0] < 10 else 0.0
    recalls = [float((places < k).sum()) / len(gains) for k in (1, 10, 100)]
    return [float(found[:10] @ _DISCOUNT[: len(found[:10])] / (best @ _DISCOUNT[: len(best)])), reciprocal, *recalls]
