import numpy as np
import pytest

from ssl_nlp.evaluation import Geometry
from ssl_nlp.objectives.geometry import alignment, effective_rank, embedding_spread, uniformity
from tests.evaluation.vectors import Given, Hashed

TEXTS = [f"w{i % 7} text {i}" for i in range(60)]
PAIRS = [(TEXTS[i], TEXTS[i + 7]) for i in range(20)]


def test_numbers_are_those_of_the_embeddings():
    embedder = Hashed()
    x = embedder.embed(TEXTS)
    result = Geometry(TEXTS, PAIRS)(embedder)
    assert result.primary == pytest.approx(float(effective_rank(x)), rel=1e-5)
    assert result.metrics["uniformity"] == pytest.approx(float(uniformity(x)), rel=1e-5)
    assert result.metrics["embedding_spread"] == pytest.approx(float(embedding_spread(x)), rel=1e-5)
    expected = alignment(embedder.embed([a for a, _ in PAIRS]), embedder.embed([b for _, b in PAIRS]))
    assert result.metrics["alignment"] == pytest.approx(float(expected), rel=1e-5)
    units = x.double().numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    cosines = [units[i] @ units[j] for i in range(60) for j in range(60) if i != j]
    assert result.metrics["mean_cosine"] == pytest.approx(np.mean(cosines), rel=1e-4)
    assert result.metrics["dimension_std"] == pytest.approx(x.numpy().std(axis=0, ddof=1).mean(), rel=1e-5)
    assert result.details["width"] == 16


def test_a_collapse_shows():
    result = Geometry(TEXTS)(Given({text: np.ones(8) for text in TEXTS}))
    assert result.metrics == pytest.approx(
        {
            "effective_rank": 1.0,
            "uniformity": 0.0,
            "mean_cosine": 1.0,
            "embedding_spread": 0.0,
            "dimension_std": 0.0,
        },
        abs=1e-6,
    )
