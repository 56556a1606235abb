"""The overlap of evaluated items with the text that a model was trained on."""

import numpy as np
import pytest

from ssl_nlp.commands.learned_baselines import LearnedTexts
from ssl_nlp.commands.overlaps import Overlaps
from ssl_nlp.evaluation import Result, Suite, overlap
from ssl_nlp.evaluation.language_modelling import LanguageModelling
from ssl_nlp.evaluation.result import statistic_of

SEEN = "one two three four five six seven eight nine"
HALF = "one two three four five six seven eight never seen or heard of before anywhere"
NEW = "nothing of this text has been in any other text before"


def test_items_of_training_text_are_named_and_the_score_without_them_is_that_of_the_others(monkeypatch):
    suite = Suite("mine", {"language_modelling": LanguageModelling([SEEN, HALF, NEW])}, [])
    items = np.array([[1.0, 4.0], [8.0, 4.0], [12.0, 4.0]])
    results = {"language_modelling": Result("bits_per_byte", {"bits_per_byte": 1.75}, {}, items, "ratio")}
    overlaps = Overlaps(suite)
    [found] = overlaps.added(results, LearnedTexts([SEEN.upper() + "!"])).values()
    assert found.overlap.tolist() == pytest.approx([1, 8 / 15, 0])
    assert (found.covered, found.uncovered) == (pytest.approx(1 / 3), statistic_of(items[1:], "ratio"))
    [of_part] = overlaps.added(
        {"causal.language_modelling": results["language_modelling"]}, LearnedTexts([SEEN])
    ).values()
    assert of_part.covered == found.covered
    assert found.details == of_part.details == {}
    # Text that nobody knows has no overlap, and where everything is covered there is no other score.
    assert overlaps.added(results, None) == results
    [all_seen] = overlaps.added(results, LearnedTexts([SEEN, HALF, NEW])).values()
    assert (all_seen.covered, all_seen.uncovered) == (1.0, None)
    # Text of which only the beginning is read is named as such.
    [of_beginning] = Overlaps(suite).added(results, LearnedTexts([SEEN], cut=True)).values()
    assert of_beginning.details == {"overlap_with": "first 1 texts"}
    monkeypatch.setattr(overlap, "MOST_WORDS", 9)
    [of_words] = Overlaps(suite).added(results, LearnedTexts([HALF, NEW, SEEN])).values()
    assert of_words.details == {"overlap_with": "first 1 texts"}


def test_the_training_texts_of_a_suite_count_as_read(monkeypatch):
    suite = Suite("mine", {"language_modelling": LanguageModelling([SEEN])}, [SEEN])
    results = {"language_modelling": Result("bits_per_byte", {"bits_per_byte": 1.0}, {}, np.ones((1, 2)), "ratio")}
    assert Overlaps(suite).added(results, LearnedTexts(["other text"]))["language_modelling"].covered == 1.0
