"""Batches from a corpus larger than the disk: tokenized on the way, resumable to the token."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from ssl_nlp.corpora import HubDataset
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.batch_maker import BatchMaker, StreamedDocument
from ssl_nlp.data.encoding import encode
from ssl_nlp.data.labels import Labels
from ssl_nlp.data.tokenizer import Tokenizer


class StreamBatches(IterableDataset[TokenBatch]):
    """Endless batches of the train split: when the documents are used up they come again in another order.

    Every batch carries a `cursor`, the position of its stream after it as plain data. Given its cursor, a stream resumes
    exactly there, at the cost of reading one window of documents again.

    Args:
        corpus: a corpus that streams.
        rank, ranks: this process and how many there are; DataLoader workers divide its share further.
        cursors: the last cursor of each worker's stream, by its number.
        turn: the worker whose stream is due first.
        labels: which labels the batches carry; None for none.
    """

    def __init__(
        self,
        corpus: HubDataset,
        tokenizer: Tokenizer,
        maker: BatchMaker,
        length: int,
        batch_size: int,
        rank: int,
        ranks: int,
        seed: int,
        cursors: dict[int, dict[str, Any]],
        turn: int,
        labels: Labels | None = None,
    ) -> None:
        self.corpus, self.tokenizer, self.maker, self.labels = corpus, tokenizer, maker, labels
        self.length, self.batch_size = length, batch_size
        self.rank, self.ranks, self.seed = rank, ranks, seed
        self.cursors, self.turn = cursors, turn

    def go_on_after(self, cursor: dict[str, Any]) -> None:
        """Begin the next iteration after the batch of this cursor: the trainer may end an epoch early."""
        self.cursors[cursor["worker"]] = cursor
        self.turn = cursor["worker"] + 1

    def __iter__(self) -> Iterator[TokenBatch]:
        info = get_worker_info()
        workers = 1 if info is None else info.num_workers
        worker = (self.turn + (0 if info is None else info.id)) % workers  # DataLoader asks its first worker first
        shard, shards = self.rank * workers + worker, self.ranks * workers
        cursor = self.cursors.get(worker, {"epoch": 0, "documents": None, "read": 0, "left": [], "batches": 0})
        documents = self.documents(cursor, shard, shards)
        seed = [self.seed, shard]
        for batch, after in self.maker.stream(
            documents, cursor, self.tokenizer, self.length, self.batch_size, seed, self.labels
        ):
            yield batch.with_cursor(after | {"worker": worker})

    def documents(self, cursor: dict[str, Any], shard: int, shards: int) -> Iterator[StreamedDocument]:
        """The documents of one reader after a cursor, in one epoch after the other.

        They are numbered as they are read, apart from those of other readers.

        Raises:
            UserError: no document of a whole epoch gives a text.
        """
        epoch, state, read = cursor["epoch"], cursor["documents"], cursor["read"]
        while True:
            stream = self.corpus.stream(rank=shard, ranks=shards, seed=self.seed, epoch=epoch)
            found = state is not None
            if state is not None:
                stream.load_state_dict(state)
            for document in stream:
                plain = None if self.labels is None else [self.labels.plain(document)]
                [rows] = encode([document], [self.maker.texts(document)], self.tokenizer, self.labels, plain)
                found, read = found or bool(rows), read + 1
                after = {"epoch": epoch, "documents": stream.state_dict(), "read": read}
                yield StreamedDocument(read * shards + shard, rows, after)
            if not found:
                raise self.maker.nothing(f"the part of {self.corpus} that reader {shard} of {shards} reads")
            epoch, state = epoch + 1, None
