"""Simple classifiers on frozen embeddings."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.evaluator import Evaluator, Fit, Validated
from ssl_nlp.evaluation.result import Array, Result
from ssl_nlp.evaluation.vectors import Matrix, embed

NEIGHBOURS = 20
POWERS = range(-1, 3)
"""Powers of 10: C of the logistic regression times the mean squared length of a row, the same range for every width."""
ALLOWED = range(-5, 7)
"""The powers that are tried where one beyond `POWERS` may be better."""
TOLERANCE = 1e-8
"""Of the gradient of the mean loss, where a logistic regression has converged."""
ITERATIONS = 1000
"""At most, of Newton's method to get there."""
SEEDS = (0, 1, 2)
"""Seeds of the draws of few labels."""


@dataclass(frozen=True)
class Labelled:
    """Texts, or pairs of texts, with their classes."""

    texts: Sequence[str]
    labels: Sequence[str]
    pairs: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, number: int) -> "Labelled":
        """At most `number` of them."""
        return Labelled(self.texts[:number], self.labels[:number], self.pairs and self.pairs[:number])


@dataclass(frozen=True)
class LabelledSplits:
    """Labelled data in three parts: to learn from, to choose regularisation and pooling on, and to test on.

    Raises:
        UserError: a part is empty, there are fewer than two training labels, or another part has none of them.
    """

    name: str
    train: Labelled
    valid: Labelled
    test: Labelled

    def __post_init__(self) -> None:
        for part in ("train", "valid", "test"):
            if not len(getattr(self, part)):
                raise UserError(f"the {part} part of {self.name} is empty: give it labelled texts")
        if len(self.classes) < 2:
            raise UserError(f"{self.name} has only one class ({self.classes[0]!r}): classification needs two or more")
        for part in ("valid", "test"):
            found = sorted(set(getattr(self, part).labels))
            if set(found).isdisjoint(self.classes):
                raise UserError(
                    f"{self.name}: no label of the {part} part (such as {found[0]!r}) is a training label (such as "
                    f"{self.classes[0]!r}): check the files and the label field"
                )

    @cached_property
    def classes(self) -> list[str]:
        """The different training labels, sorted. An item of another class cannot be classified correctly."""
        return sorted(set(self.train.labels))

    @property
    def texts(self) -> list[str]:
        """All texts."""
        parts = [part for split in (self.train, self.valid, self.test) for part in (split.texts, split.pairs or [])]
        return [text for part in parts for text in part]


@dataclass(frozen=True)
class Classification(Evaluator):
    """An evaluator that predicts the classes of labelled data."""

    data: LabelledSplits

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        test = self.data.test
        return list(zip(test.texts, strict=True) if test.pairs is None else zip(test.texts, test.pairs, strict=True))

    @property
    def validation(self) -> "Classification":
        return replace(self, data=replace(self.data, test=self.data.valid))

    def result(self, predicted: Array) -> Result:
        """The metrics of predictions for the test items."""
        gold, classes = np.array(self.data.test.labels), self.data.classes
        precision, recall, _, support = precision_recall_fscore_support(
            gold, predicted, labels=classes, zero_division=0.0
        )
        numbers = zip(precision.tolist(), recall.tolist(), support.tolist(), strict=True)
        known = np.isin(gold, classes)
        details = {
            "classes": classes,
            "by_class": {
                name: {"precision": p, "recall": r, "support": n}
                for name, (p, r, n) in zip(classes, numbers, strict=True)
            },
            "confusion_matrix": confusion_matrix(gold[known], predicted[known], labels=classes).tolist()
            if known.any()
            else [],
        }
        metrics = {
            "accuracy": float(accuracy_score(gold, predicted)),
            "macro_f1": float(f1_score(gold, predicted, labels=classes, average="macro", zero_division=0.0)),
        }
        return Result("accuracy", metrics, details, (gold == predicted).astype(np.uint8))

    def majority(self) -> Result:
        """The metrics of always predicting the most frequent training class, which needs no embeddings."""
        names, counts = np.unique(np.array(self.data.train.labels), return_counts=True)
        return self.result(np.full(len(self.data.test), names[counts.argmax()]))


