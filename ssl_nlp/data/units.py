"""What a row of a batch is: a block of packed documents, a single sentence, or two texts that belong together."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.store import TokenStore
from ssl_nlp.data.tokenizer import Tokenizer

IGNORE = -100


class Blocks:
    """Rows of exactly `length` tokens cut from the stream; only the very last row has padding.

    Row i holds the tokens [i * length, (i + 1) * length), whichever documents those are.
    """

    sizes = None  # all rows are equally long: nothing to sort by

    def __init__(self, store: TokenStore, tokenizer: Tokenizer, length: int) -> None:
        self.store, self.tokenizer, self.length = store, tokenizer, length

    def __len__(self) -> int:
        return -(-len(self.store) // self.length)

    def __getitem__(self, rows: Sequence[int]) -> TokenBatch:
        starts = self.store.starts
        ids = np.full((len(rows), self.length), self.tokenizer.pad_id, dtype=np.int64)
        segments = np.zeros_like(ids)
        following = np.full_like(ids, IGNORE)
        words = np.ones(ids.shape, dtype=bool)
        packed = padded = False
        n_tokens = 0
        for i, row in enumerate(rows):
            start, stop = row * self.length, min((row + 1) * self.length, len(self.store))
            size = stop - start
            ids[i, :size], words[i, :size] = self.store.read(start, stop)
            following[i, : size - 1] = ids[i, 1:size]
            first, last = np.searchsorted(starts, [start, stop], side="right")
            inner = starts[first:last] - start  # where a document begins within the row
            segments[i, inner[inner < size]] = 1
            segments[i, :size] = segments[i, :size].cumsum() + 1
            ends = inner[inner > 0] - 1
            following[i, ends] = IGNORE if self.tokenizer.suffix else self.tokenizer.end_id
            if starts[last - 1] != stop:  # the last document goes on in the next row
                following[i, size - 1] = self.store.read(stop, stop + 1)[0][0]
            packed |= bool(segments[i, size - 1] > 1)
            padded |= size < self.length
            n_tokens += size
        return TokenBatch(
            *(torch.from_numpy(array) for array in (ids, segments, following, words)), packed, padded, n_tokens
        )


class Sentences:
    """One sentence a row, truncated to `length` tokens and padded to the longest of its batch.

    Attributes:
        sizes: (sentences,) the number of tokens of each, for batches of similar length.
    """

    def __init__(self, store: TokenStore, tokenizer: Tokenizer, length: int) -> None:
        self.store, self.tokenizer, self.length = store, tokenizer, length
        self.sizes = np.minimum(np.diff(store.starts), length)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, rows: Sequence[int]) -> TokenBatch:
        read = [self.store.read(int(self.store.starts[row]), int(self.store.starts[row + 1])) for row in rows]
        batch = pad_rows([ids for ids, _ in read], [words for _, words in read], self.tokenizer, self.length)
        return replace(batch, documents=torch.from_numpy(self.store.documents[rows].astype(np.int64)))


class Pairs:
    """Two texts of one document an item: a batch of first texts, whose `pair` is the batch of second ones.

    Item i is the rows 2i and 2i + 1 of the store. Each text has its own frame and its own padding and is truncated to
    `length // 2` tokens, so that the two fit into `length` where a method joins them.

    Attributes:
        sizes: (pairs,) by which to sort pairs for batches of similar length (`item_sizes`).
    """

    def __init__(self, store: TokenStore, tokenizer: Tokenizer, length: int) -> None:
        self.texts = Sentences(store, tokenizer, length // 2)
        self.sizes = item_sizes(self.texts.sizes.reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, rows: Sequence[int]) -> TokenBatch:
        first = [2 * row for row in rows]
        return replace(self.texts[first], pair=self.texts[[row + 1 for row in first]])


def item_sizes(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(items,): numbers that sort items by their longest text, and equal ones by all of their texts together.

    The longest text of a batch is its width where all texts are encoded in one pass. The order of equals spares those
    padding who join the texts of an item to one row.

    Args:
        lengths: (items, texts of an item), in tokens.
    """
    total = lengths.sum(axis=1)
    return lengths.max(axis=1) * (total.max(initial=0) + 1) + total


def pad_rows(
    ids: Sequence[Sequence[int]], starts_word: Sequence[Sequence[bool]] | None, tokenizer: Tokenizer, length: int
) -> TokenBatch:
    """One framed document a row, truncated to `length` and padded on the right to the longest row."""
    sizes = [min(len(row), length) for row in ids]
    width = max(sizes)
    inputs = np.full((len(ids), width), tokenizer.pad_id, dtype=np.int64)
    segments = np.zeros_like(inputs)
    following = np.full_like(inputs, IGNORE)
    words = np.ones(inputs.shape, dtype=bool)
    for i, (row, size) in enumerate(zip(ids, sizes, strict=True)):
        inputs[i, :size] = row[:size]
        segments[i, :size] = 1
        following[i, : size - 1] = row[1:size]
        if size < len(row):
            following[i, size - 1] = row[size]
        elif not tokenizer.suffix:
            following[i, size - 1] = tokenizer.end_id
        if starts_word is not None:
            words[i, :size] = starts_word[i][:size]
    return TokenBatch(
        *(torch.from_numpy(array) for array in (inputs, segments, following, words)),
        packed=False,
        padded=min(sizes) < width,
        n_tokens=sum(sizes),
    )
