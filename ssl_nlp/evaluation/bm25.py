"""BM25, the usual baseline of retrieval: which words of a query a document has, and how often.

    score(q, d) = Σ over the words t of q:  idf(t) · f / (f + k1 (1 - b + b |d| / L))
    idf(t)      = ln(1 + (N - n + 0.5) / (n + 0.5))

f is how often t is in d, |d| the number of words of d, L the mean of |d|, N the number of documents, and n the number of
those that hold t (Robertson and Zaragoza, Foundations and Trends in Information Retrieval 3(4), 2009; the idf, and no
factor k1 + 1, are those of Lucene since version 8). Lucene rounds lengths to a byte; here they are exact.

N, n and L are counted on the documents that are searched, as in every search engine. Queries and judgements are not used.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from ssl_nlp.evaluation.baselines import Unit, split_into
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.result import Array

K1 = 1.2
B = 0.75


class BM25:
    """A retriever that counts words.

    Args:
        unit: words, or single characters and pairs of them.
        k1: the smaller it is, the less do repetitions of a word count.
        b: how much long documents are held back, from 0 to 1.
    """

    def __init__(self, unit: Unit = "words", k1: float = K1, b: float = B) -> None:
        self.unit: Unit = unit
        self.k1, self.b = k1, b

    def search_in(self, documents: Sequence[str]) -> Callable[[Sequence[str]], Array]:
        """A function from Q queries to the scores (Q, N) of N documents, float64."""
        counter = CountVectorizer(analyzer=lambda text: split_into(self.unit, text), dtype=np.float64)
        try:
            counts = sparse.csr_array(counter.fit_transform(documents))
        except ValueError:  # no document has a word
            return lambda queries: np.zeros((len(queries), len(documents)))
        number, lengths = len(documents), counts.sum(axis=1)
        found = np.bincount(counts.indices, minlength=counts.shape[1])
        idf = np.log1p((number - found + 0.5) / (found + 0.5))
        damping = self.k1 * (1 - self.b + self.b * lengths / lengths.mean())
        rows = np.repeat(np.arange(number), np.diff(counts.indptr))
        counts.data = idf[counts.indices] * counts.data / (counts.data + damping[rows])
        weights = counts.T.tocsr()
        return lambda queries: (counter.transform(queries) @ weights).toarray()


def bm25() -> Poolings:
    """BM25 of words or of characters, chosen as methods choose a pooling."""
    retrievers: dict[str, Any] = {"words": BM25(), "characters": BM25("characters")}  # in the place of embedders
    return Poolings(retrievers, "unit")
