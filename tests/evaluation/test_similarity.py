import math

import numpy as np
import pytest
from scipy import stats

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import ScoredPairs, SentenceSimilarity, WordSimilarity
from ssl_nlp.evaluation.result import statistic_of
from tests.evaluation.vectors import Given, Hashed

FIRST = [f"{'same' if i % 2 else 'one'} thing {i}" for i in range(40)]
SECOND = [f"{'same' if i % 3 else 'other'} text {i}" for i in range(40)]
SCORES = [float(i % 6) for i in range(40)]
DATA = ScoredPairs("pairs", FIRST, SECOND, SCORES)


def test_correlations_are_those_of_scipy_over_a_loop():
    embedder = Hashed()
    cosines = []
    for first, second in zip(FIRST, SECOND, strict=True):
        a, b = embedder.embed([first, second]).double().tolist()
        norm = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
        cosines.append(sum(x * y for x, y in zip(a, b, strict=True)) / norm)
    result = SentenceSimilarity(DATA)(embedder)
    assert result.primary == pytest.approx(stats.spearmanr(cosines, SCORES).statistic)
    assert result.metrics["pearson"] == pytest.approx(stats.pearsonr(cosines, SCORES).statistic)
    assert result.items == pytest.approx(np.array([cosines, SCORES]).T)
    assert statistic_of(result.items, result.statistic) == pytest.approx(result.primary)


def test_a_model_of_sentence_transformers_will_do():
    class Encoding:
        def encode(self, sentences):
            return Hashed().embed(sentences).numpy()

    assert SentenceSimilarity(DATA)(Encoding()).metrics == SentenceSimilarity(DATA)(Hashed()).metrics


def test_collapsed_embeddings_correlate_with_nothing():
    result = SentenceSimilarity(DATA)(Given({text: np.ones(4) for text in DATA.texts}))
    assert result.metrics == {"spearman": 0.0, "pearson": 0.0}


def test_cosines_that_differ_by_rounding_only_are_tied():
    generator = np.random.default_rng(0)
    vectors = {}
    for first, second in zip(FIRST, SECOND, strict=True):  # the same direction for all pairs, in other lengths
        vectors[first] = generator.normal(size=7)
        vectors[second] = vectors[first] * generator.uniform(0.1, 9)
    assert SentenceSimilarity(DATA)(Given(vectors)).metrics == {"spearman": 0.0, "pearson": 0.0}


def test_word_similarity_counts_the_words_it_knows():
    class Dictionary(Given):
        def covers(self, word):
            return word in self.vectors

    words = {"cat": [1.0, 0.0], "dog": [0.9, 0.1], "car": [0.0, 1.0], "bus": [0.2, 0.9]}
    embedder = Dictionary({word: np.array(vector) for word, vector in words.items()})
    pairs = [("cat", "dog", 9), ("car", "bus", 8), ("cat", "car", 1), ("dog", "bus", 2), ("cat", "quokka", 7)]
    result = WordSimilarity(ScoredPairs("words", *zip(*pairs, strict=True)))(embedder)
    assert result.metrics["coverage"] == 4 / 5
    assert result.details == {"pairs": 5, "covered_pairs": 4}
    expected = [
        np.dot(words[a], words[b]) / np.linalg.norm(words[a]) / np.linalg.norm(words[b]) for a, b, _ in pairs[:4]
    ]
    assert result.items[:4, 0] == pytest.approx(expected)
    assert np.isnan(result.items[4, 0])
    assert result.primary == pytest.approx(stats.spearmanr(expected, [9, 8, 1, 2]).statistic)
    assert statistic_of(result.items, result.statistic) == pytest.approx(result.primary)
    nothing = WordSimilarity(ScoredPairs("words", ["x", "y"], ["y", "z"], [1, 2]))(Dictionary({}))
    assert nothing.metrics == {"spearman": 0.0, "pearson": 0.0, "coverage": 0.0}


def test_scores_that_are_all_the_same_are_refused():
    with pytest.raises(UserError, match="have the same score"):
        ScoredPairs("flat", ["a", "b"], ["c", "d"], [3.0, 3.0])
