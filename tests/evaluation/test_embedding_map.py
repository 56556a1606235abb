"""The map: neighbours stay neighbours, the same every time, and nothing is too small or too equal for it."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors as Neighbours

from ssl_nlp.evaluation import Geometry, Labelled, LabelledSplits, NearestNeighbours, Suite
from ssl_nlp.evaluation.embedding_map import embedding_map, lay_out
from ssl_nlp.evaluation.record import SuiteResult, read_suite, write_suite
from tests.evaluation.vectors import Hashed


def test_clusters_stay_apart():
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(3), 30)
    embeddings = 4 * np.eye(16)[classes] + 0.3 * generator.standard_normal((90, 16))
    points = lay_out(embeddings)
    assert points.shape == (90, 2) and points.dtype == np.float32
    nearest = Neighbours(n_neighbors=2).fit(points).kneighbors(points, return_distance=False)[:, 1]
    assert (classes[nearest] == classes).mean() > 0.95
    assert np.array_equal(points, lay_out(embeddings))


@pytest.mark.parametrize("number", [5, 40])
def test_equal_embeddings_are_one_point(number):
    assert np.array_equal(lay_out(np.ones((number, 8))), np.zeros((number, 2)))


def suite(number: int, paired: bool = False) -> Suite:
    texts = [f"w{i % 3} text {i}" for i in range(number)]
    part = Labelled(texts, [f"class {i % 3}" for i in range(number)], texts[::-1] if paired else None)
    return Suite("mine", {"knn": NearestNeighbours(LabelledSplits("mine", part, part, part))}, texts)


@pytest.mark.parametrize("paired", [False, True])
def test_a_suite_is_mapped_and_kept(paired, tmp_path):
    drawn = embedding_map(suite(40, paired), Hashed())
    assert drawn is not None and drawn.points.shape == (40, 2)
    assert sorted(drawn.labels) == sorted(f"class {i % 3}" for i in range(40))
    path = tmp_path / "evaluation.json"
    write_suite(path, {"checkpoint": None}, "mine", SuiteResult("key", {}, {}, drawn))
    write_suite(path, {"checkpoint": None}, "other", SuiteResult("key", {}))
    read = read_suite(path, "mine").map
    assert read is not None
    assert np.array_equal(read.points, drawn.points) and np.array_equal(read.labels, drawn.labels)
    assert read_suite(path, "other").map is None


def test_nothing_to_map():
    assert embedding_map(suite(4), Hashed()) is None
    assert embedding_map(Suite("mine", {"geometry": Geometry(["a b", "c d"])}, []), Hashed()) is None
    assert embedding_map(suite(700), Hashed()).points.shape == (600, 2)
