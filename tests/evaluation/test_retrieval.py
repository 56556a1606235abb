import math

import numpy as np
import pytest
import torch
from torchmetrics.retrieval import RetrievalMRR, RetrievalRecall

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import (
    Evaluator,
    JudgedRetrieval,
    Judgements,
    Result,
    Retrieval,
    SentenceSimilarity,
    TextPairs,
    WordSimilarity,
)
from ssl_nlp.evaluation.pooling import cross_fit
from ssl_nlp.evaluation.record import SuiteResult, read_suite, write_suite
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.evaluation.retrieval import query_metrics
from ssl_nlp.evaluation.run import grouped
from ssl_nlp.evaluation.similarity import ScoredPairs
from tests.evaluation.vectors import Given, Hashed

QUERIES = [f"w{i % 40} query {i}" for i in range(260)]
ANSWERS = [f"w{i // 2 * 2 % 40} answer {i // 2}" for i in range(260)]  # some belong to two queries
DATA = TextPairs("pairs", QUERIES, ANSWERS)


def test_metrics_are_those_of_torchmetrics(monkeypatch):
    monkeypatch.setattr("ssl_nlp.evaluation.retrieval.SCORES", 5000)  # less than there are
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


def slow_metrics(scores, gains, itself):
    """The metrics of one query, as their definitions read."""
    found = sorted((d for d in range(len(scores)) if d != itself), key=lambda d: (-round(scores[d], 9), d))

    def dcg(ranking):
        return sum(gain / math.log2(place + 1) for place, gain in enumerate(ranking[:10], start=1))

    ranking = [gains.get(document, 0) for document in found]
    first = next((place for place, gain in enumerate(ranking, start=1) if gain), 11)
    recalls = [sum(gain > 0 for gain in ranking[:k]) / len(gains) for k in (1, 10, 100)]
    return [dcg(ranking) / dcg(sorted(gains.values(), reverse=True)), 1 / first if first <= 10 else 0, *recalls]


def judged(number=130, queries=40):
    """Documents that begin like a query are often relevant to it."""
    rng = np.random.default_rng(0)
    gains = []
    for query in range(queries):
        weights = np.where(np.arange(number) % 9 == query % 9, 10, 1)
        relevant = rng.choice(number, 12, replace=False, p=weights / weights.sum())
        gains.append(dict(zip(relevant.tolist(), [3, 2, 1] * 4, strict=True)))
    own = [int(rng.choice([*set(range(number)) - set(one)])) if n % 3 else None for n, one in enumerate(gains)]
    documents = [f"w{n % 9} document {n}" for n in range(number)]
    return Judgements("judged", [f"w{n % 9} query {n}" for n in range(queries)], documents, gains, own)


def test_judged_metrics_are_those_of_a_slow_loop(monkeypatch):
    monkeypatch.setattr("ssl_nlp.evaluation.retrieval.SCORES", 1000)  # a few queries at a time
    data, embedder = judged(), Hashed()
    queries, documents = (embedder.embed(texts).double() for texts in (data.queries, data.documents))
    scores = torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(documents).T
    expected = np.array([slow_metrics(*given) for given in zip(scores.tolist(), data.gains, data.itself, strict=True)])
    result = JudgedRetrieval(data)(embedder)
    assert list(result.metrics.values()) == pytest.approx(expected.mean(axis=0))
    assert result.items == pytest.approx(expected[:, 0])
    assert 0.05 < result.primary < 0.9
    assert statistic_of(result.items, result.statistic) == pytest.approx(result.primary)


