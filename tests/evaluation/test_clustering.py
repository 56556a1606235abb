import numpy as np
import pytest

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import ClusteredTexts, Clustering, Labelled
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.result import statistic_of, v_measure
from tests.evaluation.vectors import Given, Hashed

CLASSES = ["ant", "bee", "cow"]


def part(name, number):
    labels = [CLASSES[n % 3] for n in range(number)]
    return Labelled([f"{label} {name} {n}" for n, label in enumerate(labels)], labels)


DATA = ClusteredTexts("data", part("valid", 30), part("test", 90))


def slow_v_measure(clusters, classes):
    """Homogeneity and completeness by their definitions, and their harmonic mean."""

    def entropy(of, given):
        total = 0.0
        for other in set(given):
            inside = [x for x, y in zip(of, given, strict=True) if y == other]
            shares = [inside.count(x) / len(inside) for x in set(inside)]
            total -= len(inside) / len(of) * sum(share * np.log(share) for share in shares)
        return total

    nothing = [0] * len(classes)
    homogeneity = 1 - entropy(classes, clusters) / entropy(classes, nothing)
    completeness = 1 - entropy(clusters, classes) / entropy(clusters, nothing)
    return 2 * homogeneity * completeness / (homogeneity + completeness)


def test_the_v_measure_is_that_of_its_definition_and_symmetric():
    rng = np.random.default_rng(0)
    classes = rng.integers(4, size=200)
    clusters = np.where(rng.random(200) < 0.5, classes, rng.integers(6, size=200))
    assert v_measure(clusters, classes) == pytest.approx(slow_v_measure(clusters.tolist(), classes.tolist()))
    assert v_measure(clusters, classes) == pytest.approx(v_measure(classes, clusters))
    assert v_measure((classes + 1) % 4, classes) == pytest.approx(1)
    assert v_measure(np.zeros(200), classes) == 0


def test_classes_that_lie_together_are_found():
    result = Clustering(DATA)(Hashed(width=24))
    assert result.items.shape == (90, 2) and len(np.unique(result.items[:, 0])) == 3
    assert 0.1 < result.primary < 1
    assert result.primary == pytest.approx(statistic_of(result.items, result.statistic))
    mean = 2 / (1 / result.metrics["homogeneity"] + 1 / result.metrics["completeness"])
    assert result.primary == pytest.approx(mean)
    # Lengths say nothing, and directions everything.
    places = np.eye(3)
    vectors = {text: places[CLASSES.index(text[:3])] * (n + 1) for n, text in enumerate(Clustering(DATA).texts)}
    assert Clustering(DATA)(Given(vectors)).primary == pytest.approx(1)


def test_the_pooling_is_that_of_the_validation_texts():
    good = {text: np.eye(3)[CLASSES.index(text[:3])] for text in DATA.valid.texts}
    good |= {text: np.ones(3) for text in DATA.test.texts}
    bad = {text: np.ones(3) for text in DATA.valid.texts}
    bad |= {text: np.eye(3)[CLASSES.index(text[:3])] for text in DATA.test.texts}
    found = Poolings({"bad": Given(bad), "good": Given(good)}).evaluate({"clustering": Clustering(DATA)})["clustering"]
    assert (found.details["pooling"], found.primary) == ("good", 0)


def test_one_class_is_refused():
    with pytest.raises(UserError, match="the valid part of x has fewer than two classes"):
        ClusteredTexts("x", Labelled(["a", "b"], ["k", "k"]), DATA.test)
