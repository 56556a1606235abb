"""Assignment of rows to batches: shuffled, split over ranks, and resumable from two numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, DistributedSampler, SequentialSampler

from ssl_nlp.errors import UserError

WINDOW = 100  # batches whose rows are sorted by size together: wide enough for little padding, narrow enough to shuffle


class ResumableSampler(DistributedSampler[Any]):
    """Lists of row numbers, one for each batch of one rank, from any position of any epoch on.

    It is a `DistributedSampler` so that Lightning leaves the sharding to it.

    Attributes:
        epoch, position: where to begin: `position` batches of `epoch` are skipped, at no cost.
    """

    epoch = 0
    position = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch. Lightning calls it before each."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0


class BatchSampler(ResumableSampler):
    """Lists of row numbers, one for each batch of one rank.

    The batches of an epoch are a function of (seed, epoch) alone. Each global batch of `batch_size * ranks` rows is dealt
    out to the ranks in turn, so that two ranks with batch size B see together what one rank sees with 2B. Every row
    occurs exactly once an epoch over all ranks; the last global batch may be smaller or, if a rank would get nothing,
    its rows join the one before.

    Args:
        rows: number of rows of the data set.
        sizes: (rows,) number by which rows are sorted; batches are then made of rows of similar size. None: any rows.
        batch_size: rows of a batch on one rank.
        shuffle: a new order every epoch; otherwise always the order of epoch 0.
    """

    def __init__(
        self,
        rows: int,
        sizes: npt.NDArray[np.int64] | None,
        batch_size: int,
        rank: int,
        ranks: int,
        seed: int,
        shuffle: bool,
    ) -> None:
        if rows < ranks:
            raise UserError(
                f"{rows} rows of text cannot be shared by {ranks} processes: use fewer devices or more text"
            )
        self.rows, self.sizes, self.global_batch = rows, sizes, batch_size * ranks
        self.rank, self.ranks = rank, ranks  # type: ignore[assignment]  # Lightning reads neither
        self.seed, self.shuffle = seed, shuffle

    def __len__(self) -> int:
        full, rest = divmod(self.rows, self.global_batch)
        return max(1, full + (rest >= self.ranks))

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches()[self.position :]:
            yield batch[self.rank :: self.ranks].tolist()

    def _batches(self) -> list[npt.NDArray[np.int64]]:
        random = np.random.default_rng([self.seed, self.epoch if self.shuffle else 0])
        order = random.permutation(self.rows)
        if self.sizes is not None:
            window = WINDOW * self.global_batch
            parts = [order[start : start + window] for start in range(0, self.rows, window)]
            order = np.concatenate([part[np.argsort(self.sizes[part], kind="stable")] for part in parts])
        edges = [min((i + 1) * self.global_batch, self.rows) for i in range(len(self))]
        edges[-1] = self.rows
        batches = np.split(order, edges[:-1])
        if self.sizes is not None:  # short and long batches in turn; an epoch still ends with the odd one
            last = batches.pop()
            batches = [batches[i] for i in random.permutation(len(batches))] + [last]
        return batches


class FixedBatches(Dataset[Any]):
    """The batches of one epoch by number, the same in every epoch, for `overfit_batches`.

    Args:
        rows: a data set that is indexed by a list of row numbers.
        batches: the row numbers of each batch.
    """

    def __init__(self, rows: Any, batches: list[list[int]]) -> None:
        self.rows, self.batches = rows, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Any:
        return self.rows[self.batches[number]]


class InOrder(SequentialSampler):
    """Numbers in order; the first epoch begins at `first`, for a resumed run."""

    def __init__(self, data: FixedBatches, first: int) -> None:
        super().__init__(data)
        self.size, self.first = len(data), first

    def __iter__(self) -> Iterator[int]:
        first, self.first = self.first, 0
        return iter(range(first, self.size))
