import math

import numpy as np
import pytest

from ssl_nlp.evaluation import BM25, Retrieval, TextPairs
from ssl_nlp.evaluation.bm25 import bm25

DOCUMENTS = ["The dog sees the cat.", "a bird", "The bird hears the dog and the other dog.", "", "numpy.array of birds"]
QUERIES = ["the dog dog", "bird", "nobody knows these", "", "an array"]


def slow_score(query, document, documents, k1, b):
    """The formula, word by word."""
    split = [text.lower().replace(".", " ").split() for text in documents]
    mean = sum(map(len, split)) / len(split)
    words, total = document.lower().replace(".", " ").split(), 0.0
    for word in query.lower().split():
        holding = sum(word in other for other in split)
        idf = math.log(1 + (len(split) - holding + 0.5) / (holding + 0.5))
        count = words.count(word)
        total += idf * count / (count + k1 * (1 - b + b * len(words) / mean))
    return total


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (2.0, 0.0)])
def test_scores_are_those_of_the_formula(k1, b):
    expected = [[slow_score(query, text, DOCUMENTS, k1, b) for text in DOCUMENTS] for query in QUERIES]
    found = BM25(k1=k1, b=b).search_in(DOCUMENTS)(QUERIES)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert found[0].argmax() == 2 and not found[2:4].any()


def test_documents_without_a_word_are_no_failure():
    assert not BM25().search_in(["...", ""])(["a dog"]).any()


def test_it_stands_beside_models_with_the_unit_that_suits_the_text():
    pairs = {
        "words": TextPairs("w", [f"word{n} is here" for n in range(8)], [f"that is word{n}" for n in range(8)]),
        "characters": TextPairs("c", [2 * x + "--" for x in "abcdefgh"], [3 * x + "++" for x in "abcdefgh"]),
    }
    for unit, data in pairs.items():
        result = bm25().evaluate({"retrieval": Retrieval(data)})["retrieval"]
        assert (result.primary, result.details["unit"]) == (1, unit)
