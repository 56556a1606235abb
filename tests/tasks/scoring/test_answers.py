"""Answers are scored as the official scripts score them; oracles are written anew from their descriptions."""

import random
import string

import pytest

from ssl_nlp.tasks.scoring.answers import answer_scores, best_threshold

WORDS = ["the", "a", "Tower", "tower", "Eiffel,", "(1889)", "an", "U.S.", "of", "", "  "]
CHARACTERS = "北京大学，。《A 3-k"


def squad(true, found):
    """Exact match and F1 by removing words one by one from a copy."""

    def words(text):
        kept = "".join(character if character not in string.punctuation else "" for character in text.lower())
        return [word for word in kept.replace("\t", " ").split() if word not in ("a", "an", "the")]

    true, found = words(true), words(found)
    rest, common = list(true), 0
    for word in found:
        if word in rest:
            rest.remove(word)
            common += 1
    exact = true == found
    if not true or not found:
        return float(exact), float(exact)
    return float(exact), 2 * common / (len(true) + len(found))


def cmrc(true, found):
    """Exact match and F1 by trying every run of the true answer, whose only Latin words are single letters."""
    marks = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"

    def plain(text):
        return "".join(character for character in text.lower().strip() if character not in marks)

    def words(text):
        found, latin = [], ""
        for character in [*text, "京"]:
            if "\u4e00" <= character <= "\u9fa5":
                found += latin.split()
                latin = ""
                found.append(character)
            else:
                latin += character
        return found[:-1]

    exact = float(plain(true) == plain(found))
    true, found = words(plain(true)), words(plain(found))
    runs = [true[i:j] for i in range(len(true)) for j in range(i + 1, len(true) + 1)]
    common = max(
        (len(run) for run in runs if any(found[i : i + len(run)] == run for i in range(len(found)))), default=0
    )
    return exact, 0.0 if common == 0 else 2 * common / (len(true) + len(found))


@pytest.mark.parametrize("scorer", ["squad", "cmrc"])
def test_scores_are_those_of_a_slow_oracle(scorer):
    generator = random.Random(0)

    def text():
        if scorer == "cmrc":
            return "".join(generator.choices(CHARACTERS, k=generator.randint(0, 12)))
        return " ".join(generator.choices(WORDS, k=generator.randint(0, 5)))

    oracle, partly = {"squad": squad, "cmrc": cmrc}[scorer], 0
    for _ in range(2000):
        true, found = [text() for _ in range(generator.randint(1, 3))], text()
        kept = [one for one in true if scorer == "cmrc" or squad(one, "")[0] == 0] or [""]
        expected = [oracle(one, found) for one in kept]
        scores = answer_scores(true, found, scorer)
        assert scores.exact == max(exact for exact, _ in expected)
        assert scores.f1 == pytest.approx(max(f1 for _, f1 in expected), abs=1e-12)
        partly += 0 < scores.f1 < 1
    assert partly > 300


def test_an_unanswerable_question_has_the_empty_answer():
    assert answer_scores([], "") == (1, 1)
    assert answer_scores([], "Paris") == (0, 0)
    assert answer_scores(["Paris"], "") == (0, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("iphone 6s", ["iphone", "6s"]),
        ("3.5%, 1,000 kg.", ["3.5", "%", ",", "1,000", "kg", "."]),
        ('it\'s (not) "x"', ["it", "'s", "(", "not", ")", "``", "x", "''"]),
        ("can't cannot", ["ca", "n't", "can", "not"]),
        ("1990–1991 u.s. c", ["1990", "–", "1991", "u.s.", "c"]),
    ],
)
def test_latin_words_of_chinese_answers_are_those_of_the_penn_treebank(text, words):
    """As NLTK's `word_tokenize` cuts them, which the official script of CMRC calls."""
    for place, word in enumerate(words):  # Chinese between two words keeps them apart, so that only one is in common
        if word not in ("``", "''", "u.s."):
            found = f"大{word}大"
            assert answer_scores([f"北{text}京"], found, "cmrc").f1 == pytest.approx(2 / (len(words) + 2 + 3)), place
    assert answer_scores([f"北{text}京"], f"大{text}", "cmrc").f1 > 0.4


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_is_the_best_of_all(seed):
    generator = random.Random(seed)
    questions = [
        (generator.randint(-3, 3) / 2, generator.random() * (not impossible), float(impossible))
        for impossible in (generator.random() < 0.4 for _ in range(30))
    ]
    margins, answered, refused = zip(*questions, strict=True)

    def score(threshold):
        return sum(n if margin > threshold else a for margin, a, n in questions) / len(questions)

    threshold, best = best_threshold(margins, answered, refused)
    assert score(threshold) == pytest.approx(best)
    assert best == pytest.approx(max(score(candidate / 4) for candidate in range(-20, 20)))
