"""Texts in which marks stand for missing spans, and what is missing: the corruptions of T5 and BART.

A corruption is drawn as a *layout*: the kinds of what stands in a row, from left to right: a token that stays, a mark, or
a missing token. It costs one sort, and source and target are read off it. Everything here draws from torch's default
generator and runs on the device of the batch, with shapes that do not depend on its contents and without waiting for the
device.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data.batch import IGNORE_INDEX, TokenBatch
from ssl_nlp.errors import UserError

STAYS, MARK, MISSING = range(3)
_LAST = torch.iinfo(torch.int64).max
_RARE = 0.01
"""The share of draws for the longest texts of a batch that may be changed, so that its rows need not be wider."""


class Frame(NamedTuple):
    """The tokens around a text.

    Attributes:
        before: ids in front of each text.
        after: ids behind it, unless it was cut. None of them occurs within a text.
        begin: ids with which a decoder begins.
        end: what it writes last.
        pad: the id of padding.
    """

    before: Sequence[int]
    after: Sequence[int]
    begin: Sequence[int]
    end: int
    pad: int


class Noise(NamedTuple):
    """How much of a text is missing.

    Attributes:
        rate: share of its tokens.
        mean_span: tokens in a missing span, on average.
    """

    rate: float
    mean_span: float

    def counts(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """How many tokens are missing in texts of `lengths` tokens, and from how many spans: int64 of the same shape.

        Both are fixed by the length, as in T5's released code: `rate` of the tokens, rounded, but 1 at least, and one
        token stays; `1 / mean_span` of these, rounded, are the spans, but 1 at least, and a token stays for each. A text of
        fewer than two tokens stays whole.
        """
        missing = (self.rate * lengths.double()).round().clamp(min=1).minimum(lengths - 1)
        spans = (missing / self.mean_span).round().clamp(min=1).minimum(lengths - missing)
        enough = lengths >= 2
        return torch.where(enough, missing, 0).long(), torch.where(enough, spans, 0).long()

    def most(self, columns: int) -> tuple[int, int]:
        """The largest `counts` of any text of up to `columns` tokens."""
        missing, spans = self.counts(torch.arange(columns + 1))
        return int(missing.max()), int(spans.max())

    def source_width(self, columns: int, frame: Frame) -> int:
        """The longest row that is left of a framed text of up to `columns` tokens, its frame included."""
        lengths = torch.arange(max(columns - len(frame.before), 0) + 1)
        missing, spans = self.counts(lengths)
        after = (lengths[-1] - lengths).clamp(max=len(frame.after))  # a text that is cut has lost it
        return len(frame.before) + int((lengths - missing + spans + after).max())


class Draws(NamedTuple):
    """The numbers that `mask_spans` draws for texts of n = 0 ... N tokens, with up to K missing spans.

    The lengths of k spans are Poisson variables, and so is their sum. It is cut to n - k, so that a token stays for each
    span; then its mean is less than k * `mean_span`, by much in short texts. So k is one of two neighbours, drawn such that
    the mean over both is `rate` * n.

    Attributes:
        at_most: (K + 1, N + 1), the probability that k spans have at most so many tokens together.
        spans: (N + 1,), the lower of the two numbers of spans.
        more: (N + 1,), the probability of the higher one.
        crowded: (N + 1,) bool, whether no number of spans reaches the rate. Then `Noise.counts` has both numbers.
        most_spans: (N + 1,), the most spans in texts of up to n tokens.
        longest: (N + 1,), the most tokens and marks that are left of a text, except for rare draws.
    """

    at_most: Tensor
    spans: Tensor
    more: Tensor
    crowded: Tensor
    most_spans: list[int]
    longest: list[int]


@lru_cache(maxsize=16)
def _draws(noise: Noise, size: int, device: torch.device) -> Draws:
    """For texts of up to `size` tokens, on the device where they are drawn."""
    length, wanted = torch.arange(size + 1), noise.rate * torch.arange(size + 1).double()
    spans = torch.arange(min(size // 2, math.ceil(1.5 * noise.rate * size / noise.mean_span) + 8) + 1)
    at_most = torch.special.gammaincc(length.double() + 1, noise.mean_span * spans.double()[:, None])
    mean_up_to = F.pad((1 - at_most).cumsum(dim=1), (1, 0))  # [k, c]: the mean of the sum if it is cut to c
    mean = mean_up_to[spans, (length[:, None] - spans).clamp(min=0)]
    enough = (mean >= wanted[:, None]) & (2 * spans <= length[:, None])
    crowded, higher = ~enough.any(dim=1), enough.int().argmax(dim=1)
    lower = (higher - 1).clamp(min=0)
    least, most = (mean.gather(1, number[:, None]).squeeze(1) for number in (lower, higher))
    more = torch.where(higher > 0, (wanted - least) / (most - least).clamp(min=1e-12), 0.0)
    counts = noise.counts(length)
    rarely = (at_most <= _RARE).sum(dim=1)  # k spans have fewer tokens than this rarely
    left = torch.stack([length + k - rarely[k].minimum(length - k) for k in (lower, higher)]).amax(dim=0)
    left = torch.where(crowded, length - counts[0] + counts[1], left)
    most_spans = torch.where(crowded, counts[1], higher).cummax(dim=0).values.tolist()
    at_most, lower, more, crowded = (table.to(device) for table in (at_most.float(), lower, more.float(), crowded))
    return Draws(at_most, lower, more, crowded, most_spans, left.cummax(dim=0).values.tolist())


def corrupt_spans(batch: TokenBatch, noise: Noise, sentinels: Tensor, frame: Frame) -> tuple[TokenBatch, TokenBatch]:
    """T5's span corruption: a sentinel for each missing span, and these spans, each after its sentinel, as the target.

    The numbers of missing tokens and of spans are fixed by the length of a text, and all ways to divide the missing tokens
    into spans are equally likely, as in T5's released code. There a text also begins with a token that stays and ends with
    a missing span, so that of a short text, which has a single span, the end is always missing. Here spans take any gaps
    between the tokens that stay, as in `mask_spans`. The end token stands for the final sentinel of the paper's figure 2.

    Args:
        batch: (B, T), one framed text a row.
        noise: what is missing.
        sentinels: ids of as many sentinels as a text has spans, or more; the first ones are used, in order.
        frame: of the texts.

    Returns:
        source: the texts with sentinels. Rows, documents and `n_tokens` are those of the batch.
        target: what is missing, with its `next_ids`.

    Raises:
        UserError: there are too few sentinels, or several documents in a row.
    """
    columns, lengths = _content(batch, frame)
    missing, spans = noise.counts(lengths)
    most_missing, most_spans = noise.most(columns)
    if most_spans > len(sentinels):
        raise UserError(
            f"a text of {columns} tokens has {most_spans} missing spans, and the tokenizer has {len(sentinels)} sentinels "
            f"for them: set data.tokenizer.sentinels to {most_spans} or more, or lower data.length"
        )
    layout = _layout(lengths - missing, missing, spans, columns, _segments(missing, spans, most_missing), most_spans)
    ids, layout, real = _elements(batch, layout, sentinels, frame)
    source = _source(batch, ids, real & (layout != MISSING), noise.source_width(batch.input_ids.shape[1], frame), frame)
    width = most_missing + most_spans
    written, length = _packed(ids, real & (layout != STAYS), width, frame.pad)
    return source, _target(written, length, frame)


def mask_spans(batch: TokenBatch, noise: Noise, mask_id: int, frame: Frame, longest: int) -> TokenBatch:
    """BART's text infilling: the texts with a single mask for each missing span, which may also be empty.

    The spans have Poisson lengths with the mean `noise.mean_span`. Their number is drawn such that `noise.rate` of the
    tokens of texts of any length are missing on average; a short text may stay whole. (The authors' code draws lengths
    until they add up to a number that the length of the text fixes, and cuts the last one.) A token stays for each span,
    and that of a text of one token. Where spans have no room because more is to be missing, as at a rate of 0.9, the
    numbers of missing tokens and spans are those of T5. The spans take different gaps between the tokens that stay, all
    sets of gaps being equally likely, so that no two masks are neighbours.

    Args:
        batch: (B, T), one framed text a row.
        noise: what is missing.
        mask_id: the mask token.
        frame: of the texts.
        longest: row that may come out. A text that would become longer by its empty spans lacks more tokens.

    Returns:
        The texts with masks. Rows, documents and `n_tokens` are those of the batch.

    Raises:
        UserError: several documents are in a row.
    """
    columns, lengths = _content(batch, frame)
    draws = _draws(noise, 2 ** columns.bit_length(), lengths.device)
    left = torch.tensor(draws.longest[: columns + 1]) + torch.arange(columns, -1, -1).clamp(max=len(frame.after))
    width = min(len(frame.before) + int(left.max()), longest)
    draw, further = torch.rand(2, len(batch), device=lengths.device)
    spans = draws.spans[lengths] + (draw < draws.more[lengths]).long()
    missing = (further[:, None] >= draws.at_most[spans]).sum(dim=1).minimum(lengths - spans)
    missing = missing.maximum(batch.is_text.sum(dim=1) + spans - width)
    crowded = draws.crowded[lengths]
    missing, spans = (torch.where(crowded, *pair) for pair in zip(noise.counts(lengths), (missing, spans), strict=True))
    most_spans = draws.most_spans[columns]
    # Poisson variables whose sum is known are distributed like the lengths of spans that each token chooses from evenly.
    span = (torch.rand(len(batch), max(columns - 1, 0), device=lengths.device) * spans[:, None]).long()
    span = span.minimum(spans[:, None] - 1).clamp(min=0)  # the product may be rounded up
    layout = _layout(lengths - missing, missing, spans, columns, span, most_spans)
    ids, layout, real = _elements(batch, layout, torch.full((1,), mask_id, device=lengths.device), frame)
    return _source(batch, ids, real & (layout != MISSING), width, frame)


def permute_sentences(batch: TokenBatch, ends: Tensor, frame: Frame) -> TokenBatch:
    """BART's sentence permutation: the sentences of each text in random order, all orders being equally likely.

    Args:
        batch: (B, T), one framed text a row.
        ends: (V,) bool, True for the tokens that end a sentence. The end of the text also does.
        frame: of the texts.

    Raises:
        UserError: several documents are in a row.
    """
    _, lengths = _content(batch, frame)
    place = torch.arange(batch.input_ids.shape[1], device=lengths.device) - len(frame.before)
    content = (place >= 0) & (place < lengths[:, None])
    sentence = F.pad((ends[batch.input_ids] & content).cumsum(dim=1)[:, :-1], (1, 0))
    score = torch.rand(batch.input_ids.shape, device=lengths.device).gather(1, sentence)
    score = torch.where(content, score, torch.where(place < 0, -1.0, 2.0))  # the frame stays around the text
    order = score.sort(dim=1, stable=True).indices
    return replace(batch, input_ids=batch.input_ids.gather(1, order), next_ids=None, starts_word=None)


def whole_text(batch: TokenBatch, frame: Frame) -> TokenBatch:
    """The texts (B, T) as targets. What follows the last token of a text that was cut is not predicted."""
    following = batch.following("text infilling")
    last = batch.is_text & ~F.pad(batch.is_text[:, 1:], (0, 1))
    return replace(batch, next_ids=following.masked_fill(last & (following != frame.end), IGNORE_INDEX))


def _content(batch: TokenBatch, frame: Frame) -> tuple[int, Tensor]:
    """The most tokens C of any text without its frame, and those of each text (B,)."""
    if batch.packed:
        raise UserError(
            "spans are missing from one text a row, not from packed rows: set data.unit to text or sentence"
        )
    columns = max(batch.input_ids.shape[1] - len(frame.before), 0)
    text = batch.is_text[:, len(frame.before) :]
    for token in frame.after:
        text = text & (batch.input_ids[:, len(frame.before) :] != token)
    return columns, text.sum(dim=1)


def _segments(items: Tensor, segments: Tensor, width: int) -> Tensor:
    """(B, width): the segment of each of `items` (B,) in a row that is divided into `segments` (B,), none of them empty.

    All divisions are equally likely. The numbers of further items are meaningless.
    """
    place = torch.arange(width, device=items.device)
    draw = torch.rand(len(items), width, device=items.device)
    draw = draw.masked_fill((place == 0) | (place >= items[:, None]), torch.inf)  # the first item begins one anyway
    begins = draw.argsort(dim=1).argsort(dim=1) < (segments - 1)[:, None]
    return begins.cumsum(dim=1)


def _layout(stay: Tensor, missing: Tensor, spans: Tensor, columns: int, span: Tensor, most_spans: int) -> Tensor:
    """(B, E): the kinds of what stands in each text, whose spans take different gaps, all sets of them equally likely.

    Args:
        stay, missing, spans: (B,), how many of these a text has.
        columns: the most tokens C of a text.
        span: (B, M), the number of the span that each missing token belongs to.
        most_spans: the most spans of a text.
    """
    gap = torch.arange(columns + 1, device=stay.device)  # gap g is in front of the token g of those that stay
    draw = torch.rand(len(stay), columns + 1, device=stay.device).masked_fill(gap > stay[:, None], torch.inf)
    gaps = draw.argsort(dim=1)[:, :most_spans]
    # All is ordered by gap and, within a gap, by kind. A token that stays is the first of the gap after it.
    parts = {
        STAYS: (gap[1:].expand(len(stay), -1), stay),
        MARK: (gaps, spans),
        MISSING: (gaps.gather(1, span), missing),
    }
    keys = []
    for kind, (places, number) in parts.items():
        there = torch.arange(places.shape[1], device=stay.device) < number[:, None]
        keys.append(torch.where(there, len(parts) * places + kind, _LAST))
    ordered = torch.cat(keys, dim=1).sort(dim=1).values
    return torch.where(ordered < _LAST, ordered % len(parts), STAYS)


def _elements(batch: TokenBatch, layout: Tensor, marks: Tensor, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    """A layout of texts with their frames (B, E), its ids, and which of them there are.

    Args:
        batch: the texts.
        layout: of them without their frames.
        marks: ids of the first mark of a text, of the second, ...; the last one serves for all others.
        frame: of the texts.
    """
    layout = F.pad(layout, (len(frame.before), 0), value=STAYS)
    is_mark = layout == MARK
    place = (~is_mark).cumsum(dim=1) - 1
    tokens = batch.input_ids.gather(1, place.clamp(0, batch.input_ids.shape[1] - 1))
    ids = torch.where(is_mark, marks[(is_mark.cumsum(dim=1) - 1).clamp(0, len(marks) - 1)], tokens)
    return ids, layout, is_mark | (place < batch.is_text.sum(dim=1, keepdim=True))


def _packed(ids: Tensor, kept: Tensor, width: int, pad: int) -> tuple[Tensor, Tensor]:
    """The ids (B, E) where `kept` is True, without gaps (B, width), and how many these are (B, 1)."""
    place = (kept.cumsum(dim=1) - 1).masked_fill(~kept, width)
    return ids.new_full((len(ids), width + 1), pad).scatter(1, place, ids)[:, :width], kept.sum(dim=1, keepdim=True)


def _source(batch: TokenBatch, ids: Tensor, kept: Tensor, width: int, frame: Frame) -> TokenBatch:
    ids, length = _packed(ids, kept, width, frame.pad)
    segments = (torch.arange(ids.shape[1], device=ids.device) < length).long()
    return replace(batch, input_ids=ids, segment_ids=segments, next_ids=None, starts_word=None, padded=True)


def _target(ids: Tensor, length: Tensor, frame: Frame) -> TokenBatch:
    """Rows of `length` (B, 1) tokens (B, W) as a decoder reads and predicts them, its beginning and end included."""
    begin = len(frame.begin)
    for token in reversed(frame.begin):
        ids = F.pad(ids, (1, 0), value=token)
    index, last = torch.arange(ids.shape[1], device=ids.device), length + begin - 1
    following = F.pad(ids[:, 1:], (0, 1), value=frame.pad).masked_fill(index == last, frame.end)
    following = following.masked_fill(index > last, IGNORE_INDEX)
    return TokenBatch(ids, (index <= last).long(), following, packed=False)
