"""Training documents from a source that is larger than the disk, with a position that can be saved."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ssl_nlp.corpora.base import Document
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Turn the errors of `datasets` into one line that names `name` and the problem.

    Raises:
        UserError: the hub cannot be reached; the data set, configuration or split does not exist; or a file is broken.
    """
    from datasets.exceptions import DatasetsError

    try:
        yield
    except ConnectionError as error:
        raise UserError(
            f"{name}: {error}; without network, give a local directory of csv, json, parquet or text files as `path`"
        ) from error
    except (DatasetsError, OSError, ValueError) as error:
        cause = error.__cause__ or error  # `datasets` wraps the error that names the problem
        reason = str(cause).strip().splitlines() or [type(cause).__name__]
        raise UserError(f"{name}: {reason[0]}") from error


def read_batches(source: "Dataset | IterableDataset", size: int, name: str) -> Iterator[list[dict[str, Any]]]:
    """All records of `source`, `size` at a time, with the errors of `telling`.

    Plain iteration over a streaming data set would silently give a `DataLoader` worker only some of the shards.
    """
    with telling(name):
        for columns in source.iter(batch_size=size):
            yield [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


class DocumentStream:
    """One epoch of the training documents of one reader, shuffled within windows.

    A window of `window` consecutive records is read, permuted by (seed, epoch, reader, window) and given out before the
    next one is read. The state is therefore the start of the window and the number of its documents that were given out: it
    stays small and holds no text. Resuming reads one window again and then continues exactly as before.

    The source's shards are divided among the readers; where there are fewer shards than readers, each reads the whole
    source and keeps every `ranks`-th record. Each record has exactly one reader either way. In epochs after the first
    the shards come in another order.

    Args:
        source: the records, the same in every reader.
        to_document: the training document of a record, or None if the record does not make one.
        name: what errors call the source.
        rank, ranks: which of how many readers this is. With worker processes each worker of each device is a reader.
        epoch: number of the pass over the source, from 0.
        seed: of the permutations.
        window: records that are shuffled together.

    Raises:
        UserError: while iterating, when a file is broken, or the whole epoch has no document for this reader.
    """

    def __init__(
        self,
        source: "IterableDataset",
        to_document: Callable[[dict[str, Any]], Document | None],
        name: str,
        rank: int,
        ranks: int,
        epoch: int = 0,
        seed: int = 0,
        window: int = 1000,
    ) -> None:
        if not 0 <= rank < ranks:
            raise ValueError(f"rank {rank} is not one of {ranks} ranks")
        self.source = source
        self.to_document = to_document
        self.name = name
        self.setting: dict[str, int] = {"rank": rank, "ranks": ranks, "seed": seed, "window": window}
        self.epoch = epoch
        self._start: dict[str, Any] | None = None  # the source's state before the current window; None: its beginning
        self._windows = 0  # windows that were given out completely
        self._offset = 0  # documents of the current window that were given out

    def state_dict(self) -> dict[str, Any]:
        """The position after the last document given out, as plain numbers, strings, lists and dicts."""
        return {
            **self.setting,
            "epoch": self.epoch,
            "start": self._start,
            "windows": self._windows,
            "offset": self._offset,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue, at the next `iter`, after the document at which `state` was taken.

        Raises:
            UserError: the state belongs to a stream with other readers, another seed or another window.
        """
        for name, value in self.setting.items():
            if state[name] != value:
                raise UserError(
                    f"cannot resume the stream: {name} was {state[name]} and is {value} now; "
                    "resume with the same settings, devices and workers"
                )
        self.epoch = state["epoch"]
        self._start, self._windows, self._offset = state["start"], state["windows"], state["offset"]

    def __iter__(self) -> Iterator[Document]:
        from datasets.distributed import split_dataset_by_node

        rank, ranks, seed, size = (self.setting[name] for name in ("rank", "ranks", "seed", "window"))
        if self.source.num_shards >= ranks:
            source = self.source.shard(ranks, rank, contiguous=False)
        else:
            source = split_dataset_by_node(self.source, rank, ranks)  # every `ranks`-th record
        source.set_epoch(self.epoch)
        if self._start is not None:
            source.load_state_dict(self._start)
        given = self._windows > 0 or self._offset > 0
        for records in read_batches(source, size, self.name):
            following = source.state_dict()
            documents = [document for record in records if (document := self.to_document(record)) is not None]
            random.Random(f"{seed} {self.epoch} {rank} {self._windows}").shuffle(documents)
            for document in documents[self._offset :]:
                self._offset += 1
                given = True
                yield document
            self._start, self._windows, self._offset = following, self._windows + 1, 0
        if not given:
            raise UserError(f"{self.name} has no training document for reader {rank} of {ranks}: use fewer workers")