@dataclass(frozen=True)
class Classifier(Classification):
    """The features that the classifiers of embeddings share."""

    @property
    def texts(self) -> list[str]:
        return self.data.texts

    def features(self, embedder: Embedder, part: Labelled) -> Matrix:
        """(N, E): as `text_features`."""
        return text_features(embedder, part)


@dataclass(frozen=True)
class NearestNeighbours(Classifier, Validated):
    """The vote of the 20 training items with the highest cosine; a tie goes to the class that comes first."""

    def fit(self, embedder: Embedder) -> Fit:
        vote = KNeighborsClassifier(min(NEIGHBOURS, len(self.data.train)), metric="cosine", algorithm="brute")
        vote.fit(self.features(embedder, self.data.train), np.array(self.data.train.labels))
        return Fit(_accuracy(vote, self.features(embedder, self.data.valid), self.data.valid), vote)

    def test(self, embedder: Embedder, predictor: KNeighborsClassifier) -> Result:
        return self.result(predictor.predict(self.features(embedder, self.data.test)))


@dataclass(frozen=True)
class LinearProbe(Classifier, Validated):
    """Logistic regression on standardised embeddings; its regularisation has the highest accuracy on the valid part."""

    def fit(self, embedder: Embedder) -> Fit:
        train, valid = (self.features(embedder, part) for part in (self.data.train, self.data.valid))
        probe = fit_probe(train, np.array(self.data.train.labels), valid, np.array(self.data.valid.labels))
        return Fit(_accuracy(probe, valid, self.data.valid), probe)

    def test(self, embedder: Embedder, predictor: "Probe") -> Result:
        result = self.result(predictor.predict(self.features(embedder, self.data.test)))
        probe = {"C": predictor.regression.C, "C_at_edge": predictor.at_edge, "gradient": predictor.gradient}
        result.details.update(probe)
        return result


@dataclass(frozen=True)
class FewLabelProbe(Classifier):
    """The linear probe with `labels` training items of each class (or all, if there are fewer), averaged over draws."""

    labels: int

    @property
    def chooser(self) -> LinearProbe:
        return LinearProbe(self.data)

    def __call__(self, model: Embedder) -> Result:
        parts = (self.data.train, self.data.valid, self.data.test)
        train, valid, test = (self.features(model, part) for part in parts)
        y, y_valid = np.array(self.data.train.labels), np.array(self.data.valid.labels)
        probes: list[Probe] = []
        results, validation = [], []
        for seed in SEEDS:
            order = np.random.default_rng(seed).permutation(len(y))
            rows = np.concatenate([order[y[order] == name][: self.labels] for name in self.data.classes])
            probe = fit_probe(train[rows], y[rows], valid, y_valid)
            probes.append(probe)
            results.append(self.result(probe.predict(test)))
            validation.append(_accuracy(probe, valid, self.data.valid))
        means = {name: float(np.mean([r.metrics[name] for r in results])) for name in results[0].metrics}
        means["accuracy_std"] = float(np.std([r.metrics["accuracy"] for r in results], ddof=1))
        items = np.mean([r.items for r in results if r.items is not None], axis=0).astype(np.float32)
        details = {
            "draws": [r.metrics for r in results],
            "C": [probe.regression.C for probe in probes],
            "C_at_edge": [probe.at_edge for probe in probes],
            "gradient": [probe.gradient for probe in probes],
        }
        return Result("accuracy", means, details, items, validation=float(np.mean(validation)))


def text_features(embedder: Embedder, part: Labelled) -> Matrix:
    """(N, E): embeddings u or, for pairs, (u, v, |u - v|, u * v) (arXiv:1705.02364, section 3.1)."""
    u = embed(embedder, part.texts)
    if part.pairs is None:
        return u
    v = embed(embedder, part.pairs)
    if sparse.issparse(u):
        return sparse.hstack([u, v, abs(u - v), u.multiply(v)], format="csr")
    return np.hstack([u, v, np.abs(u - v), u * v])


def values_at_edge(result: Result) -> list[float]:
    """The C of those probes of a result for which the weakest or the strongest regularisation tried was best."""
    values, edges = (np.atleast_1d(result.details.get(key, [])).tolist() for key in ("C", "C_at_edge"))
    # Earlier versions recorded C of few-label probes without its edges.
    return [value for value, edge in zip(values, edges, strict=False) if edge]


