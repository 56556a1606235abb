"""Kneser-Ney smoothing against nltk's, against a slow one of dictionaries, and against itself."""

from collections import Counter, defaultdict
from itertools import chain

import numpy as np
import pytest
from nltk.lm import KneserNeyInterpolated, Vocabulary

from ssl_nlp.modules.kneser_ney import FALLBACK, KneserNey, estimated_discounts

START, WORDS = 0, 7  # a start token, and the number of tokens with it


def rows(number: int, seed: int = 0, longest: int = 12) -> list[np.ndarray]:
    """Texts of a random bigram model, so that n-grams are seen once, twice and often. The last token, 6, occurs once."""
    generator = np.random.default_rng(seed)
    chances = generator.dirichlet([0.3] * 5, size=WORDS)
    texts = []
    for _ in range(number):
        text = [START]
        for _ in range(generator.integers(1, longest)):
            text.append(1 + generator.choice(5, p=chances[text[-1]]))
        texts.append(np.array(text))
    texts[0] = np.append(texts[0], WORDS - 1)
    return texts


class Dictionaries:
    """The same model, written down from the formula, n-gram by n-gram."""

    def __init__(self, texts, order, discounts=None):
        occurrences, before = Counter(), defaultdict(set)
        for number, text in enumerate(texts):
            text = tuple(text.tolist())
            for end in range(1, len(text)):
                for start in range(max(0, end - order + 1), end + 1):
                    gram = text[start : end + 1]
                    occurrences[gram] += 1
                    # Each start of a text counts on its own: as if every text had a token of its own before it.
                    before[gram].add(text[start - 1] if start > 0 else ("start of", number))
        self.order = order
        self.counts = {g: n if len(g) == order else len(before[g]) for g, n in occurrences.items()}
        self.discounts = discounts or [self.estimated(length) for length in range(1, order + 1)]
        self.followed = defaultdict(list)
        for gram in self.counts:
            self.followed[gram[:-1]].append(gram)

    def estimated(self, length):
        times = Counter(n for gram, n in self.counts.items() if len(gram) == length)
        n1, n2, n3, n4 = (times[i] for i in (1, 2, 3, 4))
        if 0 in (n1, n2, n3):
            return FALLBACK
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        return found if all(0 < d <= i for i, d in enumerate(found, start=1)) else FALLBACK

    def probability(self, token, context):
        context = context[max(0, len(context) - self.order + 1) :]
        shorter = self.probability(token, context[1:]) if context else 1 / WORDS
        if not (grams := self.followed[context]):
            return shorter
        taken = {gram: self.discounts[len(context)][min(self.counts[gram], 3) - 1] for gram in grams}
        total = sum(self.counts[gram] for gram in grams)
        gram = (*context, token)
        own = self.counts[gram] - taken[gram] if gram in taken else 0
        return own / total + sum(taken.values()) / total * shorter


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("texts", [3, 60])
def test_it_equals_a_model_of_dictionaries(order, texts):
    train, test = rows(texts), rows(20, seed=1)
    model, oracle = KneserNey.fit(train, WORDS, order), Dictionaries(train, order)
    assert model.order == order
    np.testing.assert_allclose(model.discounts, oracle.discounts)
    expected = [
        oracle.probability(token, tuple(text[:place].tolist()))
        for text in (*train, *test)
        for place, token in enumerate(text.tolist())
        if place > 0
    ]
    np.testing.assert_allclose(np.exp(model.log_probs(*train, *test)), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_with_one_discount_it_equals_that_of_nltk(order):
    """nltk discounts no single tokens, and counts what precedes an n-gram: here each text has its own token before it."""
    train = rows(40)
    texts = [[f"before {number}", *map(str, row.tolist())] for number, row in enumerate(train)]
    grams = [
        [
            tuple(text[start : end + 1])
            for end in range(2, len(text))
            for start in range(max(0, end - order + 1), end + 1)
        ]
        for text in texts
    ]
    nltk = KneserNeyInterpolated(order, discount=0.7, vocabulary=Vocabulary(chain(*texts), unk_cutoff=1))
    nltk.fit(grams)
    model = KneserNey.fit(train, WORDS, order, discounts=[(0.0, 0.0, 0.0), *[(0.7, 0.7, 0.7)] * (order - 1)])
    for row in (*train[:10], *rows(10, seed=1)):
        words = list(map(str, row.tolist()))
        expected = [
            nltk.unmasked_score(words[i], tuple(words[max(0, i - order + 1) : i])) for i in range(1, len(words))
        ]
        np.testing.assert_allclose(np.exp(model.log_probs(row)), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_the_probabilities_after_any_context_are_those_of_texts_and_sum_to_1(order):
    model = KneserNey.fit(rows(40), WORDS, order)
    contexts = [np.array(c, dtype=np.int64) for c in ([], [START], [6], [6, 6, 6], [3, 6, 1], [START, *[2] * 9])]
    for context in [*contexts, *rows(20), *rows(20, seed=2)]:
        found = model.next_probs(context)
        assert found.min() > 0
        assert found.sum() == pytest.approx(1, abs=1e-12)
        if len(context):
            each = [np.exp(model.log_probs(np.append(context, token))[-1]) for token in range(WORDS)]
            np.testing.assert_allclose(found, each, rtol=1e-12)


def test_rows_do_not_see_each_other_and_their_order_does_not_matter():
    texts = rows(30)
    model, backwards = KneserNey.fit(texts, WORDS, 4), KneserNey.fit(texts[::-1], WORDS, 4)
    together = model.log_probs(*texts)
    np.testing.assert_array_equal(together, np.concatenate([model.log_probs(text) for text in texts]))
    for one, other in zip([*model.keys, *model.counts], [*backwards.keys, *backwards.counts], strict=True):
        np.testing.assert_array_equal(one, other)
    pair = KneserNey.fit([np.array([1, 2]), np.array([3, 4])], WORDS, 2)
    np.testing.assert_array_equal(pair.keys[0], [1 * WORDS + 2, 3 * WORDS + 4])  # 2 is not followed by 3


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_models_of_two_texts_are_merged_into_that_of_both(order):
    """Exactly: n-grams that both have, that one has, that begin texts, and that the other text precedes with new tokens."""
    texts = [*rows(30), *rows(30, seed=1), np.array([START]), np.array([START, 5])]
    whole = KneserNey.fit(texts, WORDS, order)
    for cut in (0, 1, 10, 45, len(texts)):
        one, other = (KneserNey.fit(some, WORDS, order) for some in (texts[:cut], texts[cut:]))
        found = one.merged(other)
        for a, b in zip([*found.keys, *found.counts], [*whole.keys, *whole.counts], strict=True):
            np.testing.assert_array_equal(a, b)
        assert found.discounts == whole.discounts
        assert found.size == whole.size
        looked_up = KneserNey(WORDS, found.keys, found.counts).ends
        assert all(map(np.array_equal, found.ends, looked_up)) and len(looked_up) == order - 1


def test_arrays_that_are_not_those_of_n_grams_are_refused():
    model = KneserNey.fit(rows(10), WORDS, 3)
    wrong = {
        "not one count": (model.keys, [*model.counts[:-1], model.counts[-1][:-1]]),
        "not in order": ([model.keys[0][::-1], model.keys[1]], model.counts),
        "its n-grams are not": ([model.keys[0], np.append(model.keys[1][:-1], 2**62)], model.counts),
        "negative": (model.keys, [-n for n in model.counts]),
    }
    for message, (keys, counts) in wrong.items():
        with pytest.raises(ValueError, match=message):
            KneserNey(WORDS, keys, counts)


def test_without_text_all_tokens_are_equally_likely():
    for nothing in ([], [np.array([START])]):
        model = KneserNey.fit(nothing, WORDS, 3)
        np.testing.assert_allclose(model.next_probs(np.array([START, 2])), 1 / WORDS)
        np.testing.assert_allclose(model.log_probs(np.array([START, 2, 5])), [-np.log(WORDS)] * 2)
        assert model.log_probs().shape == (0,)


def test_the_discounts_are_those_of_the_counts_of_counts():
    counts = np.repeat([0, 1, 2, 3, 4, 9], [5, 10, 5, 3, 2, 1])
    assert estimated_discounts(counts) == pytest.approx((0.5, 2 - 3 * 0.5 * 3 / 5, 3 - 4 * 0.5 * 2 / 3))
    assert estimated_discounts(np.array([1, 1, 2])) == FALLBACK  # nothing is counted three times
    assert estimated_discounts(np.repeat([1, 2, 3], [4, 1, 9])) == FALLBACK  # D(2) would be negative
