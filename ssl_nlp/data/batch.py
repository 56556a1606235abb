"""The batch of tokens that passes from data to encoders, objectives, methods and tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.errors import UserError

IGNORE_INDEX = -100
"""Stands where a position has no target or label, as in `torch.nn.functional.cross_entropy`."""


@dataclass(eq=False)
class TokenBatch:
    """Token ids of B rows and T columns, with the documents that are packed into each row.

    A batch is never changed in place. It is not frozen, because Lightning refuses to convert frozen ones for `bf16-true`
    and other precisions.

    Attributes:
        input_ids: (B, T) int64.
        segment_ids: (B, T) int64. 0 is padding; 1, 2, ... number the documents of a row, from left to right.
        next_ids: (B, T) int64 or None. The token that follows each position in its document, or `IGNORE_INDEX` at its end.
            It reaches past the end of the row, so that a causal model predicts every token of a corpus once.
        starts_word: (B, T) bool or None. True where a word begins (the tokenizer's `word_ids`), for whole-word masking.
        packed: False promises that each row is one document, padded on the right if at all; no packed rows.
        padded: False promises that no position is padding.
            Both flags are known when a batch is made, and save the encoder a mask and a wait for the device.
        n_tokens: how many positions are not padding, as a plain number: counting them would wait for the device.
        documents: (B,) int64 or None. The number of the document that each row was cut from; packed rows have none.
        pair: B rows that belong to these, one to each (the next sentence, a translation, another caption), or None.
        causal: whether positions see only what precedes them, if that is not as the encoder was built: several
            objectives over one encoder may differ in it. None: as the encoder was built.
        labels: None unless `data.labels` asks for them. Depending on the kind that it names (`ssl_nlp.data.labels`):
            a class (B,) int64, classes (B, C) float32 or a score (B,) float32 for each row, a tag (B, T) int64 for each
            token, spans (B, S, 3) int64, or two entities with their relation (B, 2, 3) int64. `IGNORE_INDEX`, or NaN in
            floats, stands where there is none.
        windows: (B, 3) int64 or None. Where a row holds a question and a window of a text (`Questions`): the positions
            [start, stop) of the window, and the number of the text's tokens before it.
        unknown: words that a vocabulary of V tokens lacks, for encoders that can spell them. The ids from V on stand for
            them in their order.
        cursor: the position of a stream of documents after this batch, as plain data; None for corpora on disk.
    """

    input_ids: Tensor
    segment_ids: Tensor
    next_ids: Tensor | None = None
    starts_word: Tensor | None = None
    packed: bool = True
    padded: bool = True
    n_tokens: int = 0
    documents: Tensor | None = None
    pair: "TokenBatch | None" = None
    causal: bool | None = None
    labels: Tensor | None = None
    windows: Tensor | None = None
    unknown: Sequence[str] = ()
    cursor: dict[str, Any] | None = None

    @property
    def is_text(self) -> Tensor:
        """(B, T) bool: True where a position is not padding."""
        return self.segment_ids > 0

    def following(self, reader: str) -> Tensor:
        """`next_ids`, for a reader that cannot do without.

        Raises:
            UserError: there are none; the message names the reader.
        """
        if self.next_ids is None:
            raise UserError(f"{reader} needs the next tokens of a batch: views that change the text have none")
        return self.next_ids

    @property
    def all_tokens(self) -> int:
        """`n_tokens`, those of the pair included."""
        return self.n_tokens + (0 if self.pair is None else self.pair.n_tokens)

    @property
    def all_positions(self) -> int:
        """The number of positions, padding and those of the pair included."""
        return self.input_ids.numel() + (0 if self.pair is None else self.pair.input_ids.numel())

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
        """The same rows with the position of their stream after them."""
        return replace(self, cursor=cursor)

    def without_labels(self) -> Self:
        """The same rows as a method sees them, their pair included."""
        pair = None if self.pair is None else self.pair.without_labels()
        return self if self.labels is None and pair is self.pair else replace(self, labels=None, pair=pair)

    def select(self, rows: Tensor) -> Self:
        """These rows (N,) alone, in this order, with their pair.

        `n_tokens` becomes their share of that of all rows: to count would wait for the device.
        """
        alone = replace(self, pair=None)._map(lambda tensor: tensor[rows])
        n_tokens = round(self.n_tokens * len(rows) / max(len(self), 1))
        return replace(alone, n_tokens=n_tokens, pair=None if self.pair is None else self.pair.select(rows))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The batch on `device`. Lightning calls it."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def clone(self) -> Self:
        """A copy with tensors of its own."""
        return self._map(Tensor.clone)

    def pin_memory(self) -> Self:
        """The batch in page-locked memory. `DataLoader` calls it."""
        return self._map(Tensor.pin_memory)

    def __len__(self) -> int:
        return len(self.input_ids)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = function(value)
            elif isinstance(value, TokenBatch):
                changed[field.name] = value._map(function)
        return replace(self, **changed)


def concatenate(batches: Sequence[TokenBatch], pad_id: int) -> TokenBatch:
    """The rows of several batches, one batch below the other, padded on the right to the longest row.

    Next ids, word starts, documents and labels are kept if all batches have them; pairs are left out.

    Args:
        batches: of any numbers of rows and columns, on one device.
        pad_id: fills the columns that a batch lacks.
    """
    width = max(batch.input_ids.shape[1] for batch in batches)
    fill: dict[str, Any] = {"input_ids": pad_id, "segment_ids": 0, "next_ids": IGNORE_INDEX, "starts_word": True}
    rows: dict[str, Any] = {}
    for name, value in fill.items():
        parts = [getattr(batch, name) for batch in batches]
        if all(part is not None for part in parts):
            rows[name] = torch.cat([F.pad(part, (0, width - part.shape[1]), value=value) for part in parts])
    for name in ("documents", "windows"):
        parts = [getattr(batch, name) for batch in batches]
        if all(part is not None for part in parts):
            rows[name] = torch.cat(parts)
    return TokenBatch(
        **rows,
        packed=any(batch.packed for batch in batches),
        padded=any(batch.padded or batch.input_ids.shape[1] < width for batch in batches),
        n_tokens=sum(batch.n_tokens for batch in batches),
        causal=batches[0].causal,
        labels=_labels_below([batch.labels for batch in batches], width),
    )


def _labels_below(labels: list[Tensor | None], width: int) -> Tensor | None:
    """The labels of several batches, those of tokens and spans padded to the widest batch."""
    known = [part for part in labels if part is not None]
    if len(known) < len(labels):
        return None
    columns = max((part.shape[1] for part in known if part.ndim > 1), default=0)
    columns = width if known[0].ndim == 2 else columns
    frame = [] if known[0].is_floating_point() else {1: [], 2: [0], 3: [0, 0, 0]}[known[0].ndim]
    return torch.cat(
        [F.pad(part, [*frame, columns - part.shape[1]], value=IGNORE_INDEX) if frame else part for part in known]
    )
