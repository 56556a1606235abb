"""The one thing that passes from data to encoders, objectives and methods."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenBatch:
    """Token ids of B rows and T columns, with the documents that are packed into each row.

    Attributes:
        input_ids: (B, T) int64.
        segment_ids: (B, T) int64. 0 is padding; 1, 2, ... number the documents of a row, from left to right.
        next_ids: (B, T) int64 or None. The token that follows each position in its document, -100 where none does. It
            reaches past the end of the row, so that a causal model predicts every token of a corpus once.
        starts_word: (B, T) bool or None. True where a word begins (the tokenizer's `word_ids`), for whole-word masking.
        packed: False promises that each row is one document, padded on the right if at all; no packed rows.
        padded: False promises that no position is padding.
            The two flags are known when a batch is made, and spare the encoder a mask (and a look at the device).
        n_tokens: how many positions are not padding, as a plain number, so that counting needs no look at the device.
        cursor: where a stream of documents stood after this batch (plain data); None for corpora on disk.
    """

    input_ids: Tensor
    segment_ids: Tensor
    next_ids: Tensor | None = None
    starts_word: Tensor | None = None
    packed: bool = True
    padded: bool = True
    n_tokens: int = 0
    cursor: dict[str, Any] | None = None

    @property
    def is_text(self) -> Tensor:
        """(B, T) bool: True where a position is not padding."""
        return self.segment_ids > 0

    def positions(self) -> Tensor:
        """(B, T) int64: the place of each token in its own document, counted from 0."""
        index = torch.arange(self.input_ids.shape[1], device=self.input_ids.device).expand_as(self.input_ids)
        if not self.packed:
            return index
        starts = torch.ones_like(self.segment_ids, dtype=torch.bool)
        starts[:, 1:] = self.segment_ids[:, 1:] != self.segment_ids[:, :-1]
        return index - torch.where(starts, index, 0).cummax(dim=1).values

    def with_input_ids(self, input_ids: Tensor) -> Self:
        """The same rows seen through corrupted `input_ids` (B, T)."""
        return replace(self, input_ids=input_ids)

    def with_cursor(self, cursor: dict[str, Any]) -> Self:
        """The same rows, saying where their stream stood after them."""
        return replace(self, cursor=cursor)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The batch on `device`. Lightning calls it."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The batch in page-locked memory. `DataLoader` calls it."""
        return self._map(Tensor.pin_memory)

    def __len__(self) -> int:
        return len(self.input_ids)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        changed = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: function(v) for name, v in changed.items() if isinstance(v, Tensor)})
