"""Corruptions of sentences: views for contrastive methods to compare, and noise for denoising methods to undo.

A view changes the content of each row and leaves special tokens as they are: those that frame a sentence stay in front
of and behind it. It is a pure function that draws from torch's default generator. It runs on the device of the batch,
with shapes that do not depend on its contents and without waiting for the device.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.errors import UserError


class Vocabulary(NamedTuple):
    """The facts about token ids that views need. Its tensors are on the device of the batches.

    Attributes:
        pad_id: fills a row that has become shorter.
        mask_id: the mask token, or None if the tokenizer has none.
        maskable: (V,) bool, False for special tokens, which no view deletes, moves, replaces, masks or repeats.
        counts: (V,) int64, how often each token occurs in the corpus. If all are 0, they count as equal.
    """

    pad_id: int
    mask_id: int | None
    maskable: Tensor
    counts: Tensor


class View(ABC):
    """A random corruption of sentences.

    A subclass is a frozen dataclass of its settings, which it checks in `__post_init__`, and writes `corrupt`.
    """

    def __call__(self, batch: TokenBatch, vocabulary: Vocabulary) -> TokenBatch:
        """The batch as this view shows it.

        Rows, documents, pair and `n_tokens` stay those of the original: throughput counts the text, not its corruption.
        Next ids and word starts are dropped, because they no longer fit.

        Args:
            batch: (B, T), one sentence a row.
            vocabulary: of the tokenizer that made it.

        Raises:
            UserError: documents share rows, or the view needs a mask token and there is none.
        """
        if batch.packed:
            raise UserError(
                f"{type(self).__name__} corrupts one sentence a row, not packed rows: set data.unit: sentence"
            )
        content = batch.is_text & vocabulary.maskable[batch.input_ids]
        return self.corrupt(replace(batch, next_ids=None, starts_word=None), content, vocabulary)

    @abstractmethod
    def corrupt(self, batch: TokenBatch, content: Tensor, vocabulary: Vocabulary) -> TokenBatch:
        """The corrupted batch. `content` (B, T) bool is True where the view may change something."""


def apply_views(views: Sequence[View], batch: TokenBatch, vocabulary: Vocabulary) -> TokenBatch:
    """The batch after all `views`, each applied to the result of the one before."""
    for view in views:
        batch = view(batch, vocabulary)
    return batch


@dataclass(frozen=True)
class Delete(View):
    """Delete tokens at random and close the gaps. Of a row that has content, at least one content token is left.

    Args:
        rate: probability of each token.
    """

    rate: float

    def __post_init__(self) -> None:
        _check_share(self, "rate", self.rate)

    def corrupt(self, batch: TokenBatch, content: Tensor, vocabulary: Vocabulary) -> TokenBatch:
        draw = torch.rand(content.shape, device=content.device).masked_fill(~content, -1)
        kept = (draw >= self.rate) | (draw == draw.amax(dim=1, keepdim=True))
        return _keep(batch, kept | ~content, vocabulary)


@dataclass(frozen=True)
class Crop(View):
    """Keep one contiguous span of the content, all places being equally likely, and delete the rest.

    Args:
        share: share of a row's content in the span, rounded to whole tokens, at least one.
    """

    share: float

    def __post_init__(self) -> None:
        _check_share(self, "share", self.share)

    def corrupt(self, batch: TokenBatch, content: Tensor, vocabulary: Vocabulary) -> TokenBatch:
        place = content.cumsum(dim=1) - 1
        number = content.sum(dim=1, keepdim=True)
        size = (self.share * number).round().clamp(min=1)
        start = _draw_below(number - size + 1)
        return _keep(batch, (place >= start) & (place < start + size) | ~content, vocabulary)


@dataclass(frozen=True)
class ShuffleSpans(View):
    """Cut the content into spans and shuffle them.

    Args:
        length: tokens in a span; a random cut may make the first and the last of a row shorter. With 1, all tokens of a
            sentence are shuffled.
    """

    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UserError(f"{type(self).__name__}: length must be 1 or more, not {self.length}")

    def corrupt(self, batch: TokenBatch, content: Tensor, vocabulary: Vocabulary) -> TokenBatch:
        (rows, columns), device = content.shape, content.device
        phase = torch.randint(self.length, (rows, 1), device=device)
        span = (content.cumsum(dim=1) - 1).clamp(min=0).add(phase) // self.length
        # Every span draws a score. The sorts are stable: a span stays whole, and special tokens stay where they are.
        scores = torch.rand(rows, (columns + self.length - 2) // self.length + 1, device=device).gather(1, span)
        sources = scores.masked_fill(~content, torch.inf).sort(dim=1, stable=True).indices
        places = (~content).sort(dim=1, stable=True).indices
        ids = batch.input_ids
        return replace(batch, input_ids=ids.scatter(1, places, ids.gather(1, sources)))


@dataclass(frozen=True)
class Replace(View):
    """Replace tokens by draws from the unigram distribution of the corpus, without special tokens.

    Args:
        rate: probability of each token. The draw may be the token itself.
    """

    rate: float

    def __post_init__(self) -> None:
        _check_share(self, "rate", self.rate)

    def corrupt(self, batch: TokenBatch, content: Tensor, vocabulary: Vocabulary) -> TokenBatch:
        ids, maskable = batch.input_ids, vocabulary.maskable
        weights = vocabulary.counts * maskable
        # In float64, because the counts of rare tokens among many are below the resolution of float32.
        cumulative = torch.where(weights.any(), weights, maskable).double().cumsum(dim=0)
        draw = torch.rand(ids.shape, dtype=torch.float64, device=ids.device) * cumulative[-1]
        random = torch.searchsorted(cumulative, draw, right=True)
        return replace(batch, input_ids=torch.where(_chosen(content, self.rate), random, ids))


@dataclass(frozen=True)
class Mask(View):
    """Replace tokens by the mask token.

    Args:
        rate: probability of each token.
    """

    rate: float

    def __post_init__(self) -> None:
        _check_share(self, "rate", self.rate)

    def corrupt(self, batch: TokenBatch, content: Tensor, vocabulary: Vocabulary) -> TokenBatch:
        if vocabulary.mask_id is None:
            raise UserError("Mask: this tokenizer has no mask token: use Delete or Replace instead")
        return replace(batch, input_ids=batch.input_ids.masked_fill(_chosen(content, self.rate), vocabulary.mask_id))


@dataclass(frozen=True)
class Repeat(View):
    """Write some tokens twice (word repetition of ESimCSE, arXiv:2109.04380, section 3.1).

    Of n content tokens, 0 to `rate` * n (rounded up) are repeated, all numbers being equally likely. The batch becomes
    wider by `rate` * T columns (rounded up): the encoder's `max_length` must have room for them. The paper repeats at
    most 2 tokens if `rate` * n is below 2.

    Args:
        rate: the largest share of a row's tokens that is repeated.
    """

    rate: float

    def __post_init__(self) -> None:
        _check_share(self, "rate", self.rate)

    def corrupt(self, batch: TokenBatch, content: Tensor, vocabulary: Vocabulary) -> TokenBatch:
        columns = content.shape[1]
        room = math.ceil(self.rate * columns)
        # In float64, like `room`: in float32 it may be just above a whole number, and the row too long for its columns.
        most = (self.rate * content.sum(dim=1, keepdim=True).double()).ceil()
        draw = torch.rand(content.shape, device=content.device).masked_fill(~content, torch.inf)
        rank = draw.argsort(dim=1).argsort(dim=1)
        repeated = rank < _draw_below(most + 1)  # everything but content comes last
        ends = (batch.is_text.long() + repeated).cumsum(dim=1)
        index = torch.arange(columns + room, device=content.device).repeat(len(ends), 1)
        sources = torch.searchsorted(ends, index, right=True).clamp(max=columns - 1)
        return _gather(batch, sources, ends[:, -1:], vocabulary)


def _check_share(view: View, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"{type(view).__name__}: {name} {value} is not a share of the tokens: use a number from 0 to 1")


def _chosen(content: Tensor, rate: float) -> Tensor:
    """(B, T) bool: each content token with probability `rate`."""
    return content & (torch.rand(content.shape, device=content.device) < rate)


def _draw_below(bound: Tensor) -> Tensor:
    """A uniform whole number in [0, bound) for each element; `bound` holds whole numbers of any type, at least 1."""
    draw = (torch.rand(bound.shape, device=bound.device) * bound).floor()
    return torch.minimum(draw, bound - 1)  # the product may be rounded up to `bound`


def _keep(batch: TokenBatch, kept: Tensor, vocabulary: Vocabulary) -> TokenBatch:
    """The tokens where `kept` (B, T) is True, without gaps."""
    kept = kept & batch.is_text
    sources = (~kept).sort(dim=1, stable=True).indices
    return _gather(batch, sources, kept.sum(dim=1, keepdim=True), vocabulary)


def _gather(batch: TokenBatch, sources: Tensor, lengths: Tensor, vocabulary: Vocabulary) -> TokenBatch:
    """Rows whose tokens come from the columns `sources` (B, W), and that end after `lengths` (B, 1) of them."""
    text = torch.arange(sources.shape[1], device=sources.device) < lengths
    ids = batch.input_ids.gather(1, sources).masked_fill(~text, vocabulary.pad_id)
    return replace(batch, input_ids=ids, segment_ids=text.long(), padded=True)
