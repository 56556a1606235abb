"""Mixtures of hidden Markov models, and what follows exactly from their parameters.

A sequence is a row of word numbers, in which -1 stands where nothing is observed: for a hidden word, or after the end. What
is not observed is summed over, so that one recursion gives likelihoods and the posteriors of hidden words, for any mask.
Everything is in natural logarithms of float64. The recursions follow Rabiner, "A Tutorial on Hidden Markov Models"
(1989), section III, with the topic as a part of the state that never changes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
UNSEEN = -1


@dataclass(frozen=True, eq=False)
class HiddenMarkovMixture:
    """K topics, each a hidden Markov model with S states over the same V words.

    Attributes:
        topics: (K,) log-probabilities of the topics.
        initial: (K, S) of a sequence's first state.
        transitions: (K, S, S) of the next state, in the last axis.
        emissions: (K, S, V) of the word.
    """

    topics: Floats
    initial: Floats
    transitions: Floats
    emissions: Floats

    @property
    def unigram(self) -> Floats:
        """(V,) log-probabilities of the first word; where sequences start as they go on, of any word."""
        return log_sum((self.topics[:, None] + self.initial)[:, :, None] + self.emissions, (0, 1))

    def evidence(self, words: Ints) -> Floats:
        """(B, T, K, S): log p(word | topic, state) of sequences (B, T); 0 where nothing is observed."""
        emitted = np.moveaxis(self.emissions, 2, 0)[words]
        return np.where((words == UNSEEN)[:, :, None, None], 0.0, emitted)

    def next_words(self, words: Ints) -> Floats:
        """(B, T): log p(word | observed words before it) of sequences (B, T); 0 where nothing is observed."""
        evidence = self.evidence(words)
        so_far = log_sum(self._forward(evidence) + evidence, (2, 3))
        return np.where(words == UNSEEN, 0.0, np.diff(so_far, axis=1, prepend=0.0))

    def log_likelihood(self, words: Ints) -> Floats:
        """(B,): log p(observed words) of sequences (B, T)."""
        evidence = self.evidence(words)
        return log_sum(self._forward(evidence)[:, -1] + evidence[:, -1], (1, 2))

    def topic_posterior(self, words: Ints) -> Floats:
        """(B, K): log p(topic | observed words) of sequences (B, T)."""
        evidence = self.evidence(words)
        return log_sum(normalized(self._forward(evidence)[:, -1] + evidence[:, -1], (1, 2)), (2,))

    def shared_information(self, first: Ints, second: Ints) -> Floats:
        """(A, B): log p(one, other) / (p(one) p(other)) of sequences (A, T) and (B, U) if two of them have the same topic.

        The mean over pairs with the same topic is the mutual information of the two.
        """
        of_first, of_second = self.topic_posterior(first), self.topic_posterior(second)
        return log_sum(of_first[:, None] + of_second - self.topics, (2,))

    def word_posteriors(self, evidence: Floats) -> Floats:
        """(B, T, V): log p(word at t | evidence at all other positions), for each t.

        Where nothing is observed, that is the posterior of a hidden word given all visible ones.

        Args:
            evidence: (B, T, K, S), as `evidence` gives it, or the log-likelihood of any other observation of a word.
        """
        state = normalized(self._forward(evidence) + self._backward(evidence), (2, 3))
        emissions = np.exp(self.emissions).reshape(-1, self.emissions.shape[2])
        return _log(np.exp(state).reshape(*state.shape[:2], -1) @ emissions)

    def _forward(self, evidence: Floats) -> Floats:
        """(B, T, K, S): log p(evidence before t, topic, state at t)."""
        before = np.empty_like(evidence)
        before[:, 0] = self.topics[:, None] + self.initial
        for t in range(1, evidence.shape[1]):
            here = before[:, t - 1] + evidence[:, t - 1]
            before[:, t] = log_sum(here[..., None] + self.transitions, (2,))
        return before

    def _backward(self, evidence: Floats) -> Floats:
        """(B, T, K, S): log p(evidence after t | topic, state at t)."""
        after = np.zeros_like(evidence)
        for t in range(evidence.shape[1] - 1, 0, -1):
            after[:, t - 1] = log_sum((after[:, t] + evidence[:, t])[:, :, None, :] + self.transitions, (3,))
        return after


def draw_mixture(
    sizes: tuple[int, int, int], concentrations: tuple[float, float, float], random: np.random.Generator
) -> HiddenMarkovMixture:
    """A mixture whose parameters come from symmetric Dirichlet priors. Each topic starts from its stationary distribution.

    A part of a sequence, cut out anywhere, is therefore distributed like a sequence of that length.

    Args:
        sizes: numbers of topics K, states S of each and words V.
        concentrations: of the topics' probabilities, of the transitions from a state and of the words in a state. The
            lower, the more of the probability falls to a few outcomes.
        random: from which everything is drawn.
    """
    topics, states, words = sizes
    of_topics, of_transitions, of_words = concentrations
    transitions = draw_log_dirichlet(of_transitions, (topics, states, states), random)
    initial = np.stack([_log(stationary(np.exp(matrix))) for matrix in transitions])
    emissions = draw_log_dirichlet(of_words, (topics, states, words), random)
    return HiddenMarkovMixture(draw_log_dirichlet(of_topics, (topics,), random), initial, transitions, emissions)


def draw_log_dirichlet(concentration: float, shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    """Logarithms of draws from a symmetric Dirichlet distribution over the last axis; none of them is -inf.

    A gamma variable of shape a is one of shape a + 1 times a uniform one to the power 1 / a, which logarithms can hold
    however small a is.
    """
    logs = np.log(random.gamma(concentration + 1, size=shape)) + np.log1p(-random.random(shape)) / concentration
    return normalized(logs, (-1,))


def stationary(transitions: Floats) -> Floats:
    """The distribution (S,) that a Markov chain (S, S) with positive probabilities keeps.

    States are removed one by one (Grassmann, Taksar and Heyman, 1985), without a subtraction in which digits could get
    lost, however seldom the chain leaves some of its states.
    """
    rest = transitions.copy()
    for last in range(len(rest) - 1, 0, -1):
        rest[:last, last] /= rest[last, :last].sum()
        rest[:last, :last] += np.outer(rest[:last, last], rest[last, :last])
    visits = np.ones(len(rest))
    for state in range(1, len(rest)):
        visits[state] = visits[:state] @ rest[:state, state]
    return visits / visits.sum()


def log_sum(logs: Floats, axes: tuple[int, ...]) -> Floats:
    """The logarithm of the sum of the exponentials of `logs` over `axes`, which may all be -inf."""
    highest = logs.max(axis=axes, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    return _log(np.exp(logs - highest).sum(axis=axes)) + highest.squeeze(axes)


def normalized(logs: Floats, axes: tuple[int, ...]) -> Floats:
    """Log-probabilities that add up to 1 over `axes`, proportional to the exponentials of `logs`."""
    return logs - np.expand_dims(log_sum(logs, axes), axes)


def entropy(logs: Floats) -> Floats:
    """(...): nats of the distributions with log-probabilities (..., outcomes)."""
    return -np.where(np.isneginf(logs), 0.0, np.exp(logs) * np.nan_to_num(logs)).sum(axis=-1)


def _log(numbers: Floats) -> Floats:
    with np.errstate(divide="ignore"):  # the logarithm of 0 is -inf
        return np.log(numbers)
