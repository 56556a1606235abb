"""Analogies beside a slow loop, gensim, and what must not count as found."""

import math

import numpy as np
import pytest
from gensim.models import KeyedVectors

from ssl_nlp.comparison.intervals import score_interval
from ssl_nlp.comparison.statistics import Differences, Sample
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Analogies, WordAnalogies
from ssl_nlp.evaluation.analogies import read_analogies
from ssl_nlp.evaluation.pooling import cross_fit
from ssl_nlp.evaluation.result import statistic_of
from tests.evaluation.vectors import Given

LINES = [
    ": capitals",
    "Athens Greece Baghdad Iraq",
    "Baghdad Iraq Athens Greece",
    "Athens Greece Oslo Norway",
    ": family",
    "boy girl king queen",
    "",
    "king queen boy girl",
]
DATA = WordAnalogies(
    "made",
    {
        "capitals": [tuple(line.split()) for line in LINES[1:4]],
        "family": [tuple(line.split()) for line in (LINES[5], LINES[7])],
    },
    ["prince", "tree"],
)


class Dictionary(Given):
    def covers(self, word: str) -> bool:
        return word in self.vectors


def vectors(seed: int) -> Dictionary:
    """Pairs of words a little more than half of which differ alike; nothing is known of Norway."""
    rng = np.random.default_rng(seed)
    known = [word for word in DATA.texts if word != "Norway"]
    embedder = Dictionary({word: rng.normal(size=4) for word in known})
    for words in DATA.items:
        if {*words} <= {*known}:
            a, b, c, _ = (embedder.vectors[word] for word in words)
            embedder.vectors[words[3]] = b - a + c + 0.4 * rng.normal(size=4)
    return embedder


def unit(vector: np.ndarray) -> list[float]:
    norm = math.sqrt(sum(x * x for x in vector))
    return [float(x) / norm for x in vector]


def slowly(embedder: Dictionary, words: tuple[str, str, str, str]) -> float:
    """The definition, candidate by candidate."""
    if not all(map(embedder.covers, words)):
        return math.nan
    known = {word: unit(vector.astype(np.float32)) for word, vector in embedder.vectors.items()}
    a, b, c = (known[word] for word in words[:3])
    target = [y - x + z for x, y, z in zip(a, b, c, strict=True)]
    candidates = {word for word in known if word not in words[:3]}
    return float(
        max(candidates, key=lambda word: sum(x * y for x, y in zip(known[word], target, strict=True))) == words[3]
    )


def test_the_nearest_candidate_is_that_of_a_loop():
    found = []
    for seed in range(20):
        embedder = vectors(seed)
        expected = [slowly(embedder, words) for words in DATA.items]
        result = Analogies(DATA)(embedder)
        np.testing.assert_array_equal(result.items, np.array(expected, dtype=np.float32))
        known = [one for one in expected if not math.isnan(one)]
        assert result.metrics == {"accuracy": sum(known) / 4, "coverage": 4 / 5}
        assert statistic_of(result.items, result.statistic) == result.primary
        categories = result.details["categories"]
        assert categories["capitals"] == {"accuracy": sum(known[:2]) / 2, "analogies": 3, "covered": 2}
        assert categories["family"] == {"accuracy": sum(known[2:]) / 2, "analogies": 2, "covered": 2}
        assert result.details["candidates"] == 12
        found += known
    assert 0.2 < sum(found) / len(found) < 0.9  # some are found and some are not


def test_gensim_finds_as_many():
    embedder = vectors(3)
    keyed = KeyedVectors(4)
    keyed.add_vectors(list(embedder.vectors), np.stack(list(embedder.vectors.values())).astype(np.float32))
    for words in DATA.items:
        if {*words} <= embedder.vectors.keys():
            [(nearest, _)] = keyed.most_similar(positive=[words[1], words[2]], negative=[words[0]], topn=1)
            assert slowly(embedder, words) == (nearest == words[3])


def test_neither_the_words_of_the_question_nor_ties_are_found():
    words = {"a": [1.0, 0.0], "b": [1.0, 0.1], "c": [0.0, 1.0], "d": [0.1, 1.0], "e": [1.0, 1.0]}
    embedder = Given({word: np.array(vector) for word, vector in words.items()})
    found = Analogies(WordAnalogies("x", {"": [("a", "b", "c", "d"), ("a", "b", "c", "b"), ("a", "b", "c", "e")]}))(
        embedder
    )
    assert found.items.tolist() == [1, 0, 0]
    collapsed = Given({word: np.ones(2) for word in words})
    assert Analogies(WordAnalogies("x", {"": [("a", "b", "c", "d")]}, ["e"]))(collapsed).primary == 0


def test_words_that_no_embedder_covers_give_no_accuracy():
    result = Analogies(DATA)(Dictionary({}))
    assert result.metrics == {"accuracy": 0.0, "coverage": 0.0}
    assert statistic_of(result.items, result.statistic) == 0


def test_poolings_are_cross_fitted_and_intervals_leave_out_what_is_not_covered():
    embedders = {"good": vectors(0), "bad": Dictionary({word: np.ones(4) for word in vectors(0).vectors})}
    result, best = cross_fit(Analogies(DATA), embedders)
    assert best == ["good", "good"]
    assert result.items.tolist()[2] != result.items.tolist()[2]  # NaN
    sample = Sample(np.array([result.primary]), (result.items,), result.statistic, varies=False)
    low, high = score_interval(result.items, result.statistic)
    assert low <= result.primary <= high
    assert Differences([sample, sample]).uncertainty(0, 1).reach(0.95) == 0


def test_questions_with_a_pair_of_words_in_common_vary_together():
    """Two pairs each: Athens and Baghdad twice, Athens and Oslo; boy and king twice."""
    assert Analogies(DATA).shared.tolist() == [[0, 1], [1, 0], [0, 4], [2, 3], [3, 2]]


def test_files_are_read_in_the_format_of_word2vec(tmp_path):
    for name, lines in (("a.txt", LINES[:4]), ("b.txt", LINES[4:])):
        (tmp_path / name).write_text("\n".join(lines))
    assert read_analogies("made", [tmp_path / "a.txt", tmp_path / "b.txt"], ["prince", "tree"]) == DATA


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (": x\na b c", "a.txt, line 2 has 3 words: an analogy has four"),
        ("a b c d", "a.txt, line 1 is in no category"),
        (": x", "made has no analogies"),
    ],
)
def test_files_without_analogies_are_refused(text, complaint, tmp_path):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_analogies("made", [tmp_path / "a.txt"])