def test_queries_with_one_answer_are_a_group_also_in_the_record(tmp_path):
    evaluators = {"retrieval": Retrieval(DATA), "judged": JudgedRetrieval(judged())}
    found = grouped({name: evaluator(Hashed()) for name, evaluator in evaluators.items()}, evaluators)
    assert found["judged"].groups is None  # each query is there once
    path = tmp_path / "evaluation.json"
    write_suite(path, {"checkpoint": None}, "mine", SuiteResult("x", found, {"bm25": found}))
    read = read_suite(path, "mine")
    for results in (found, read.evaluators, read.baselines["bm25"]):
        groups = results["retrieval"].groups
        assert groups[:, 0].tolist() == [number // 2 for number in range(260)]
        assert len(set(groups[:, 1].tolist())) == 260
    items = dict(np.load(tmp_path / "evaluation_items.npz"))
    one = np.ones((260, 1), dtype=int)
    for name, wrong in (("/groups", one[0]), ("/groups", 1.5 * one), ("/groups", one[:9]), ("/groups", one.astype(str)),
                        ("", one[:, 0].astype(str)), ("/overlap", np.ones(3))):  # fmt: skip
        np.savez(tmp_path / "evaluation_items.npz", **items | {f"mine/retrieval{name}": wrong})
        with pytest.raises(UserError, match=r"evaluation_items.npz is broken \(the items of mine/retrieval\)"):
            read_suite(path, "mine")


def test_repeated_texts_of_pairs_and_words_are_groups():
    first, second = ([f"{name} {number}" for number in numbers] for name, numbers in
                     (("first", np.arange(30) // 3), ("second", np.arange(30) % 10)))  # fmt: skip
    for evaluator in (SentenceSimilarity, WordSimilarity):
        shared = evaluator(ScoredPairs("pairs", first, second, list(range(30)))).shared
        assert shared.shape == (30, 2) and len(np.unique(shared)) == 20


@pytest.mark.parametrize("texts", [[("a", "b", "c")] * 2, [("a",), ("a", "b")], [()] * 2, []])
def test_items_of_any_number_of_texts_have_nothing_in_common_unless_the_evaluator_says_so(texts):
    class Own(Evaluator):
        item_texts = texts

        def __call__(self, model):
            return Result("x", {"x": 1.0}, items=np.ones(2))

    own = Own()
    assert grouped({"own": own(None)}, {"own": own})["own"].groups is None


def test_each_query_has_the_embedding_that_is_best_on_the_other_half():
    data, good, bad = judged(), Hashed(), Given({text: np.ones(3) for text in JudgedRetrieval(judged()).texts})
    result, chosen = cross_fit(JudgedRetrieval(data), {"bad": bad, "good": good})
    assert chosen == ["good", "good"]
    assert result.metrics == JudgedRetrieval(data)(good).metrics


def test_the_best_and_the_first_place_have_known_values():
    gains = {4: 3, 7: 1, 9: 2}
    assert query_metrics([3, 2, 1, 0], gains) == [1, 1, 1 / 3, 1, 1]
    assert query_metrics([0] * 10 + [3], gains) == [0, 0, 0, 0, pytest.approx(1 / 3)]
    assert query_metrics([1], {0: 1})[1:3] == [1, 1]  # MRR@1 and recall@1 of one relevant document are precision at 1
    assert query_metrics([0, 1], {0: 1})[:2] == pytest.approx([1 / math.log2(3), 0.5])


def test_metrics_of_any_ranking_agree_with_each_other():
    rng = np.random.default_rng(0)
    for _ in range(300):
        size, relevant = int(rng.integers(1, 150)), int(rng.integers(1, 4))
        gains = {document: int(rng.integers(1, 4)) for document in range(relevant)}
        ranking = [gains.get(int(document), 0) for document in rng.permutation(max(size, relevant))]
        ndcg, mrr, *recalls = query_metrics(ranking[:100], gains)
        precision = float(ranking[0] > 0)  # at 1
        assert recalls[0] * relevant == pytest.approx(precision)
        assert (mrr == 1) == (precision == 1)
        assert recalls == sorted(recalls) and recalls[-1] <= 1
        assert 0 <= ndcg <= 1
        assert (mrr == 0) == (ndcg == 0) == (recalls[1] == 0)
        if relevant == 1:
            assert precision == recalls[0]
            assert ndcg == pytest.approx(1 / math.log2(1 + 1 / mrr) if mrr else 0)


def test_equal_scores_are_ranked_in_an_order_that_relevance_does_not_change():
    data = judged()
    collapsed = Given({text: np.ones(3) for text in JudgedRetrieval(data).texts})
    expected = np.array([slow_metrics([1.0] * 130, *given) for given in zip(data.gains, data.itself, strict=True)])
    result = JudgedRetrieval(data)(collapsed)
    assert list(result.metrics.values()) == pytest.approx(expected.mean(axis=0))
    assert result.metrics["recall@10"] == pytest.approx(10 / 130, abs=0.04)  # as by chance


class Backwards:
    """Finds the documents that come last."""

    def search_in(self, documents):
        return lambda queries: np.tile(np.arange(len(documents), dtype=float), (len(queries), 1))


def test_a_retriever_needs_no_vectors():
    last = Judgements("last", ["q"], ["a", "b", "c"], [{2: 1}], [None])
    assert JudgedRetrieval(last)(Backwards()).metrics["ndcg@10"] == 1
    assert Retrieval(TextPairs("pairs", ["p", "q"], ["a", "b"]))(Backwards()).metrics["mrr@10"] == 0.75


class Scored:
    """Finds by given scores (Q, D), of queries that are called by their numbers."""

    def __init__(self, scores):
        self.scores = scores

    def search_in(self, documents):
        return lambda queries: self.scores[[int(query) for query in queries]].copy()


def rankings(levels):
    """Random scores of 30 queries for 20 documents, their answers, and the results of pairs and of judgements.

    Args:
        levels: number of different scores; None: all differ.
    """
    for seed in range(10):
        rng = np.random.default_rng(seed)
        scores = rng.random((30, 20)) if levels is None else rng.integers(0, levels, (30, 20)) / levels
        answers = np.concatenate([rng.permutation(20), rng.integers(0, 20, 10)])
        names, queries = [f"document {place}" for place in range(20)], [str(query) for query in range(30)]
        pairs = TextPairs("pairs", queries, [names[place] for place in answers])
        gains = [{int(place): 1} for place in answers]
        order = list(dict.fromkeys(pairs.candidates))  # as `Retrieval` numbers its candidates
        columns = [names.index(name) for name in order]
        judged = Judgements("judged", queries, names, gains, [None] * 30)
        yield scores, answers, Retrieval(pairs)(Scored(scores[:, columns])), JudgedRetrieval(judged)(Scored(scores))


@pytest.mark.parametrize("levels", [None, 1, 2, 5])
def test_at_the_first_place_all_metrics_of_one_relevant_document_are_the_precision(levels):
    """MRR@1 and recall@1, whether the answer comes last among equal scores (pairs) or as the documents do (judgements)."""
    for scores, answers, paired, judged in rankings(levels):
        own = np.take_along_axis(scores, answers[:, None], axis=1)
        rank = (scores >= own).sum(axis=1)
        first = (rank == 1).mean()  # P@1
        assert paired.metrics["recall@1"] == pytest.approx(first)
        assert np.where(paired.items == 1, 1, 0).mean() == pytest.approx(first)  # MRR@1
        assert (scores.argmax(axis=1) == answers).mean() == pytest.approx(judged.metrics["recall@1"])
        for result in (paired, judged):
            metrics = result.metrics
            assert metrics["recall@1"] <= metrics["mrr@10"] <= metrics["recall@10"] <= metrics["recall@100"] <= 1
        assert judged.metrics["mrr@10"] <= judged.primary + 1e-12  # 1 / place <= 1 / log2(place + 1)
        if levels is None:
            assert {name: judged.metrics[name] for name in paired.metrics} == pytest.approx(paired.metrics)


def test_ndcg_at_one_is_the_precision_where_judgements_are_binary():
    rng = np.random.default_rng(0)
    for _ in range(100):
        gains = dict.fromkeys(rng.permutation(30)[: rng.integers(1, 10)].tolist(), 1)
        ranking = [gains.get(int(document), 0) for document in rng.permutation(30)]
        at_one = query_metrics(ranking[:1], {0: 1})  # the best first place has a gain of 1, as any relevant one
        precision = float(ranking[0])
        assert at_one[:3] == [precision] * 3
        assert query_metrics(ranking, gains)[2] == pytest.approx(precision / len(gains))


def test_judgements_without_anything_to_find_are_refused():
    with pytest.raises(UserError, match="fewer than two documents"):
        Judgements("x", ["q"], ["a"], [{0: 1}], [None])
    with pytest.raises(UserError, match="no query with a relevant document"):
        Judgements("x", [], ["a", "b"], [], [])
