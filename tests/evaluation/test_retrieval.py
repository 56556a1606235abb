import numpy as np
import pytest
import torch
from torchmetrics.retrieval import RetrievalMRR, RetrievalRecall

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Retrieval, TextPairs
from ssl_nlp.evaluation.result import statistic_of
from tests.evaluation.vectors import Given, Hashed

QUERIES = [f"w{i % 40} query {i}" for i in range(150)]
ANSWERS = [f"w{i % 40} answer {i // 2}" for i in range(150)]  # some belong to two queries
DATA = TextPairs("pairs", QUERIES, ANSWERS)


def test_metrics_are_those_of_torchmetrics(monkeypatch):
    monkeypatch.setattr("ssl_nlp.evaluation.retrieval.CHUNK", 64)  # less than there are queries
    embedder = Hashed()
    candidates = list(dict.fromkeys(ANSWERS))
    queries, found = (torch.nn.functional.normalize(embedder.embed(t).double()) for t in (QUERIES, candidates))
    scores = 1 + queries @ found.T  # torchmetrics ignores scores that are not positive
    target = torch.tensor([[answer == candidate for candidate in candidates] for answer in ANSWERS])
    index = torch.arange(len(QUERIES)).unsqueeze(1).expand_as(scores)
    flat = {"preds": scores.flatten(), "target": target.flatten(), "indexes": index.flatten()}
    result = Retrieval(DATA)(embedder)
    assert result.primary == pytest.approx(float(RetrievalMRR(top_k=10)(**flat)))
    for k in (1, 10, 100):
        assert result.metrics[f"recall@{k}"] == pytest.approx(float(RetrievalRecall(top_k=k)(**flat)))
    assert 0.05 < result.primary < 0.9
    assert result.details["candidates"] == len(candidates)
    assert statistic_of(result.items, result.statistic) == pytest.approx(result.primary)


def test_collapsed_embeddings_find_nothing():
    vector = np.random.default_rng(0).normal(size=48)
    result = Retrieval(DATA)(Given(dict.fromkeys(DATA.texts, vector)))
    assert result.primary == result.metrics["recall@100"] == 0


def test_one_text_to_find_is_refused():
    with pytest.raises(UserError, match="no two different texts"):
        TextPairs("one", ["a", "b"], ["c", "c"])
