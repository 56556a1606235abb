"""What a method has to beat: embeddings that nobody trained."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from ssl_nlp.evaluation.vectors import to_tensor

WIDTH = 256
SEED = 0

_WORD = re.compile(r"\w+|[^\w\s]")


class TfIdf:
    """Counts of words, weighted by how rare the word is among the training texts (scikit-learn's TF-IDF, its defaults)."""

    def __init__(self, train_texts: Sequence[str]) -> None:
        self._vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", dtype=np.float32)  # words of one letter, too
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
    """

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, 256); zeros for a text without a word."""
        rows = []
        for text in texts:
            words = _WORD.findall(text.lower())
            rows.append(np.mean([_vector(word) for word in words], axis=0) if words else np.zeros(WIDTH))
        return torch.from_numpy(np.stack(rows).astype(np.float32))


@lru_cache(maxsize=100_000)
def _vector(word: str) -> np.ndarray:
    digest = hashlib.blake2b(f"{SEED} {word}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big")).standard_normal(WIDTH, dtype=np.float32)
