"""The numbers of free generation, against nltk, definitions and hand counts."""

import math
import random
from itertools import product

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import FreeGeneration
from ssl_nlp.evaluation.free_generation import distinct, self_bleu, words_of
from ssl_nlp.evaluation.generation_suite import generation_suite
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.evaluation.suites import get_suite
from tests.corpus import ListCorpus, random_texts


class Repeats:
    """Draws given texts, as often as it is asked to."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = texts, {}

    def draw(self, number, **settings):
        self.asked = {"number": number, **settings}
        return [self.texts[i % len(self.texts)] for i in range(number)]


def sentences(number: int, seed: int) -> list[tuple[str, ...]]:
    """Of few words, so that n-grams recur; some are shorter than the longest n-grams, and one is empty."""
    draw = random.Random(seed)
    found = [tuple(draw.choices("abcd", k=draw.randint(1, 9))) for _ in range(number - 1)]
    return [*found, ()]


@pytest.mark.parametrize(("order", "seed"), product((1, 2, 4), range(3)))
def test_self_bleu_is_the_mean_bleu_of_nltk_against_all_other_sentences(order, seed):
    drawn = sentences(25, seed)
    method = SmoothingFunction().method1
    scores = []
    for number, words in enumerate(drawn):
        others = [other for place, other in enumerate(drawn) if place != number]
        scores.append(sentence_bleu(others, words, [1 / order] * order, method) if words else 0.0)
    assert self_bleu(drawn, order) == pytest.approx(np.mean(scores), rel=1e-9)


def test_self_bleu_of_equal_sentences_is_1_and_of_sentences_without_a_common_word_0():
    assert self_bleu([("a", "man", "on", "a", "ladder")] * 3) == pytest.approx(1)
    assert self_bleu([("zzz", "qqq")] * 3) == pytest.approx(0.1**0.5)  # without n-grams of 3 and 4 words
    assert self_bleu([tuple("abcde"), tuple("fghij")]) == 0
    assert self_bleu([("a",)]) == 0


def test_distinct_counts_different_n_grams_per_word():
    drawn = [("a", "b", "a"), ("a", "b"), ()]
    assert distinct(drawn, 1) == 2 / 5
    assert distinct(drawn, 2) == 2 / 5  # a b, b a
    assert distinct([()], 1) == 0


def test_words_are_those_of_unicode_in_lower_case():
    assert words_of("A man can't, he says.") == ("a", "man", "can't", ",", "he", "says", ".")


def texts(number: int, seed: int) -> list[str]:
    """Sentences of random words, without marks that would end them early."""
    return [" ".join(word for word in text.split() if word.isalpha()) + "." for text in random_texts(number, seed)]


TRAIN, HELD_OUT = texts(80, 0), texts(20, 1)
EVALUATOR = FreeGeneration(TRAIN, HELD_OUT[:10], HELD_OUT[10:])


def test_sentences_are_drawn_at_temperature_1_and_the_first_of_each_text_counts():
    model = Repeats(f"{TRAIN[0]} And more.", "", "One dog. Two dogs.")
    result = EVALUATOR(model)
    assert model.asked == {"number": 10, "max_new_tokens": 64, "seed": 0}
    assert result.details["drawn"] == [TRAIN[0], "", "One dog.", TRAIN[0], ""]
    assert result.metrics["copies"] == 4 / 10
    assert result.metrics["length"] == (4 * len(words_of(TRAIN[0])) + 3 * 3) / 10
    assert result.details["generation"] == {"sentences": 10, "train": 80}
    assert result.primary == result.metrics["reverse_perplexity"]


def test_a_perplexity_of_words_that_are_all_unknown_follows_from_the_counts():
    """The only training sentence is "a": all counts are 1, and so few that the fallback takes 0.5 of each."""
    evaluator = FreeGeneration(["a"], ["b"], ["b"])
    # After the start, "a" loses 0.5 of 1 to the unigrams. There are two of these, "a" and the end, which lose half to the
    # equally likely tokens: start, end, unknown and "a". After "b", which was never seen, the unigrams alone count.
    unknown, end = 0.5 * 0.5 / 4, (1 - 0.5) / 2 + 0.5 / 4
    expected = math.exp(-(math.log(unknown) + math.log(end)) / 2)
    assert evaluator(Repeats("b")).metrics["perplexity"] == pytest.approx(expected)


def test_bad_models_are_seen_by_the_numbers():
    good, repeated, noise = (
        EVALUATOR.result(drawn)
        for drawn in (
            texts(10, 2),
            [TRAIN[0]] * 10,
            ["qua quo qui." for _ in range(10)],
        )
    )
    real = EVALUATOR.reference()
    assert repeated.metrics["perplexity"] < good.metrics["perplexity"] < noise.metrics["perplexity"]
    assert good.metrics["reverse_perplexity"] < repeated.metrics["reverse_perplexity"]
    assert repeated.metrics["self_bleu"] == pytest.approx(1)
    assert repeated.metrics["copies"] == 1
    assert abs(good.metrics["perplexity"] - real.metrics["perplexity"]) < 0.5 * real.metrics["perplexity"]
    assert real.metrics.keys() == good.metrics.keys()


def test_the_items_of_the_reverse_perplexity_are_the_held_out_sentences():
    drawn = texts(10, 2)
    result = EVALUATOR.result(drawn)
    assert statistic_of(result.items, result.statistic) == result.primary
    for (nats, words), sentence in zip(result.items, EVALUATOR.held_out, strict=True):
        alone = FreeGeneration(TRAIN, HELD_OUT[:10], [sentence]).result(drawn)
        assert words == len(words_of(sentence)) + 1
        assert nats == pytest.approx(math.log(alone.primary) * words)


def test_the_suite_is_made_of_the_sentences_of_the_corpus():
    corpus = ListCorpus(["One dog. Two dogs.", "A cat."], ["B one. B two.", "B three."], ["C one.", "C two. C three."])
    suite = generation_suite(corpus)
    evaluator = suite.evaluators["free_generation"]
    assert evaluator.train == ["One dog.", "Two dogs.", "A cat."]
    assert len(evaluator.sample) == len(evaluator.held_out) == len(evaluator.valid) == 2
    assert {*evaluator.sample, *evaluator.held_out, *evaluator.valid} == {
        f"{letter} {number}." for letter in "BC" for number in ("one", "two", "three")
    }
    assert suite.fingerprint == generation_suite(corpus).fingerprint
    often = ListCorpus(["One dog."], ["B one. B two."] * 5, ["C one."] * 5)
    evaluator = generation_suite(often).evaluators["free_generation"]
    assert {*evaluator.valid}.isdisjoint([*evaluator.sample, *evaluator.held_out])
    with pytest.raises(UserError, match="2 held-out sentences, too few"):
        generation_suite(ListCorpus(["One dog."], ["B one."], ["C one."]))
    with pytest.raises(UserError, match="ssl-nlp evaluate RUN --suite generation"):
        get_suite("generation")
