"""Embeddings kept, in memory or on disk, so that a text meets a model once, whatever is asked about it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.cache import build_once, cache_dir, fingerprint, intact
from ssl_nlp.corpora.base import text_digest
from ssl_nlp.evaluation.result import Array, Embedder

CHUNK = 512  # texts between two reports of progress


class MemoryEmbedder:
    """The embeddings of given texts, computed together, each once.

    Args:
        embedder: anything whose embeddings are dense.
        texts: all that will be asked for.
    """

    def __init__(self, embedder: Embedder, texts: Sequence[str]) -> None:
        self._rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        self._embeddings = embedder.embed(list(self._rows))

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, E)."""
        return self._embeddings[[self._rows[text] for text in texts]]


class CachedEmbedder:
    """The embeddings of `embedder`, computed once for every text and kept under the cache directory.

    What is asked for together is stored together, as a memory-mapped array beside the digests of its texts; what an
    earlier array holds is not computed again. Processes that ask for the same texts compute them once.

    Args:
        embedder: anything whose embeddings are dense.
        key: what the embeddings depend on beside the text, such as the digest of a checkpoint.
        on_progress: called with the number of texts that were just computed.
    """

    def __init__(self, embedder: Embedder, key: str, on_progress: Callable[[int], object] = lambda texts: None) -> None:
        self._embedder, self._on_progress = embedder, on_progress
        self._directory = cache_dir() / "embeddings" / key
        self._rows: dict[bytes, tuple[int, int]] = {}  # by text: which array, which row of it
        self._arrays: list[Array] = []
        self._opened: set[Path] = set()

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts, each once, that are yet to be computed."""
        for directory in sorted(self._directory.glob("[0-9a-f]*")):
            if directory.is_dir() and directory not in self._opened and intact(directory):
                self._open(directory)
        return [text for text in dict.fromkeys(texts) if text_digest(text) not in self._rows]

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, E) float32."""
        digests = [text_digest(text) for text in texts]
        if any(digest not in self._rows for digest in digests) and (missing := self.missing(texts)):
            key = fingerprint([text_digest(text).hex() for text in missing])
            self._open(build_once(self._directory / key, lambda path: self._build(path, missing)))
        places = np.array([self._rows[digest] for digest in digests])
        embeddings = np.empty((len(texts), self._arrays[0].shape[1]), dtype=np.float32)
        for number in np.unique(places[:, 0]):
            rows = places[:, 0] == number
            embeddings[rows] = self._arrays[number][places[rows, 1]]
        return torch.from_numpy(embeddings)

    def _open(self, directory: Path) -> None:
        if directory in self._opened:
            return
        self._opened.add(directory)
        digests = np.load(directory / "texts.npy")
        self._arrays.append(np.load(directory / "embeddings.npy", mmap_mode="r"))
        for row, digest in enumerate(digests):
            self._rows.setdefault(digest.tobytes(), (len(self._arrays) - 1, row))

    def _build(self, directory: Path, texts: list[str]) -> None:
        ordered = sorted(texts, key=len)  # texts of like length share a batch with little padding
        parts = []
        for start in range(0, len(ordered), CHUNK):
            part = ordered[start : start + CHUNK]
            parts.append(self._embedder.embed(part).float().numpy())
            self._on_progress(len(part))
        digests = np.stack([np.frombuffer(text_digest(text), dtype=np.uint8) for text in ordered])
        np.save(directory / "embeddings.npy", np.concatenate(parts))
        np.save(directory / "texts.npy", digests)
