"""The limit of contrastive losses is compared with sums over all pairs of short texts and with other critics."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from ssl_nlp.corpora import HiddenMarkovLanguage
from ssl_nlp.data.units import pad_rows
from ssl_nlp.evaluation.limits import Limits
from ssl_nlp.objectives.contrastive import info_nce, two_view_pairs
from ssl_nlp.objectives.predictions import Contrasts
from ssl_nlp.objectives.scores import Unable
from tests.evaluation.small_language import tokenizer_of

LANGUAGE = HiddenMarkovLanguage(
    3, 2, 4, word_concentration=0.3, transition_concentration=0.5, shortest=2, longest=5, same_topic=2, pairs=True
)
MODEL, TOPICS = LANGUAGE.model, 3
LIMITS = Limits(LANGUAGE, tokenizer_of(LANGUAGE))
TEXTS = np.array(list(product(range(4), repeat=2)))  # the first two words of all documents


def joint() -> np.ndarray:
    """(16, 16): the probability of two texts of one topic."""
    alone = [np.exp(replace(MODEL, topics=np.log(one)).log_likelihood(TEXTS)) for one in np.eye(TOPICS) + 1e-300]
    return sum(share * np.outer(each, each) for share, each in zip(np.exp(MODEL.topics), alone, strict=True))


def rows(texts):
    ids = [LIMITS.tokenizer.encode([" ".join(LANGUAGE.words[w] for w in TEXTS[text])])[0][0] for text in texts]
    return pad_rows(ids, None, LIMITS.tokenizer, 16)


def limits_of(first, second, excluded=None):
    size = len(first)
    excluded = torch.zeros(size, size, dtype=torch.bool) if excluded is None else excluded
    return LIMITS.nats(Contrasts(rows(first), rows(second), excluded, torch.zeros(size)))


def test_shared_information_is_that_of_all_pairs_of_texts():
    found, both = MODEL.shared_information(TEXTS, TEXTS), joint()
    one = both.sum(axis=1)
    np.testing.assert_allclose(found, np.log(both / np.outer(one, one)), rtol=0, atol=1e-10)
    information = (both * found).sum()
    assert 0.05 < information < -(np.exp(MODEL.topics) * MODEL.topics).sum()


def test_no_critic_is_better_on_average_than_the_limit_which_is_above_what_information_allows():
    """Over all batches of two rows: NT-Xent of the exact critic and others, among all texts or those of the other side."""
    both, exact = joint(), MODEL.shared_information(TEXTS, TEXTS)
    a, b, c, d = np.ix_(*[range(16)] * 4)
    random = np.random.default_rng(0)
    noise = [0.3 * each for each in random.normal(size=(6, 16, 16))]

    def losses(critic: np.ndarray) -> tuple[float, float]:
        scores = np.exp(critic)
        everywhere = other_side = 0.0
        for anchor, partner, beside, across in ((a, b, c, d), (b, a, d, c), (c, d, a, b), (d, c, b, a)):
            right, same, opposite = (scores[anchor, other] for other in (partner, beside, across))
            everywhere = everywhere + np.log1p((same + opposite) / right) / 4
            other_side = other_side + np.log1p(opposite / right) / 4
        weights = both[a, b] * both[c, d]
        return float((weights * everywhere).sum()), float((weights * other_side).sum())

    of_exact, limit = losses(exact)
    assert limit > np.log(2) - (both * exact).sum() > 0
    for method, side in map(losses, [exact + each + each.T for each in noise] + [exact / 2, 0 * exact]):
        assert side > limit and method > limit
    assert of_exact > limit


def test_the_limit_of_a_batch_is_the_exact_critic_among_the_texts_of_the_other_side():
    first, second = [0, 5, 9, 5], [3, 15, 1, 6]
    excluded = torch.zeros(4, 4, dtype=torch.bool)
    excluded[1, 3] = excluded[3, 1] = True  # the same first text
    limit, guess = limits_of(first, second, excluded)
    both = joint()
    ratio = both / np.outer(both.sum(axis=1), both.sum(axis=1))
    for row in range(4):
        others = [other for other in range(4) if not excluded[row, other]]
        one = ratio[first[row], second[row]] / sum(ratio[first[row], second[other]] for other in others)
        back = ratio[first[row], second[row]] / sum(ratio[first[other], second[row]] for other in others)
        assert float(limit[row]) == pytest.approx(-np.log(one * back), abs=1e-10)
        assert float(guess[row]) == pytest.approx(2 * np.log(2 * len(others) - 1), abs=1e-10)
    ids = torch.tensor([[0, 3], [5, 15], [9, 1], [5, 6]])
    same = torch.ones(8, 4)  # embeddings that say nothing
    positives, not_negatives = two_view_pairs(*[torch.cat([ids, ids.flip(1)])] * 2)
    assert float(info_nce(same, same, positives, 1.0, not_negatives).sum()) == pytest.approx(
        float(guess.sum()), rel=1e-6
    )


def test_texts_that_share_no_topic_have_no_limit():
    other = HiddenMarkovLanguage(3, 2, 4, shortest=2, longest=5)
    with pytest.raises(Unable, match="set data.corpus.pairs to true"):
        Limits(other, LIMITS.tokenizer).nats(
            Contrasts(rows([0]), rows([1]), torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1))
        )
