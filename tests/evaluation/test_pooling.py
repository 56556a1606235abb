"""The choice among poolings: by validation data or by the other half of the items, never by the items it is tested on."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from ssl_nlp.evaluation import (
    Evaluator,
    FewLabelProbe,
    Geometry,
    Labelled,
    LabelledSplits,
    LinearProbe,
    NearestNeighbours,
    Result,
    Retrieval,
    ScoredPairs,
    SentenceSimilarity,
    TextPairs,
)
from ssl_nlp.evaluation.evaluator import Fit, Validated
from ssl_nlp.evaluation.pooling import Poolings, cross_fit, halves
from ssl_nlp.evaluation.result import spearman, statistic_of
from tests.evaluation.vectors import Given, Hashed

CLASSES = ("ant", "bee", "cow")


def part(name, number):
    labels = np.random.default_rng(len(name)).choice(CLASSES, number)
    return Labelled([f"{label} {name} {i}" for i, label in enumerate(labels)], labels.tolist())


DATA = LabelledSplits("data", part("train", 90), part("val", 45), part("tests", 60))
NOISE = np.random.default_rng(0)


class Noise:
    """Vectors that say nothing of a text, but for some texts, of which they say as much as `Hashed`."""

    def __init__(self, known=()):
        self.known = set(known)

    def embed(self, texts):
        useful = Hashed().embed(texts)
        noise = Given({text: np.random.default_rng(len(text) * 7 + ord(text[-1])).normal(size=16) for text in texts})
        return torch.where(torch.tensor([[text in self.known] for text in texts]), useful, noise.embed(texts))


def test_the_better_one_on_validation_data_is_used_and_named():
    """As for a CausalLM, whose mean of states is better than its last state."""
    poolings = Poolings({"last": Noise(), "mean": Hashed()})
    evaluators = {"knn": NearestNeighbours(DATA), "probe": LinearProbe(DATA), "few": FewLabelProbe(DATA, 8)}
    results = poolings.evaluate(evaluators | {"geometry": Geometry(DATA.test.texts)})
    assert [result.details["pooling"] for result in results.values()] == ["mean"] * 4
    for name, evaluator in evaluators.items():
        assert results[name].metrics == evaluator(Hashed()).metrics
    assert poolings.favourite == "mean"


def test_no_label_of_the_test_part_changes_a_choice():
    """The last state knows the test texts alone; other labels of these change the scores, and no choice."""
    for test in (DATA.test, replace(DATA.test, labels=DATA.test.labels[::-1])):
        data = replace(DATA, test=test)
        tempting = Noise(data.test.texts)
        results = Poolings({"last": tempting, "mean": Hashed()}).evaluate(
            {"knn": NearestNeighbours(data), "probe": LinearProbe(data), "few": FewLabelProbe(data, 8)}
        )
        assert {result.details["pooling"] for result in results.values()} == {"mean"}


def test_the_first_of_equals_is_chosen():
    results = Poolings({"mean": Hashed(), "last": Hashed()}).evaluate({"probe": LinearProbe(DATA)})
    assert results["probe"].details["pooling"] == "mean"


def test_each_classifier_is_fitted_once_on_each_embedding(monkeypatch):
    fitted = []
    fit = LinearProbe.fit
    monkeypatch.setattr(LinearProbe, "fit", lambda self, embedder: (fitted.append(embedder), fit(self, embedder))[1])
    evaluators = {"few": FewLabelProbe(DATA, 8), "probe": LinearProbe(DATA), "fewer": FewLabelProbe(DATA, 4)}
    Poolings({"mean": Hashed(), "last": Noise()}).evaluate(evaluators)
    assert len(fitted) == 2


# ------------------------------------------------------------------------------------------- items without validation data

TEXTS = [f"w{i} query" for i in range(60)]
PAIRS = TextPairs("pairs", TEXTS, [f"w{i} answer" for i in range(60)])
RETRIEVAL = Retrieval(PAIRS)
HALF = halves(RETRIEVAL)


def knowing(rows):
    """Embeddings by which the queries of some rows find their texts, and others do not."""
    vectors = {text: Hashed().embed([text])[0].numpy() for text in PAIRS.answers}
    rng = np.random.default_rng(1)
    for i, query in enumerate(PAIRS.queries):
        vectors[query] = vectors[PAIRS.answers[i]] if rows[i] else rng.normal(size=16)
    return Given(vectors)


def test_halves_are_about_equal_and_keep_items_with_the_same_text_together():
    assert HALF.sum() == 30
    pairs = SentenceSimilarity(ScoredPairs("p", ["a", "b", "c", "a", "b", "d"], list("uvwxyz"), range(6)))
    half = halves(pairs)
    assert half.sum() == 3
    assert half[0] == half[3] and half[1] == half[4]


def test_each_half_is_scored_with_the_pooling_that_is_best_on_the_other_half():
    """Each pooling knows one half: chosen on one, it is tested on the other, where it knows nothing."""
    result, chosen = cross_fit(RETRIEVAL, {"mean": knowing(HALF), "last": knowing(~HALF)})
    assert chosen == ["last", "mean"]
    assert result.primary < 0.3
    both, chosen = cross_fit(RETRIEVAL, {"mean": knowing(HALF & False), "last": knowing(HALF | True)})
    assert chosen == ["last", "last"]
    assert both.primary == 1
    alone = RETRIEVAL(knowing(HALF | True))
    assert both.metrics == alone.metrics
    assert (both.items == alone.items).all()


def test_the_names_of_both_halves_are_told():
    embedders = {"mean": knowing(HALF), "last": knowing(~HALF)}
    result = Poolings(embedders).evaluate({"retrieval": RETRIEVAL})["retrieval"]
    assert result.details["pooling"] == "mean/last"


def test_cosines_of_two_poolings_are_ranked_within_their_halves():
    scores = NOISE.permutation(60).astype(float)
    data = ScoredPairs("pairs", TEXTS, [f"{text} other" for text in TEXTS], scores.tolist())
    evaluator = SentenceSimilarity(data)
    half = halves(evaluator)

    def cosines(known, low, high):
        """Cosines in [low, high] that follow the scores in the rows that are known, and contradict them elsewhere."""
        found = low + (high - low) * np.where(known, scores, 59 - scores) / 59
        vectors = {}
        for i, text in enumerate(TEXTS):
            vectors[text], vectors[f"{text} other"] = [1, 0], [found[i], np.sqrt(1 - found[i] ** 2)]
        return Given({text: np.array(vector) for text, vector in vectors.items()})

    # What is best on one half contradicts the other: an honest score is as bad as can be, although scales differ.
    result, chosen = cross_fit(evaluator, {"mean": cosines(half, 0.9, 1.0), "last": cosines(~half, 0.0, 0.1)})
    assert chosen == ["last", "mean"]
    expected = np.empty(60)
    for rows in (half, ~half):
        order = np.argsort(np.argsort(-scores[rows]))
        expected[rows] = (order + 1) / rows.sum()
    assert result.items[:, 0] == pytest.approx(expected)
    assert (
        result.primary
        == pytest.approx(spearman(expected, scores))
        == pytest.approx(statistic_of(result.items, "spearman"))
    )
    assert result.primary < -0.9


def test_one_item_or_one_text_is_no_reason_to_fail():
    same = SentenceSimilarity(ScoredPairs("p", ["a", "a"], ["b", "c"], [0, 1]))
    result, chosen = cross_fit(same, {"mean": Hashed(), "last": Noise()})
    assert chosen[0] == "mean"
    assert result.metrics.keys() == {"spearman", "pearson"}


@dataclass(frozen=True)
class Width(Evaluator):
    """Measures no quality."""

    def __call__(self, model):
        return Result("width", {"width": model.embed(["a"]).shape[1]})


def test_an_evaluator_that_measures_no_quality_gets_what_the_others_have_chosen():
    poolings = Poolings({"mean": Noise(), "own": Hashed(8)})
    results = poolings.evaluate({"width": Width(), "probe": LinearProbe(DATA)})
    assert list(results) == ["width", "probe"]
    assert results["width"].metrics == {"width": 8}
    assert results["width"].details["pooling"] == "own"
    alone = Poolings({"mean": Hashed(3), "own": Hashed(8)}).evaluate({"width": Width()})
    assert alone["width"].metrics == {"width": 3}


@dataclass(frozen=True)
class Quality(Validated):
    """Has the first number of an embedding as its validation."""

    held: Any

    def fit(self, embedder):
        return Fit(float(embedder.embed(["a"])[0, 0]), None)

    def test(self, embedder, predictor):
        return Result("number", {"number": float(embedder.embed(["a"])[0, 0])})


def test_a_pooling_whose_validation_is_not_a_number_is_the_worst():
    poolings = Poolings({"mean": Given({"a": [np.nan]}), "last": Given({"a": [-1.0]})})
    assert poolings.evaluate({"quality": Quality(None)})["quality"].details["pooling"] == "last"


def test_evaluators_may_hold_arrays():
    poolings = Poolings({"mean": Given({"a": [1.0]})})
    results = poolings.evaluate({"one": Quality(np.arange(2)), "two": Quality(np.ones(2))})
    assert [result.primary for result in results.values()] == [1, 1]
