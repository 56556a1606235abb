"""How much of a text training text covers, against a search for the words themselves."""

import random
import unicodedata

import pytest

from ssl_nlp.evaluation import overlap
from ssl_nlp.evaluation.overlap import TrainingText
from tests.corpus import random_texts


def searched(text: str, texts: list[str]) -> float:
    """The share of words in 8 words in a row that stand in one of the texts, slowly."""
    words, inside = text.split(), set()
    for start in range(len(words) - 7):
        if any(f" {' '.join(words[start : start + 8])} " in f" {other} " for other in texts):
            inside |= {*range(start, start + 8)}
    return len(inside) / len(words)


def test_the_overlap_is_that_of_a_search_for_all_runs_of_eight_words():
    generator, found = random.Random(0), []
    texts = [text.replace(".", "x").replace(",", "y") for text in random_texts(60, longest=30)]
    known = TrainingText.of(texts)
    for _ in range(40):
        words = [word for text in generator.sample(texts, 2) for word in text.split()[generator.randrange(6) :]]
        found.append((known.overlap([" ".join(words)]), searched(" ".join(words), texts)))
    assert all(mine == pytest.approx(slow, abs=1e-12) for mine, slow in found)
    assert len({slow for _, slow in found}) > 5


def test_case_and_punctuation_do_not_count_and_single_characters_are_words_where_there_are_no_spaces():
    known = TrainingText.of(["The quick brown fox jumps over the lazy dog.", "今天天气很好，我们去公园玩。"])
    assert known.covers("the quick, brown FOX jumps over (the) lazy dog")
    assert known.overlap(["A quick brown fox jumps over the lazy dog"]) == pytest.approx(8 / 9)
    assert known.covers("今天天气很好我们去公园")
    assert known.overlap(["明天天气很好我们去"]) == pytest.approx(8 / 9)
    assert known.overlap(["quick brown fox"]) == known.overlap([""]) == TrainingText.of([]).overlap(["a" * 9]) == 0
    # Both texts of a pair count, and words of two texts in a row are none.
    assert known.overlap(["the quick brown fox jumps over the lazy dog", "nine words " * 4 + "here"]) == pytest.approx(
        0.5
    )
    assert TrainingText.of(["a b c d", "e f g h"]).overlap(["a b c d e f g h"]) == 0


def test_words_are_found_where_there_are_no_spaces_and_accents_may_be_written_in_two_ways():
    thai = ["ผม", "ไป", "โรงเรียน", "ทุก", "วัน", "และ", "กิน", "ข้าว", "ที่", "บ้าน"]
    known = TrainingText.of(["".join(thai[:9])])
    assert known.overlap(["".join(thai)]) == pytest.approx(9 / 10)
    assert (
        known.overlap(["".join(thai[:4]) + " " + "".join(thai[5:])]) == 0
    )  # eight letters in a row are no eight words
    composed = "le café était très agréable hier après-midi là-bas déjà"
    assert TrainingText.of([composed]).covers(unicodedata.normalize("NFD", composed))


def test_training_text_is_read_once_and_up_to_a_limit(monkeypatch):
    texts = [" ".join(f"w{8 * n + i}" for i in range(8)) for n in range(4)]
    monkeypatch.setattr(overlap, "MOST_WORDS", 16)
    assert [TrainingText.of(texts).covers(text) for text in texts] == [True, True, False, False]
    monkeypatch.setattr(overlap, "_all_grams", None)  # the 8-grams are kept
    again = TrainingText.of(list(texts))
    assert again.covers(texts[0]) and again.texts == 2


def test_a_short_text_is_covered_if_it_is_a_text_or_a_sentence_of_the_training_text():
    known = TrainingText.of(["Cats sleep. Dogs often run after them!", "see also", "很好。明天见"])
    for text in ("cats sleep", "DOGS often run after them", "See also.", "明天见！"):
        assert known.covers(text), text
    for text in ("dogs often run", "see", "cats", "sleep dogs", "天见"):
        assert known.overlap([text]) == 0, text
    assert known.overlap(["Cats sleep.", "Some other text."]) == pytest.approx(2 / 5)
