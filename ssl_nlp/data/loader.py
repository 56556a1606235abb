"""The loader of the data module, some of whose batches may be seen before it is their turn."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from ssl_nlp.data.batch import TokenBatch


class Lookahead(Iterator[TokenBatch]):
    """The batches of an iterator, some of which may be seen early; each still comes once.

    Args:
        batches: the iterator.
    """

    def __init__(self, batches: Iterator[TokenBatch]) -> None:
        self._batches = batches
        self._waiting: deque[TokenBatch] = deque()  # seen, but not given out
        self._given: deque[TokenBatch] = deque()  # given out, but perhaps not used yet: a trainer may fetch ahead

    def __next__(self) -> TokenBatch:
        batch = self._waiting.popleft() if self._waiting else next(self._batches)
        self._given.append(batch)
        return batch

    def use(self, batch: TokenBatch) -> None:
        """Note that a batch is the current one: those before it are forgotten.

        It may be a copy in another precision, whose token ids are those of the original.
        """
        if any(given.input_ids is batch.input_ids for given in self._given):  # a validation has batches of its own
            while self._given[0].input_ids is not batch.input_ids:
                self._given.popleft()

    def upcoming(self, number: int) -> list[TokenBatch]:
        """The current batch and those that follow it, `number` in all, or fewer at the end."""
        missing = number - len(self._given) - len(self._waiting)
        self._waiting.extend(islice(self._batches, max(missing, 0)))
        return list(islice([*self._given, *self._waiting], number))


class ResumableLoader(DataLoader[TokenBatch]):
    """A loader that continues where a resumed run left off; the data module makes it so.

    Lightning looks for the last two methods, and warns of unreliable results if a loader has none.
    """

    batches: Lookahead | None = None  # of the current iteration

    def __iter__(self) -> Lookahead:  # type: ignore[override]  # an iterator of batches, though not torch's own
        self.batches = Lookahead(super().__iter__())
        return self.batches

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: the state is empty."""
