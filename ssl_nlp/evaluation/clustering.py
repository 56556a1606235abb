"""Clustering: whether texts of one class lie together, without a label to learn from."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import completeness_score, homogeneity_score
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.classification import Labelled
from ssl_nlp.evaluation.evaluator import Fit, Validated
from ssl_nlp.evaluation.result import Array, Result, v_measure
from ssl_nlp.evaluation.vectors import embed

STARTS = 10
SEED = 0


@dataclass(frozen=True)
class ClusteredTexts:
    """Texts with classes in two parts: to choose a pooling on, and to test on.

    Raises:
        UserError: a part has fewer than two classes.
    """

    name: str
    valid: Labelled
    test: Labelled

    def __post_init__(self) -> None:
        for part in ("valid", "test"):
            if len(set(getattr(self, part).labels)) < 2:
                raise UserError(
                    f"the {part} part of {self.name} has fewer than two classes: clustering needs two or more"
                )


@dataclass(frozen=True)
class Clustering(Validated):
    """V-measure of k-means on embeddings of length 1, with as many clusters as there are classes.

    Of 10 starts (k-means++, seed 0), the one with the least sum of squares counts. Validation texts are clustered by
    themselves and serve to choose the pooling.
    """

    data: ClusteredTexts

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        return [(text,) for text in self.data.test.texts]

    @property
    def validation(self) -> "Clustering":
        return replace(self, data=replace(self.data, test=self.data.valid))

    @property
    def texts(self) -> list[str]:
        return [*self.data.valid.texts, *self.data.test.texts]

    def fit(self, embedder: Embedder) -> Fit:
        return Fit(v_measure(*_clusters_and_classes(embedder, self.data.valid)), None)

    def test(self, embedder: Embedder, predictor: None) -> Result:
        clusters, classes = _clusters_and_classes(embedder, self.data.test)
        metrics = {
            "v_measure": v_measure(clusters, classes),
            "homogeneity": float(homogeneity_score(classes, clusters)),
            "completeness": float(completeness_score(classes, clusters)),
        }
        details = {"clusters": int(classes.max()) + 1, "starts": STARTS, "seed": SEED}
        return Result("v_measure", metrics, details, np.stack([clusters, classes], axis=1), "v_measure")


def _clusters_and_classes(embedder: Embedder, part: Labelled) -> tuple[Array, Array]:
    """The number of the cluster and of the class of each text, each (N,)."""
    names, classes = np.unique(part.labels, return_inverse=True)
    # With one thread sums have one order: the same clusters on every number of cores.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different embeddings than clusters
        means = KMeans(len(names), n_init=STARTS, random_state=SEED)
        return means.fit_predict(normalize(embed(embedder, part.texts))), classes
