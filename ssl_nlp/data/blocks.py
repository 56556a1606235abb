"""Documents packed one behind the other into rows of equal length."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ssl_nlp.corpora.base import Document
from ssl_nlp.data.batch import IGNORE_INDEX, TokenBatch
from ssl_nlp.data.batch_maker import BatchMaker, StreamedDocument, TokenRow, unmarked
from ssl_nlp.data.labels import Labels
from ssl_nlp.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ssl_nlp.data.store import TokenStore


class Blocks(BatchMaker):
    """Packs documents into rows of exactly `data.length` tokens, for language modelling: no padding, nothing cut off.

    The only labels that fit are tags: each stays at its token. A class, a score or a span belongs to a document, and a
    row may hold several documents, or a part of one.
    """

    kind = "block"
    label_kinds = ("tags",)

    def texts(self, document: Document) -> list[str]:
        return [document.text]

    def text_lengths(self, length: int) -> None:
        return None

    def rows(self, store: "TokenStore", tokenizer: Tokenizer, length: int) -> "BlockRows":
        return BlockRows(store, tokenizer, length)

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
        """As `BatchMaker.stream`. The tokens that did not fill a batch wait in the cursor."""
        need = batch_size * length
        buffer = TokenBuffer(cursor["left"], cursor.get("starts", []), cursor.get("labels", []), labels)
        for document in documents:
            for row in document.rows:
                buffer.add(row)
            while len(buffer) > need:  # one more than the batch holds: its last position predicts it
                batch = BlockRows(buffer, tokenizer, length)[range(batch_size)]
                buffer.drop(need)
                yield batch, document.after | buffer.state()


class BlockRows:
    """Rows of exactly `length` tokens cut from the stream of a store; only the very last row has padding.

    Row i holds the tokens [i * length, (i + 1) * length), whichever documents those are.
    """

    sizes = None  # all rows are equally long: nothing to sort by

    def __init__(self, store: "TokenStore | TokenBuffer", tokenizer: Tokenizer, length: int) -> None:
        self.store, self.tokenizer, self.length = store, tokenizer, length

    def __len__(self) -> int:
        return -(-len(self.store) // self.length)

    def __getitem__(self, rows: Sequence[int]) -> TokenBatch:
        starts = self.store.starts
        ids = np.full((len(rows), self.length), self.tokenizer.pad_id, dtype=np.int64)
        segments = np.zeros_like(ids)
        following = np.full_like(ids, IGNORE_INDEX)
        words = np.ones(ids.shape, dtype=bool)
        labels = self.store.labels
        tags: list[Any] = []
        packed = padded = False
        n_tokens = 0
        for i, row in enumerate(rows):
            start, stop = row * self.length, min((row + 1) * self.length, len(self.store))
            size = stop - start
            ids[i, :size], words[i, :size], numbers = self.store.read(start, stop)
            tags.append(numbers)
            following[i, : size - 1] = ids[i, 1:size]
            first, last = np.searchsorted(starts, [start, stop], side="right")
            inner = starts[first:last] - start  # starts of documents within the row
            segments[i, inner[inner < size]] = 1
            segments[i, :size] = segments[i, :size].cumsum() + 1
            ends = inner[inner > 0] - 1
            following[i, ends] = IGNORE_INDEX if self.tokenizer.suffix else self.tokenizer.end_id
            if starts[last - 1] != stop:  # the last document continues in the next row
                following[i, size - 1] = self.store.read(stop, stop + 1).ids[0]
            packed |= bool(segments[i, size - 1] > 1)
            padded |= size < self.length
            n_tokens += size
        return TokenBatch(
            *(torch.from_numpy(array) for array in (ids, segments, following, words)),
            packed,
            padded,
            n_tokens,
            labels=None if labels is None else labels.collate(tags, self.length),
        )


class TokenBuffer:
    """A `TokenStore` in memory: documents are added at the end, and tokens are taken from the front.

    Attributes:
        ids: the tokens, as `TokenRow.marked` writes them.
        begin: where documents begin.
        tags: the label of each token; empty without `labels`.
    """

    def __init__(self, ids: list[int], begin: list[int], tags: list[int], labels: Labels | None) -> None:
        self.ids, self.begin, self.tags, self.labels = list(ids), list(begin), list(tags), labels

    def state(self) -> dict[str, list[int]]:
        """The content as plain data, for cursors."""
        state = {"left": list(self.ids), "starts": list(self.begin)}
        return state if self.labels is None else state | {"labels": list(self.tags)}

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """The start of each document, and the end. The first document may have begun before the buffer."""
        inner = [start for start in self.begin if start > 0]
        return np.array([0, *inner, len(self.ids)], dtype=np.int64)

    def read(self, start: int, stop: int) -> TokenRow:
        """The tokens [start, stop)."""
        return unmarked(self.ids[start:stop], self.tags[start:stop])

    def add(self, row: TokenRow) -> None:
        """Append a document."""
        self.begin.append(len(self.ids))
        self.ids += row.marked()
        self.tags += row.labels or []  # type: ignore[arg-type]  # tags are whole numbers

    def drop(self, count: int) -> None:
        """Forget the first `count` tokens."""
        self.ids, self.tags = self.ids[count:], self.tags[count:]
        self.begin = [start - count for start in self.begin if start >= count]
