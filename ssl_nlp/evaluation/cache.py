"""Embeddings kept in memory or on disk, so that each text passes through a model once, for all poolings and evaluators."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.cache import build_once, cache_dir, fingerprint, intact
from ssl_nlp.corpora.base import text_digest
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder, PoolingEmbedder
from ssl_nlp.evaluation.result import Array
from ssl_nlp.evaluation.vectors import coverage_of

K = TypeVar("K")
V = TypeVar("V")

CHUNK = 512  # texts between two reports of progress
PREFIX = "pooling-"  # of the files, one for each pooling


def embed_in_memory(embedder: PoolingEmbedder, texts: Sequence[str]) -> dict[str, Embedder]:
    """Embedders of some texts by pooling. Each text is computed once, all of them together.

    Args:
        embedder: anything whose embeddings are dense.
        texts: all that will be looked up.
    """
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    embeddings = embedder.embed_all(list(rows))
    return {name: _InMemory(rows, found, coverage_of(embedder)) for name, found in embeddings.items()}


class _InMemory:
    def __init__(self, rows: Mapping[str, int], embeddings: Tensor, covers: Callable[[str], bool]) -> None:
        self._rows, self._embeddings, self.covers = rows, embeddings, covers

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, E)."""
        return self._embeddings[[_place(self._rows, text, text) for text in texts]]


def _place(rows: Mapping[K, V], key: K, text: str) -> V:
    if key not in rows:
        raise UserError(
            f"an evaluator embeds {text[:40]!r}, which is not in its `texts`: let `texts` list all that it embeds"
        )
    return rows[key]


class EmbeddingCache:
    """The embeddings of `embedder`, computed once for every text and kept under the cache directory.

    Texts that are computed together are stored together: a memory-mapped array for each pooling, beside the digests of the
    texts. Texts that an earlier array holds are not computed again. Processes that need the same texts compute them once.

    Args:
        embedder: anything whose embeddings are dense.
        key: what the embeddings depend on beside the text, such as the digest of a checkpoint.
        on_progress: called with the number of texts that were just computed.
    """

    def __init__(
        self, embedder: PoolingEmbedder, key: str, on_progress: Callable[[int], object] = lambda texts: None
    ) -> None:
        self._embedder, self._on_progress = embedder, on_progress
        self._directory = cache_dir() / "embeddings" / key
        self._rows: dict[bytes, tuple[int, int]] = {}  # by text: which directory, which row of its arrays
        self._arrays: list[dict[str, Array]] = []  # of each directory, by pooling
        self._opened: set[Path] = set()

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The texts that are not in the cache, each once."""
        for directory in sorted(self._directory.glob("[0-9a-f]*")):
            if directory.is_dir() and directory not in self._opened and intact(directory):
                self._open(directory)
        return [text for text in dict.fromkeys(texts) if text_digest(text) not in self._rows]

    def embedders(self, texts: Sequence[str]) -> dict[str, Embedder]:
        """Embedders of some texts by pooling; missing embeddings are computed now.

        Args:
            texts: all that will be looked up; at least one.
        """
        if missing := self.missing(texts):
            key = fingerprint([text_digest(text).hex() for text in missing])
            self._open(build_once(self._directory / key, lambda path: self._build(path, missing)))
        number, _ = self._rows[text_digest(texts[0])]
        return {name: _Cached(self, name, coverage_of(self._embedder)) for name in self._arrays[number]}

    def look_up(self, pooling: str, texts: Sequence[str]) -> Tensor:
        """(N, E) float32: embeddings that were computed before."""
        places = np.array([_place(self._rows, text_digest(text), text) for text in texts])
        width = self._arrays[0][pooling].shape[1]
        embeddings = np.empty((len(texts), width), dtype=np.float32)
        for number in np.unique(places[:, 0]):
            rows = places[:, 0] == number
            embeddings[rows] = self._arrays[number][pooling][places[rows, 1]]
        return torch.from_numpy(embeddings)

    def _open(self, directory: Path) -> None:
        if directory in self._opened:
            return
        self._opened.add(directory)
        digests = np.load(directory / "texts.npy")
        names = (directory / "poolings.txt").read_text().split()
        self._arrays.append({name: np.load(directory / f"{PREFIX}{name}.npy", mmap_mode="r") for name in names})
        for row, digest in enumerate(digests):
            self._rows.setdefault(digest.tobytes(), (len(self._arrays) - 1, row))

    def _build(self, directory: Path, texts: list[str]) -> None:
        ordered = sorted(texts, key=len)  # texts of similar length share a batch with little padding
        parts: dict[str, list[Array]] = {}
        for start in range(0, len(ordered), CHUNK):
            part = ordered[start : start + CHUNK]
            for name, embeddings in self._embedder.embed_all(part).items():
                parts.setdefault(name, []).append(embeddings.float().numpy())
            self._on_progress(len(part))
        for name, arrays in parts.items():
            np.save(directory / f"{PREFIX}{name}.npy", np.concatenate(arrays))
        digests = np.stack([np.frombuffer(text_digest(text), dtype=np.uint8) for text in ordered])
        np.save(directory / "texts.npy", digests)
        (directory / "poolings.txt").write_text("\n".join(parts))  # in the order in which equally good ones count


class _Cached:
    def __init__(self, cache: EmbeddingCache, pooling: str, covers: Callable[[str], bool]) -> None:
        self._cache, self._pooling, self.covers = cache, pooling, covers

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, E) float32."""
        return self._cache.look_up(self._pooling, texts)
