"""Free generation: how good and how varied the sentences are that a model draws, beside as many held-out sentences.

No single number says both. A model that draws the same good sentence again and again has a low perplexity, and one that
draws random words is varied, so each number is read beside that of held-out sentences. Only the reverse perplexity is bad
in either case (Zhao et al., arXiv:1706.04223).

Everything is measured on words and punctuation marks in lower case, because some tokenizers know no capital letters, and on
the first sentence of each draw, because some models draw whole documents.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.data.words import words_and_marks
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Drawer
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.result import Array, Result, statistic_of
from ssl_nlp.modules.kneser_ney import KneserNey
from ssl_nlp.objectives.scores import Unable

ORDER = 5  # of the n-gram models
BLEU_ORDER = 4  # of the longest n-grams that self-BLEU counts
NO_MATCH = 0.1  # matches of n-grams that count where there are none (method 1 of Chen & Cherry, WMT 2014)
LONGEST = 64  # tokens of a draw
SEED = 0
SHOWN = 5  # sentences that are kept in the details
START, END, UNKNOWN = range(3)  # tokens of the n-gram models beside words

Sentence = tuple[str, ...]
"""The words of a sentence."""


@dataclass(frozen=True)
class FreeGeneration(Evaluator):
    """Texts that a model draws at temperature 1, without a prompt.

    - `reverse_perplexity`, the primary metric: perplexity of held-out sentences under a 5-gram model (modified Kneser-Ney)
      of the drawn ones.
    - `perplexity`: perplexity of the drawn sentences under a 5-gram model of the training sentences.
    - `self_bleu`: the mean BLEU-4 of a sentence with all other drawn ones as references (Zhu et al., arXiv:1802.01886).
    - `distinct_1`, `distinct_2`: different words, and pairs of them, per word (Li et al., arXiv:1510.03055).
    - `copies`: the share of drawn sentences that are training sentences.
    - `length`: words per sentence.

    Perplexities are per word, and the end of each sentence counts as one; the items of the reverse perplexity are the
    held-out sentences. All words that no training sentence has count as the same word. Reverse perplexity, self-BLEU and
    distinct-n depend on the number of sentences, so only equal numbers of them can be compared.

    Attributes:
        train: sentences that the models were trained on.
        sample: held-out sentences, as many as are drawn, for `reference`.
        held_out: other held-out sentences, those of the reverse perplexity.
        valid: further ones, those of its validation value.
    """

    needs: ClassVar[Any] = Drawer
    higher_is_better: ClassVar[bool] = False
    train: Sequence[str]
    sample: Sequence[str]
    held_out: Sequence[str]
    valid: Sequence[str] = ()

    @property
    def validation(self) -> "FreeGeneration | None":
        return replace(self, held_out=self.valid, valid=()) if self.valid else None

    def __call__(self, model: Drawer) -> Result:
        """The numbers of what a model draws.

        Raises:
            Unable: it cannot draw a text, such as a causal model without a token to begin with.
        """
        try:
            drawn = model.draw(len(self.sample), max_new_tokens=LONGEST, seed=SEED)
        except UserError as error:
            raise Unable(str(error)) from error
        return self.result(drawn)

    def reference(self) -> Result:
        """The numbers of held-out sentences in the place of drawn ones."""
        return self.result(self.sample)

    def result(self, texts: Sequence[str]) -> Result:
        """The numbers of drawn texts."""
        firsts = [next(iter(split_sentences(text)), "") for text in texts]
        drawn = [words_of(text) for text in firsts]
        n_grams = self._n_grams(drawn)
        items = self._nats_and_words(n_grams, self._held_out)
        valid = [words_of(text) for text in self.valid]
        validation = statistic_of(self._nats_and_words(n_grams, valid), "perplexity") if valid else None
        metrics = {
            "reverse_perplexity": statistic_of(items, "perplexity"),
            "perplexity": statistic_of(self._nats_and_words(self._train_n_grams, drawn), "perplexity"),
            "self_bleu": self_bleu(drawn),
            "distinct_1": distinct(drawn, 1),
            "distinct_2": distinct(drawn, 2),
            "copies": sum(sentence in self._known for sentence in drawn) / len(drawn),
            "length": sum(map(len, drawn)) / len(drawn),
        }
        details = {"generation": {"sentences": len(drawn), "train": len(self._train)}, "drawn": firsts[:SHOWN]}
        return Result("reverse_perplexity", metrics, details, items, "perplexity", validation)

    @cached_property
    def _train(self) -> list[Sentence]:
        return [words_of(text) for text in self.train]

    @cached_property
    def _held_out(self) -> list[Sentence]:
        return [words_of(text) for text in self.held_out]

    @cached_property
    def _known(self) -> frozenset[Sentence]:
        return frozenset(self._train)

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        """The number of each word of the training sentences."""
        return {word: number for number, word in enumerate(dict.fromkeys(chain(*self._train)), start=UNKNOWN + 1)}

    @cached_property
    def _train_n_grams(self) -> KneserNey:
        return self._n_grams(self._train)

    def _n_grams(self, sentences: Sequence[Sentence]) -> KneserNey:
        return KneserNey.fit(self._rows(sentences), UNKNOWN + 1 + len(self._vocabulary), ORDER)

    def _nats_and_words(self, model: KneserNey, sentences: Sequence[Sentence]) -> Array:
        """(N, 2): the negative log-likelihood of each sentence, and the number of its words and its end."""
        sizes = np.array([len(words) + 1 for words in sentences])
        place = np.repeat(np.arange(len(sizes)), sizes)
        return np.stack([np.bincount(place, -model.log_probs(*self._rows(sentences))), sizes], axis=1)

    def _rows(self, sentences: Sequence[Sentence]) -> list[Array]:
        number = self._vocabulary
        return [np.array([START, *(number.get(word, UNKNOWN) for word in words), END]) for words in sentences]


def words_of(text: str) -> Sentence:
    """The words and punctuation marks of a text, in lower case."""
    return tuple(words_and_marks(text.lower()))


def distinct(sentences: Sequence[Sentence], n: int) -> float:
    """The number of different n-grams in sentences, divided by the number of words; 0 without words."""
    different = {gram for words in sentences for gram in n_grams(words, n)}
    return len(different) / max(sum(map(len, sentences)), 1)


def n_grams(words: Sentence, n: int) -> list[Sentence]:
    """All n-grams of a sentence, in order."""
    return [words[start : start + n] for start in range(len(words) - n + 1)]


def self_bleu(sentences: Sequence[Sentence], order: int = BLEU_ORDER) -> float:
    """The mean BLEU of each of several sentences, with all of the others as its references, as nltk computes it.

    The n-grams of up to `order` words have equal weights. Where none matches, a tenth counts as matching; but a sentence
    none of whose words matches has 0. Equal sentences of `order` words or more have 1. A shorter one lacks the longest
    n-grams, which count as not matching even so: equal sentences of two words have 0.32.
    """
    if len(sentences) < 2:
        return 0.0
    logs = np.zeros(len(sentences))  # of the products of the precisions
    for n in range(1, order + 1):
        matched, grams = _matches([Counter(n_grams(words, n)) for words in sentences])
        unmatched = 0.0 if n == 1 else NO_MATCH
        with np.errstate(divide="ignore"):
            logs += np.log(np.where(matched > 0, matched, unmatched) / np.maximum(grams, 1)) / order
    sizes = np.array([len(words) for words in sentences])
    penalties = [_brevity(size, others) for size, others in zip(sizes, _nearest_of_others(sizes), strict=True)]
    return float(np.mean(np.exp(logs) * penalties))


def _matches(counts: Sequence[Counter[Sentence]]) -> tuple[Array, Array]:
    """For each sentence, how many of its n-grams match those of another one, each no more often than it is there; and all.

    An n-gram matches as often as in the other sentence that has it most often. That is the first or, for this one itself,
    the second of all sentences in this respect.
    """
    most: dict[Sentence, tuple[int, int, int]] = {}  # the largest count, the second largest, and whose the largest is
    for number, counted in enumerate(counts):
        for gram, count in counted.items():
            first, second, owner = most.get(gram, (0, 0, -1))
            most[gram] = (count, first, number) if count > first else (first, max(count, second), owner)

    def of_others(gram: Sentence, number: int) -> int:
        first, second, owner = most[gram]
        return second if owner == number else first

    matched = [sum(min(c, of_others(g, i)) for g, c in counted.items()) for i, counted in enumerate(counts)]
    return np.array(matched), np.array([counted.total() for counted in counts])


def _nearest_of_others(sizes: Array) -> list[int]:
    """For each of several sizes, the nearest of the others; the smaller of two that are equally near."""
    counted = Counter(sizes.tolist())
    nearest = {}
    for size, number in counted.items():
        others = [other for other in counted if other != size or number > 1]
        nearest[size] = min(others, key=lambda other: (abs(other - size), other))
    return [nearest[size] for size in sizes.tolist()]


def _brevity(size: int, nearest: int) -> float:
    """BLEU's penalty for a sentence that is shorter than its nearest reference."""
    if size == 0:
        return 0.0
    return 1.0 if size > nearest else math.exp(1 - nearest / size)
