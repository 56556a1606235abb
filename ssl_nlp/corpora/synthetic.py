"""A language that is known exactly: text to train on whose best possible loss can be computed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ssl_nlp.cache import fingerprint
from ssl_nlp.corpora.base import SPLITS, Document, Split
from ssl_nlp.corpora.hidden_markov import UNSEEN, Floats, HiddenMarkovMixture, Ints, draw_mixture, entropy, normalized
from ssl_nlp.corpora.splits import SplitCorpus
from ssl_nlp.errors import refuse

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
BLOCK = 1000  # documents that are drawn together
DRAWN_PAIRS = 2000  # for the mutual information of two texts
LEAST = 0.05  # concentration: with less, probabilities leave the range of floating point numbers


class Information(NamedTuple):
    """An estimate of mutual information in nats, and its standard error."""

    nats: float
    standard_error: float


class HiddenMarkovLanguage(SplitCorpus):
    """Documents of a mixture of topics, each a hidden Markov model whose parameters are drawn from Dirichlet priors.

    A document draws its topic, its length and then, from the topic's model, its words, which blanks separate. Its label
    and its part are its topic, such as `topic2`. The length does not depend on anything else: from `shortest` words on,
    each word is the last with probability `stop`, and the word number `longest` is. Several documents in a row have the
    same topic, as in a book: a model that sees more than one document of a packed row gains from it, and is found out.

    Each topic starts in its stationary distribution, so parts of documents, where the border of a packed row cuts them,
    follow the same model as whole ones. With a tokenizer of kind `word` and room for all words, tokens are words, and
    `ssl_nlp.evaluation.limits` gives the least loss that any model can have.

    Unlike in other corpora, a text may occur several times, also in two splits: each split is drawn by itself, and a text
    that was left out because it had been drawn before would be missing where the model expects it.

    Args:
        topics: number of topics, each as likely as a Dirichlet prior with `topic_concentration` says.
        states: number of states of each topic.
        words: size of the vocabulary, which all topics share.
        topic_concentration: of the Dirichlet prior of the topics' probabilities.
        transition_concentration: of the prior of the transitions from each state. The lower, the surer the next state.
        word_concentration: of the prior of the words of each state. The lower, the fewer words a state has.
        shortest, longest: words of a document.
        stop: probability that a document ends after a word, between these two.
        same_topic: number of documents, one after the other, that share a topic.
        pairs: make every second document the pair of the one before it, which has the same topic.
        documents: number of documents over all splits.
        valid, test: share of the documents that make the split.
        seed: the parameters and the documents follow from it.

    Raises:
        UserError: a setting is out of range.
    """

    def __init__(
        self,
        topics: int = 4,
        states: int = 4,
        words: int = 64,
        topic_concentration: float = 10.0,
        transition_concentration: float = 0.1,
        word_concentration: float = 0.1,
        shortest: int = 8,
        longest: int = 63,
        stop: float = 0.06,
        same_topic: int = 8,
        documents: int = 200_000,
        valid: float = 0.01,
        test: float = 0.01,
        seed: int = 0,
        pairs: bool = False,
    ) -> None:
        super().__init__(None, None, paired=pairs)  # each split is drawn by itself
        concentrations = (topic_concentration, transition_concentration, word_concentration)
        problems = {
            f"topics {topics}, states {states}, words {words}: use 1 or more": min(topics, states, words) < 1,
            f"words {words}: use at most {_spellings(3)}": words > _spellings(3),
            f"concentrations {', '.join(map(str, concentrations))}: use numbers from {LEAST} on": not all(
                LEAST <= number < math.inf for number in concentrations
            ),
            f"shortest {shortest}, longest {longest}: use 1 <= shortest <= longest": not 1 <= shortest <= longest,
            f"stop {stop}: use a probability above 0": not 0 < stop <= 1,
            f"valid {valid}, test {test}: use shares above 0 that leave some for training": not (
                valid > 0 and test > 0 and valid + test < 1
            ),
            f"same_topic {same_topic}, documents {documents}: use 1 or more": min(same_topic, documents) < 1,
            f"seed {seed}: use 0 or more": seed < 0,
            f"same_topic {same_topic}: use an even number for pairs": pairs and same_topic % 2 == 1,
        }
        refuse(problems, str(self))
        held_out: dict[Split, int] = {"valid": math.ceil(documents * valid), "test": math.ceil(documents * test)}
        self.sizes: dict[Split, int] = {"train": documents - sum(held_out.values()), **held_out}
        few = f"documents {documents}: too few for a {'pair' if pairs else 'document'} in each split"
        refuse({few: min(self.sizes.values()) < 1 + pairs}, str(self))
        self.same_topic, self.seed, self.pairs = same_topic, seed, pairs
        self.model: HiddenMarkovMixture = draw_mixture(
            (topics, states, words), concentrations, np.random.default_rng([seed, 0])
        )
        self.words = spell(words)
        self.lengths = _lengths(shortest, longest, stop)
        self._draw_length, self._draw_topic = Outcomes(self.lengths), Outcomes(np.exp(self.model.topics))
        self._draw_first, self._draw_next, self._draw_word = (
            Outcomes(np.exp(logs)) for logs in (self.model.initial, self.model.transitions, self.model.emissions)
        )

    def __str__(self) -> str:
        return "HiddenMarkovLanguage"

    def documents(self, split: Split) -> Iterator[Document]:
        return self.read(split)

    def read(self, split: Split) -> Iterator[Document]:
        number = self.sizes[split]
        for block in range(-(-number // BLOCK)):
            random = np.random.default_rng([self.seed, 1 + SPLITS.index(split), block])
            rows, topics = self.draw(min(BLOCK, number - block * BLOCK), random, self.same_topic)
            texts, names = (
                [" ".join(self.words[word] for word in row) for row in rows],
                map(self.topic, topics.tolist()),
            )
            documents = [Document(text, label=name, part=name) for text, name in zip(texts, names, strict=True)]
            if self.pairs:
                both = zip(documents[::2], texts[1::2], strict=False)  # without the last one of an odd number
                documents = [replace(document, pair=pair) for document, pair in both]
            yield from documents

    def draw(self, number: int, random: np.random.Generator, same_topic: int) -> tuple[list[list[int]], Ints]:
        """Documents as lists of word numbers, of which `same_topic` in a row share a topic, and their topics (N,)."""
        start = np.zeros(number, dtype=np.int64)
        topic = self._draw_topic(start[::same_topic], random).repeat(same_topic)[:number]
        lengths = self._draw_length(start, random)
        states = self.model.initial.shape[1]
        state = topic * states + self._draw_first(topic, random)  # numbered over all topics
        words = []
        for _ in range(len(self.lengths) - 1):
            words.append(self._draw_word(state, random))
            state = topic * states + self._draw_next(state, random)
        rows = np.stack(words, axis=1)
        return [row[:length] for row, length in zip(rows.tolist(), lengths.tolist(), strict=True)], topic

    def topic(self, number: int) -> str:
        """The label of the documents of a topic."""
        return f"topic{number}"

    def as_numbers(self, texts: Sequence[str]) -> Ints:
        """(N, longest) word numbers of documents, filled with -1."""
        numbers = {word: number for number, word in enumerate(self.words)}
        rows = np.full((len(texts), len(self.lengths) - 1), UNSEEN)
        for row, text in zip(rows, texts, strict=True):
            words = [numbers[word] for word in text.split()]
            row[: len(words)] = words
        return rows

    def pair_information(self, pairs: int = DRAWN_PAIRS) -> Information:
        """The mutual information of two documents that share their topic and nothing else, I(first; second).

        Given the topic K the two are independent, so I(first; second) = H(K) - H(K | first) - H(K | second) +
        H(K | both). H(K) is exact, and the others are means of exact posterior entropies over drawn pairs, whose
        expectation is exact. The surer a document's topic is, the smaller is the standard error.
        """
        rows, _ = self.draw(2 * pairs, np.random.default_rng([self.seed, 0, 1]), 2)
        words = np.full((2 * pairs, len(self.lengths) - 1), UNSEEN)
        for place, row in zip(words, rows, strict=True):
            place[: len(row)] = row
        posteriors = self.model.topic_posterior(words)
        both = normalized(posteriors[::2] + posteriors[1::2] - self.model.topics, (1,))
        left = entropy(both) - entropy(posteriors[::2]) - entropy(posteriors[1::2])
        nats = float(entropy(self.model.topics) + left.mean())
        return Information(nats, float(left.std(ddof=1) / pairs**0.5))

    @property
    def end_rate(self) -> float:
        """The share of ends among all words and ends of documents."""
        return float(1 / (1 + self.lengths @ np.arange(len(self.lengths))))

    def ends(self, whole: bool) -> Floats:
        """The probability that a document ends after its first t words, if it has so many, for t from 0 to `longest`.

        Args:
            whole: whether these are words from its beginning; otherwise from a random place in it, where a row begins
                that was cut from a stream of documents.
        """
        at_least = self.lengths[::-1].cumsum()[::-1]
        if whole:
            return self.lengths / at_least
        # The place is any word of any document with the same probability: r words are left in one of r or more.
        left = np.concatenate([[0.0], at_least[1:]])
        return left / left[::-1].cumsum()[::-1]

    def fingerprint(self) -> str:
        model = self.model
        numbers = [array.tolist() for array in (model.topics, model.transitions, model.emissions, self.lengths)]
        return fingerprint("HiddenMarkovLanguage", self.sizes, self.same_topic, self.seed, self.pairs, numbers)


def spell(number: int) -> list[str]:
    """As many different words, all of two syllables or all of three."""
    syllables = [consonant + vowel for consonant in CONSONANTS for vowel in VOWELS]
    longest = 2 if number <= _spellings(2) else 3
    size = len(syllables)
    return ["".join(syllables[n // size**place % size] for place in range(longest)) for n in range(number)]


def _spellings(syllables: int) -> int:
    """Number of words of so many syllables."""
    return (len(CONSONANTS) * len(VOWELS)) ** syllables


def _lengths(shortest: int, longest: int, stop: float) -> Floats:
    """(longest + 1,) the probability that a document has 0, 1, ... words."""
    lengths = np.zeros(longest + 1)
    lengths[shortest:] = stop * (1 - stop) ** np.arange(longest + 1 - shortest)
    lengths[longest] = (1 - stop) ** (longest - shortest)
    return lengths


class Outcomes:
    """Draws from distributions of equally many outcomes.

    Args:
        probabilities: (..., outcomes) of R distributions, which are numbered in the order of their rows.
    """

    def __init__(self, probabilities: Floats) -> None:
        rows = probabilities.reshape(-1, probabilities.shape[-1])
        sums = rows.cumsum(axis=1)
        # One sorted list of all of them: row r lies between r and r + 1.
        self._sums = (sums / sums[:, -1:] + np.arange(len(rows))[:, None]).ravel()
        self._outcomes = rows.shape[1]

    def __call__(self, rows: Ints, random: np.random.Generator) -> Ints:
        """(N,) an outcome of each of the distributions `rows` (N,)."""
        places = np.searchsorted(self._sums, rows + random.random(len(rows)), side="right")
        return np.minimum(places - rows * self._outcomes, self._outcomes - 1)  # rounding may take it to the next row
