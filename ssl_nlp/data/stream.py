"""Batches from a corpus larger than the disk: tokenized on the way, resumable to the token."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ssl_nlp.corpora import HubDataset
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.store import Unit, no_pairs, row_texts
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.data.units import Blocks, item_sizes, pad_rows

GROUP = 50  # batches of sentences or pairs that are sorted by length together


class StreamBatches(IterableDataset[TokenBatch]):
    """Endless batches of the train split: when the documents are used up they come again in another order.

    Every batch carries a `cursor`, plain data that says where its stream stood after it. Feeding the cursors back resumes
    each stream exactly there, at the cost of reading one window of documents again.

    Args:
        corpus: a corpus that streams.
        rank, ranks: this process and how many there are; DataLoader workers divide its share further.
        cursors: the last cursor of each worker's stream, by its number.
        turn: which worker's stream is due first.
    """

    def __init__(
        self,
        corpus: HubDataset,
        tokenizer: Tokenizer,
        unit: Unit,
        length: int,
        batch_size: int,
        rank: int,
        ranks: int,
        seed: int,
        cursors: dict[int, dict[str, Any]],
        turn: int,
    ) -> None:
        self.corpus, self.tokenizer, self.unit = corpus, tokenizer, unit
        self.length, self.batch_size = length, batch_size
        self.rank, self.ranks, self.seed = rank, ranks, seed
        self.cursors, self.turn = cursors, turn

    def go_on_after(self, cursor: dict[str, Any]) -> None:
        """Begin the next iteration after the batch of this cursor: the trainer may end an epoch before the stream does."""
        self.cursors[cursor["worker"]] = cursor
        self.turn = cursor["worker"] + 1

    def __iter__(self) -> Iterator[TokenBatch]:
        info = get_worker_info()
        workers = 1 if info is None else info.num_workers
        worker = (self.turn + (0 if info is None else info.id)) % workers  # DataLoader asks its first worker first
        cursor = self.cursors.get(worker, {"epoch": 0, "documents": None, "read": 0, "left": [], "batches": 0})
        batches = self._blocks if self.unit == "block" else self._rows
        for batch, after in batches(cursor, self.rank * workers + worker, self.ranks * workers):
            yield batch.with_cursor(after | {"worker": worker})

    def _documents(
        self, cursor: dict[str, Any], shard: int, shards: int
    ) -> Iterator[tuple[list[list[int]], dict[str, Any]]]:
        """Framed rows of each document, as `marked` tokens, and where the stream stands after it.

        Raises:
            UserError: a whole epoch gives no pair.
        """
        epoch, state, read = cursor["epoch"], cursor["documents"], cursor["read"]
        while True:
            stream = self.corpus.stream(rank=shard, ranks=shards, seed=self.seed, epoch=epoch)
            found = state is not None
            if state is not None:
                stream.load_state_dict(state)
            for document in stream:
                rows = [marked(*row) for row in self.tokenizer.encode(row_texts(document, self.unit))]
                found, read = found or bool(rows), read + 1
                yield rows, {"epoch": epoch, "documents": stream.state_dict(), "read": read}
            if not found:
                raise no_pairs(f"the part of {self.corpus} that reader {shard} of {shards} reads")
            epoch, state = epoch + 1, None

    def _blocks(self, cursor: dict[str, Any], shard: int, shards: int) -> Iterator[tuple[TokenBatch, dict[str, Any]]]:
        """Packed rows; the tokens that did not fill a batch wait in the cursor."""
        need = self.batch_size * self.length
        buffer = TokenBuffer(cursor["left"], cursor.get("starts", []))
        for rows, after in self._documents(cursor, shard, shards):
            for row in rows:
                buffer.add(row)
            while len(buffer) > need:  # one more than needed: the last position predicts it
                batch = Blocks(buffer, self.tokenizer, self.length)[range(self.batch_size)]
                buffer.drop(need)
                yield batch, after | {"left": list(buffer.ids), "starts": list(buffer.begin)}

    def _rows(self, cursor: dict[str, Any], shard: int, shards: int) -> Iterator[tuple[TokenBatch, dict[str, Any]]]:
        """Batches of similar length out of a group of sentences or pairs; a resumed stream reads its group again.

        Documents are numbered as they are read, apart from those of other readers.
        """
        texts = 2 if self.unit == "pair" else 1  # in an item
        length = self.length // texts
        size = GROUP * self.batch_size
        group: list[tuple[int, list[list[int]]]] = cursor["left"]
        start, done = dict(cursor), cursor["batches"]
        for rows, after in self._documents(cursor, shard, shards):
            document = after["read"] * shards + shard
            rows = [row[: length + 1] for row in rows]
            group = group + [(document, rows[i : i + texts]) for i in range(0, len(rows), texts)]
            if len(group) < size:
                continue
            group, rest = group[:size], group[size:]
            sizes = item_sizes(np.array([[len(row) for row in item] for _, item in group]))
            order = np.argsort(sizes, kind="stable").reshape(GROUP, self.batch_size)
            order = order[np.random.default_rng([self.seed, shard, after["epoch"]]).permutation(GROUP)]
            for i in range(done, GROUP):
                yield self._batch([group[row] for row in order[i]], length), start | {"batches": i + 1}
            group, done = rest, 0
            start = after | {"left": rest, "batches": 0}

    def _batch(self, items: list[tuple[int, list[list[int]]]], length: int) -> TokenBatch:
        """The batch of items, each the number of its document and one text or two, truncated to `length`."""
        documents = torch.tensor([document for document, _ in items])
        first, *second = (
            replace(pad_rows(*zip(*map(unmarked, rows), strict=True), self.tokenizer, length), documents=documents)
            for rows in zip(*(texts for _, texts in items), strict=True)
        )
        return replace(first, pair=second[0]) if second else first


def marked(ids: list[int], starts_word: list[bool]) -> list[int]:
    """Tokens and whether a word begins at each in one list, as cursors keep them: one that continues a word is ~id."""
    return [token if start else ~token for token, start in zip(ids, starts_word, strict=True)]


def unmarked(row: list[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """What `marked` has joined."""
    tokens = np.array(row, dtype=np.int64)
    starts_word = tokens >= 0
    return np.where(starts_word, tokens, ~tokens), starts_word


class TokenBuffer:
    """A `TokenStore` in memory, to which documents are added at the end and from which tokens are taken at the front.

    Attributes:
        ids: the tokens, `marked`.
        begin: where documents begin.
    """

    def __init__(self, ids: list[int], begin: list[int]) -> None:
        self.ids, self.begin = list(ids), list(begin)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where documents begin; the first may have begun before the buffer does, the last entry is the end."""
        inner = [start for start in self.begin if start > 0]
        return np.array([0, *inner, len(self.ids)], dtype=np.int64)

    def read(self, start: int, stop: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """As `TokenStore.read`."""
        return unmarked(self.ids[start:stop])

    def add(self, row: list[int]) -> None:
        """Append a document."""
        self.begin.append(len(self.ids))
        self.ids += row

    def drop(self, count: int) -> None:
        """Forget the first `count` tokens."""
        self.ids = self.ids[count:]
        self.begin = [start - count for start in self.begin if start >= count]
