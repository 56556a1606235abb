"""Counts of words near each other in a whole split, as rows to train on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from ssl_nlp.cache import build_once, cache_dir, fingerprint
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.batch_maker import StreamedDocument
from ssl_nlp.data.blocks import Blocks
from ssl_nlp.data.labels import Labels
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from ssl_nlp.data.store import TokenStore

PART = 2**20  # tokens that are counted together


@dataclass(eq=False)
class CountedPairs(TokenBatch):
    """A batch whose rows are two words each, and stand for all places where these are near each other.

    Attributes:
        counts: (B,) float32, above 0: the sum of 1 / distance over these places.
        total: the sum of the counts of all pairs of the split.
    """

    counts: Tensor | None = None
    total: float = 0.0


class Cooccurrences(Blocks):
    """Makes rows of the entries of GloVe's matrix: each two words that stand near each other, in both orders.

    The matrix of a split is counted in one pass and cached. `data.length` plays no part, and `data.batch_size` is a number
    of entries. Special tokens are skipped, as if they were not there, and documents do not see each other.

    Args:
        window: the most words to either side that count as near; one d words away counts 1 / d.
    """

    kind = "cooccurrence"
    label_kinds = ()

    def __init__(self, window: int = 10) -> None:
        self.window = window

    def fingerprint(self) -> Any:
        return Blocks.kind if type(self) is Cooccurrences else super().fingerprint()  # the tokens are the same

    def rows(self, store: "TokenStore", tokenizer: Tokenizer, length: int) -> "CooccurrenceRows":  # type: ignore[override]  # rows of pairs
        if self.window < 1:
            raise UserError(f"data.unit: window must be at least 1, not {self.window}")
        special = tokenizer.special_ids
        key = fingerprint("cooccurrences", 1, store.digest, special, tokenizer.vocab_size, self.window)

        def build(directory: Path) -> None:
            matrix = count(store, special, tokenizer.vocab_size, self.window).tocoo()
            if not matrix.nnz:
                raise UserError("data.unit: no two words stand near each other: use longer documents")
            np.save(directory / "words.npy", np.stack(matrix.coords, axis=1).astype(np.int32))
            np.save(directory / "counts.npy", matrix.data.astype(np.float32))

        return CooccurrenceRows(build_once(cache_dir() / "cooccurrences" / key, build))

    def stream(
        self,
        documents: Iterable[StreamedDocument],
        cursor: dict[str, Any],
        tokenizer: Tokenizer,
        length: int,
        batch_size: int,
        seed: Sequence[int],
        labels: Labels | None,
    ) -> Iterator[tuple[TokenBatch, dict[str, Any]]]:
        raise UserError("data.unit cooccurrence counts a whole corpus: set corpus.streaming to false")


class CooccurrenceRows:
    """The entries of a matrix on disk.

    Args:
        directory: holds `words.npy` (entries, 2) and `counts.npy` (entries,).

    Attributes:
        total: the sum of all counts.
    """

    sizes = None

    def __init__(self, directory: Path) -> None:
        self.words = np.load(directory / "words.npy", mmap_mode="r")
        self.counts = np.load(directory / "counts.npy", mmap_mode="r")
        self.total = float(self.counts.sum(dtype=np.float64))

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: Sequence[int]) -> CountedPairs:
        places = np.asarray(rows)
        ids = torch.from_numpy(self.words[places].astype(np.int64))
        return CountedPairs(
            ids,
            torch.ones_like(ids),
            packed=False,
            padded=False,
            n_tokens=ids.numel(),
            counts=torch.from_numpy(self.counts[places]),
            total=self.total,
        )


def count(store: "TokenStore", special_ids: Sequence[int], vocab_size: int, window: int) -> csr_array:
    """The symmetric matrix (V, V) of co-occurrences, float64.

    Args:
        store: the tokens of a split.
        special_ids: tokens that are skipped.
        vocab_size: V.
        window: the most words to either side that count as near.
    """
    is_word = np.ones(vocab_size, dtype=bool)
    is_word[special_ids] = False
    matrix = csr_array((vocab_size, vocab_size))
    words, documents = np.empty(0, np.int32), np.empty(0, np.int64)
    for start in range(0, len(store), PART):
        stop = min(start + PART, len(store))
        ids = np.asarray(store.read(start, stop).ids)
        kept = is_word[ids]
        numbers = np.searchsorted(store.starts, np.arange(start, stop), side="right")
        seen = min(len(words), window)  # words before this part that are near some of it
        words = np.concatenate([words[len(words) - seen :], ids[kept].astype(np.int32)])
        documents = np.concatenate([documents[len(documents) - seen :], numbers[kept]])
        matrix += _pairs(words, documents, seen, vocab_size, window)
    return matrix + matrix.T


def _pairs(
    words: npt.NDArray[np.int32], documents: npt.NDArray[np.int64], first: int, vocab_size: int, window: int
) -> csr_array:
    """The matrix of the pairs whose second word is at `first` or after it."""
    parts = []
    for distance in range(1, window + 1):
        begin = max(first, distance)
        before, after = slice(begin - distance, max(len(words) - distance, 0)), slice(begin, None)
        same = documents[before] == documents[after]
        parts.append((words[before][same], words[after][same], np.full(int(same.sum()), 1 / distance)))
    rows, columns, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    return coo_array((weights, (rows, columns)), shape=(vocab_size, vocab_size)).tocsr()
