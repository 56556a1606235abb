"""Embedders that need no model, and a check of suites by one of them."""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.evaluation import Embedder


class Given:
    """The vectors that a test says."""

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self.vectors = vectors

    def embed(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.stack([self.vectors[text] for text in texts]).astype(np.float32))


class Hashed:
    """A random vector for each text, plus one for its first word: texts that begin alike lie near each other."""

    def __init__(self, width: int = 16) -> None:
        self.width, self.calls = width, 0

    def embed(self, texts: Sequence[str]) -> Tensor:
        self.calls += 1
        rows = [self._vector(text) + 0.8 * self._vector(text.split()[0]) for text in texts]
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    def embed_all(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Two poolings, of which the first sees more."""
        embeddings = self.embed(texts)
        return {"mean": embeddings, "last": embeddings[:, :4]}

    def _vector(self, text: str) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(text.encode())).normal(size=self.width)


def check_results(suite):
    """Every evaluator of embeddings has a result; the probes with few labels, which take the longest, are left out."""
    for name, evaluator in suite.evaluators.items():
        if "few_labels" not in name and evaluator.needs is Embedder:
            assert evaluator(Hashed()).primary is not None