def gradients_left(result: Result) -> list[float]:
    """Those gradients of the probes of a result that have not fallen to `TOLERANCE`: the fits have not converged."""
    return [value for value in np.atleast_1d(result.details.get("gradient", [])).tolist() if not value <= TOLERANCE]


DOUBTS: dict[str, Callable[[Result], list[float]]] = {
    "C is at the edge of the values tried": values_at_edge,
    f"the fit has not converged, the gradient is above {TOLERANCE:g}": gradients_left,
}
"""Reasons to doubt the probes of a result; each function gives the numbers of the probes concerned."""


def _accuracy(predictor: "KNeighborsClassifier | Probe", features: Matrix, part: Labelled) -> float:
    return float((predictor.predict(features) == np.array(part.labels)).mean())


@dataclass(frozen=True)
class Probe:
    """A logistic regression whose regularisation was chosen on validation data.

    Attributes:
        scaler: of the features; None leaves them as they are.
        regression: the fit.
        at_edge: whether its regularisation is the weakest or the strongest one that may be tried.
        gradient: of the mean loss with the penalty, its largest component. Above 1e-8, the fit has not converged.
    """

    scaler: StandardScaler | None
    regression: LogisticRegression
    at_edge: bool
    gradient: float

    def predict(self, features: Matrix) -> Array:
        """(N,): the class of each row."""
        found: Array = self.regression.predict(features if self.scaler is None else self.scaler.transform(features))
        return found


def fit_probe(x: Matrix, y: Array, x_valid: Matrix, y_valid: Array) -> Probe:
    """Logistic regression, regularised as is most accurate on the valid part; of equally good ones the strongest.

    Where the strongest or the weakest is best, further ones are tried as long as these are better. They are compared after
    fits to a gradient of 1e-4, and the best one goes on to 1e-8.

    Dense embeddings are standardised first. Those of TF-IDF stay as they are: a rare word would weigh the most.
    """
    scaler = None if sparse.issparse(x) else StandardScaler()
    if scaler is not None:
        x = scaler.fit_transform(x)
        x_valid = scaler.transform(x_valid)
    squares = float(x.multiply(x).sum() if sparse.issparse(x) else np.square(x).sum())
    length = max(squares / len(y), 1e-12)
    # On the thousands of sparse columns of TF-IDF, L-BFGS takes three times as long.
    solver = "newton-cg" if sparse.issparse(x) else "lbfgs"

    def fitted(power: int) -> tuple[int, LogisticRegression]:
        regression = LogisticRegression(C=10.0**power / length, max_iter=200, solver=solver).fit(x, y)
        return int((regression.predict(x_valid) == y_valid).sum()), regression

    # With one thread the result is the same on every number of cores, and problems this small gain little from more.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak regularisation of separable classes ends far away
        found = {power: fitted(power) for power in POWERS}
        best = max(found, key=lambda power: found[power][0])  # the first of equals
        for step in (-1, 1):
            while best + step not in found and best + step in ALLOWED:
                found[best + step] = fitted(best + step)
                if found[best + step][0] <= found[best][0]:
                    break
                best += step
        regression = found[best][1]
        # Near the optimum, Newton's steps gain far more digits than those of L-BFGS.
        regression.set_params(solver="newton-cg", tol=TOLERANCE, max_iter=ITERATIONS, warm_start=True).fit(x, y)
    return Probe(scaler, regression, best in (ALLOWED[0], ALLOWED[-1]), _gradient(regression, x, y))


def _gradient(regression: LogisticRegression, x: Matrix, y: Array) -> float:
    """The largest component of the gradient of the mean cross-entropy with the penalty."""
    missed = (regression.predict_proba(x) - (y[:, None] == regression.classes_)) / len(y)  # (N, K)
    missed = missed[:, -len(regression.coef_) :]  # two classes have the weights of the second alone
    weights = missed.T @ x + regression.coef_ / (regression.C * len(y))
    return float(max(np.abs(weights).max(), np.abs(missed.sum(axis=0)).max()))
