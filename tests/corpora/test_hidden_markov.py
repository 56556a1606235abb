"""Everything exact is compared with sums over all state paths and all sequences."""

from itertools import product

import numpy as np
import pytest
from scipy.special import digamma

from ssl_nlp.corpora.hidden_markov import (
    UNSEEN,
    HiddenMarkovMixture,
    draw_log_dirichlet,
    draw_mixture,
    log_sum,
    stationary,
)

TOPICS, STATES, WORDS, LENGTH = 2, 3, 3, 4
SEQUENCES = np.array(list(product(range(WORDS), repeat=LENGTH)))
EXACT = {"rtol": 0, "atol": 1e-10}


def mixture(stationary_start: bool = False) -> HiddenMarkovMixture:
    random = np.random.default_rng(0)
    model = draw_mixture((TOPICS, STATES, WORDS), (1.0, 0.5, 0.5), random)
    if stationary_start:
        return model
    initial = np.log(random.dirichlet([1.0] * STATES, TOPICS))
    return HiddenMarkovMixture(model.topics, initial, model.transitions, model.emissions)


def joint(model: HiddenMarkovMixture) -> np.ndarray:
    """(topics, sequences): the probability of each topic with each of `SEQUENCES`, path by path."""
    topics, initial, transitions, emissions = map(
        np.exp, (model.topics, model.initial, model.transitions, model.emissions)
    )
    found = np.zeros((TOPICS, len(SEQUENCES)))
    for topic, (number, words) in product(range(TOPICS), enumerate(SEQUENCES.tolist())):
        for path in product(range(STATES), repeat=LENGTH):
            p = topics[topic] * initial[topic, path[0]]
            for t, word in enumerate(words):
                p *= emissions[topic, path[t], word] * (transitions[topic, path[t - 1], path[t]] if t else 1)
            found[topic, number] += p
    return found


def agrees(words: list[int]) -> np.ndarray:
    """(sequences,) bool: which of `SEQUENCES` have the observed words at their places."""
    row = np.array(words)
    return ((row == UNSEEN) | (SEQUENCES[:, : len(row)] == row)).all(axis=1)


def test_likelihoods_and_next_words_are_sums_over_all_paths():
    model = mixture()
    of_sequences = joint(model).sum(axis=0)
    assert of_sequences.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(model.log_likelihood(SEQUENCES), np.log(of_sequences), **EXACT)
    following = [
        [np.log(of_sequences[agrees(row[: t + 1])].sum() / of_sequences[agrees(row[:t])].sum()) for t in range(LENGTH)]
        for row in SEQUENCES.tolist()
    ]
    np.testing.assert_allclose(model.next_words(SEQUENCES), following, **EXACT)
    first = [of_sequences[SEQUENCES[:, 0] == word].sum() for word in range(WORDS)]
    np.testing.assert_allclose(model.unigram, np.log(first), **EXACT)


def test_hidden_words_and_topics_are_sums_over_all_sequences_under_any_mask():
    model = mixture()
    with_topics = joint(model)
    masks = np.array(list(product([False, True], repeat=LENGTH)))
    words = np.where(masks, UNSEEN, SEQUENCES[:: len(SEQUENCES) // 5][:, None])  # (sequences, masks, length)
    rows = words.reshape(-1, LENGTH)
    posteriors, topics = model.word_posteriors(model.evidence(rows)), model.topic_posterior(rows)
    likelihoods = model.log_likelihood(rows)
    for row, posterior, topic, likelihood in zip(rows.tolist(), posteriors, topics, likelihoods, strict=True):
        visible = with_topics[:, agrees(row)].sum(axis=1)
        assert likelihood == pytest.approx(np.log(visible.sum()), abs=1e-10)
        np.testing.assert_allclose(topic, np.log(visible / visible.sum()), **EXACT)
        for t in range(LENGTH):
            others = [UNSEEN if place == t else word for place, word in enumerate(row)]
            given = with_topics[:, agrees(others)].sum()
            each = [with_topics[:, agrees([*others[:t], word, *others[t + 1 :]])].sum() for word in range(WORDS)]
            np.testing.assert_allclose(posterior[t], np.log(np.array(each) / given), **EXACT)


def test_padding_changes_nothing():
    model = mixture()
    padded = np.pad(SEQUENCES, ((0, 0), (0, 2)), constant_values=UNSEEN)
    np.testing.assert_allclose(model.log_likelihood(padded), model.log_likelihood(SEQUENCES), **EXACT)
    assert not model.next_words(padded)[:, LENGTH:].any()
    alone, beside = (model.word_posteriors(model.evidence(rows)) for rows in (SEQUENCES, padded))
    np.testing.assert_allclose(beside[:, :LENGTH], alone, **EXACT)


def test_long_sequences_neither_underflow_nor_drift():
    model = mixture(stationary_start=True)
    words = np.random.default_rng(1).integers(0, WORDS, (2, 1000))
    assert np.isfinite(model.word_posteriors(model.evidence(words))).all()
    np.testing.assert_allclose(model.next_words(words).sum(axis=1), model.log_likelihood(words), rtol=1e-10)
    assert (model.log_likelihood(words) < np.log(np.finfo(float).tiny)).all()


def test_a_part_of_a_sequence_follows_the_model_of_whole_ones():
    model = mixture(stationary_start=True)
    parts = np.pad(SEQUENCES[:, :2], ((0, 0), (2, 0)), constant_values=UNSEEN)
    np.testing.assert_allclose(model.log_likelihood(parts), model.log_likelihood(SEQUENCES[:, :2]), **EXACT)


@pytest.mark.parametrize("leaves", [0.3, 1e-30])
def test_the_stationary_distribution_is_exact_for_chains_that_hardly_move(leaves: float):
    two = np.array([[1 - leaves, leaves], [3 * leaves, 1 - 3 * leaves]])
    np.testing.assert_allclose(stationary(two), [0.75, 0.25], rtol=1e-12)
    chain = np.exp(mixture().transitions[0])
    np.testing.assert_allclose(stationary(chain) @ chain, stationary(chain), rtol=1e-12)


def test_parameters_are_finite_and_normalized_however_sharp():
    model = draw_mixture((4, 8, 128), (0.05, 0.05, 0.05), np.random.default_rng(0))
    for logs in (model.topics, model.initial, model.transitions, model.emissions):
        assert np.isfinite(logs).all()
        np.testing.assert_allclose(log_sum(logs, (-1,)), 0, atol=1e-12)


@pytest.mark.parametrize("concentration", [0.05, 0.5, 10.0])
def test_draws_are_as_sharp_as_those_of_a_dirichlet_distribution(concentration: float):
    logs = draw_log_dirichlet(concentration, (2000, 20), np.random.default_rng(0))
    entropies = -(np.exp(logs) * logs).sum(axis=1)
    expected = digamma(20 * concentration + 1) - digamma(concentration + 1)
    assert entropies.mean() == pytest.approx(expected, abs=5 * entropies.std() / 2000**0.5)


def test_a_sum_of_impossible_events_is_impossible():
    assert log_sum(np.array([-np.inf, -np.inf]), (0,)) == -np.inf
