"""What a method has to beat: embeddings that nobody trained."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import regex
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from ssl_nlp.data.words import WORD_RULES, words
from ssl_nlp.evaluation.classification import Classifier, LabelledSplits, LinearProbe, fit_probe
from ssl_nlp.evaluation.result import Embedder, Evaluator, Result
from ssl_nlp.evaluation.vectors import to_tensor

WIDTH = 256
SEED = 0
_PART = regex.compile(r"[\w\p{M}]+")
VERSION = f"3-{WORD_RULES}"
"""Of what the baselines are, for the keys of caches."""

Unit = Literal["words", "characters"]


def split_into(unit: Unit, text: str) -> list[str]:
    """The lower-cased words of a text in any script, or its characters and pairs of characters, white space left out.

    Words are cut at what is neither letter, mark, digit nor _, as scikit-learn does: `numpy.array` is two.
    """
    text = text.lower()
    if unit == "words":
        return [part for word in words(text) for part in _PART.findall(word)]
    text = "".join(text.split())
    return [*text, *map("".join, pairwise(text))]


class TfIdf:
    """Counts of words or characters, weighted by how rare each is among the training texts (scikit-learn's TF-IDF).

    Args:
        train_texts: what the weights come from.
        unit: words, or single characters and pairs of them.
    """

    def __init__(self, train_texts: Sequence[str], unit: Unit = "words") -> None:
        self._vectorizer = TfidfVectorizer(analyzer=lambda text: split_into(unit, text), dtype=np.float32)
        try:
            self._vectorizer.fit(train_texts)
        except ValueError:  # no text has a word
            self._vectorizer.fit(["nothing"])

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, vocabulary), sparse."""
        return to_tensor(self._vectorizer.transform(texts))


class RandomWords:
    """The mean of a random vector for each word: what averaging alone is worth (arXiv:1901.10444, section 3.1.1).

    A word's vector follows from the word alone, so that there is no vocabulary.

    Args:
        unit: words, or single characters and pairs of them.
    """

    def __init__(self, unit: Unit = "words") -> None:
        self.unit: Unit = unit

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, 256); zeros for a text without a word."""
        rows = []
        for text in texts:
            found = split_into(self.unit, text)
            rows.append(np.mean([_vector(word) for word in found], axis=0) if found else np.zeros(WIDTH))
        return torch.from_numpy(np.stack(rows).astype(np.float32))


class BetterUnit:
    """A baseline that reads words or characters, as suits the text.

    Of classes it takes, for each data set, the unit whose linear probe is right more often on the validation part (words,
    if they are equal), and this one for all that is asked of the data set. Tasks without a validation part get words.

    Args:
        make: the embedder for a unit.
    """

    def __init__(self, make: Callable[[Unit], Embedder]) -> None:
        self._embedders: Mapping[Unit, Embedder] = {"words": make("words"), "characters": make("characters")}
        self._chosen: dict[int, Unit] = {}

    def answer(self, evaluator: Evaluator) -> Result:
        """What the baseline is worth; `unit` in its details says what it has read."""
        unit: Unit = self._unit(evaluator.data) if isinstance(evaluator, Classifier) else "words"
        result = evaluator(self._embedders[unit])
        result.details["unit"] = unit
        return result

    def _unit(self, data: LabelledSplits) -> Unit:
        if id(data) not in self._chosen:
            self._chosen[id(data)] = max(self._embedders, key=lambda unit: _valid_hits(data, self._embedders[unit]))
        return self._chosen[id(data)]


def _valid_hits(data: LabelledSplits, embedder: Embedder) -> int:
    """How many validation items the linear probe classifies correctly."""
    probe = LinearProbe(data)
    train, valid = (probe.features(embedder, part) for part in (data.train, data.valid))
    labels = np.array(data.valid.labels)
    return int((fit_probe(train, np.array(data.train.labels), valid, labels).predict(valid) == labels).sum())


@lru_cache(maxsize=100_000)
def _vector(word: str) -> np.ndarray:
    digest = hashlib.blake2b(f"{SEED} {word}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big")).standard_normal(WIDTH, dtype=np.float32)
