"""A map of the embeddings on a plane, to look at rather than to measure: similar texts lie near each other."""

from dataclasses import dataclass

import numpy as np
from sklearn.manifold import TSNE
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.classification import Classifier, Labelled
from ssl_nlp.evaluation.result import Array
from ssl_nlp.evaluation.suite import Suite, subset
from ssl_nlp.evaluation.vectors import Matrix

TEXTS = 600  # about two seconds on one core; a thousand take more than three
FEWEST = 5
PERPLEXITY = 30.0
SEED = 0


@dataclass(frozen=True)
class EmbeddingMap:
    """Places of test texts on a plane.

    Attributes:
        points: (N, 2) float32; directions and units have no meaning.
        labels: (N,) the class of each text.
    """

    points: Array
    labels: Array


def embedding_map(suite: Suite, embedder: Embedder) -> EmbeddingMap | None:
    """The map of at most 600 test texts (or pairs of them) of the first labelled data of a suite.

    None if nothing is labelled, or there are fewer than five test texts.
    """
    classifier = next((e for e in suite.evaluators.values() if isinstance(e, Classifier)), None)
    if classifier is None or len(classifier.data.test) < FEWEST:
        return None
    test = classifier.data.test
    rows = subset(range(len(test)), TEXTS, lambda row: f"{test.texts[row]}\n{test.pairs[row] if test.pairs else ''}")
    pairs = None if test.pairs is None else [test.pairs[row] for row in rows]
    shown = Labelled([test.texts[row] for row in rows], [test.labels[row] for row in rows], pairs)
    return EmbeddingMap(lay_out(classifier.features(embedder, shown)), np.array(shown.labels))


def lay_out(embeddings: Matrix) -> Array:
    """(N, 2) float32: t-SNE of cosines, started from the principal components (van der Maaten & Hinton, JMLR 9, 2008).

    Args:
        embeddings: (N, E), dense. If all of them are equal, so are the points.
    """
    unit = normalize(embeddings)
    if np.ptp(unit, axis=0).max() < 1e-6:
        return np.zeros((len(unit), 2), dtype=np.float32)
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    with threadpool_limits(1):  # sums in one order: the same map on every number of cores
        return TSNE(init="pca", perplexity=perplexity, random_state=SEED).fit_transform(unit).astype(np.float32)
