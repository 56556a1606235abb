"""Baselines, which a method has to beat: embeddings without any training."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import regex
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits
from torch import Tensor

from ssl_nlp.data.words import WORD_RULES, words
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.vectors import to_sparse, to_tensor

WIDTH = 256
SEED = 0
LEAST = 1e-4  # of the largest singular value; smaller ones are rounding errors
_PART = regex.compile(r"[\w\p{M}]+")
VERSION = f"6-{WORD_RULES}"
"""Version of the baselines, for the keys of caches."""

Unit = Literal["words", "characters"]


def split_into(unit: Unit, text: str) -> list[str]:
    """The lower-cased words of a text in any script, or its characters and pairs of characters, without white space.

    Words consist of letters, marks, digits and _, as in scikit-learn: `numpy.array` is two words.
    """
    text = text.lower()
    if unit == "words":
        return [part for word in words(text) for part in _PART.findall(word)]
    text = "".join(text.split())
    return [*text, *map("".join, pairwise(text))]


class TfIdf:
    """Counts of words or characters, weighted by their rarity in the training texts (scikit-learn's TF-IDF).

    Args:
        train_texts: the texts that the weights come from.
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


class LSA:
    """Latent semantic analysis: TF-IDF projected on its main directions (Deerwester et al., JASIS 41(6), 1990).

    The directions are the first 256 right singular vectors of the TF-IDF of the training texts, or as many as there are.

    Args:
        train_texts: the texts that weights and directions come from.
        unit: words, or single characters and pairs of them.
    """

    def __init__(self, train_texts: Sequence[str], unit: Unit = "words") -> None:
        self._counts = TfIdf(train_texts, unit)
        matrix = to_sparse(self._counts.embed(train_texts))
        with threadpool_limits(1):  # sums in one order: the same directions on every number of cores
            _, values, directions = randomized_svd(matrix, min(WIDTH, *matrix.shape), random_state=SEED)
        # Probes scale each column to variance 1, which would turn rounding errors into features.
        self._directions = directions[: max(1, int((values > LEAST * values[0]).sum()))].T

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, 256), or fewer columns."""
        return torch.from_numpy(np.asarray(to_sparse(self._counts.embed(texts)) @ self._directions, dtype=np.float32))


class RandomWords:
    """The mean of a random vector for each word: the value of averaging alone (arXiv:1901.10444, section 3.1.1).

    A word's vector follows from the word alone, so no vocabulary is needed.

    Args:
        unit: words, or single characters and pairs of them.
        seed: of the vectors.
    """

    def __init__(self, unit: Unit = "words", seed: int = SEED) -> None:
        self.unit: Unit = unit
        self.seed = seed

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, 256); zeros for a text without a word."""
        rows = []
        for text in texts:
            found = split_into(self.unit, text)
            rows.append(np.mean([_vector(word, self.seed) for word in found], axis=0) if found else np.zeros(WIDTH))
        return torch.from_numpy(np.stack(rows).astype(np.float32))


def tf_idf(train_texts: Sequence[str]) -> Poolings:
    """TF-IDF of words or of characters, chosen as methods choose a pooling; `unit` in the details of results says which."""
    return Poolings({"words": TfIdf(train_texts), "characters": TfIdf(train_texts, "characters")}, "unit")


def lsa(train_texts: Sequence[str]) -> Poolings:
    """LSA of words or of characters, chosen as methods choose a pooling."""
    return Poolings({"words": LSA(train_texts), "characters": LSA(train_texts, "characters")}, "unit")


def random_words(seed: int = SEED) -> Poolings:
    """Random vectors of words or of characters, chosen as methods choose a pooling."""
    return Poolings({"words": RandomWords(seed=seed), "characters": RandomWords("characters", seed)}, "unit")


@lru_cache(maxsize=100_000)
def _vector(word: str, seed: int) -> np.ndarray:
    digest = hashlib.blake2b(f"{seed} {word}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big")).standard_normal(WIDTH, dtype=np.float32)
