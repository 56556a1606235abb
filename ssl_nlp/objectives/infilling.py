"""Texts in which marks stand for missing spans, and what is missing: the corruptions of T5 and BART.

A corruption is drawn as a *layout*: the kinds of what stands in a row, from left to right: a token that stays, a mark, or
a missing token. It costs one sort, and source and target are read off it. Everything here draws from torch's default
generator and runs on the device of the batch, with shapes that do not depend on its contents and without waiting for the
device.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data.batch import IGNORE_INDEX, TokenBatch
from ssl_nlp.errors import UserError

STAYS, MARK, MISSING = range(3)
_LAST = torch.iinfo(torch.int64).max


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
    source = _source(batch, ids, real & (layout != MISSING), noise, frame)
    width = most_missing + most_spans
    written, length = _packed(ids, real & (layout != STAYS), width, frame.pad)
    return source, _target(written, length, frame)


def mask_spans(batch: TokenBatch, noise: Noise, mask_id: int, frame: Frame) -> TokenBatch:
    """BART's text infilling: the texts with a single mask for each missing span, which may also be empty.

    Of a text's tokens a fixed number is missing, from a fixed number of spans. Each missing token is in any span with the
    same probability, which gives the spans the lengths of independent Poisson variables whose sum is known. (The paper's
    code draws Poisson lengths until they add up, and cuts the last one.) The spans take different gaps between the
    tokens that stay, all sets of gaps being equally likely, so that no two masks are neighbours.

    Args:
        batch: (B, T), one framed text a row.
        noise: what is missing.
        mask_id: the mask token.
        frame: of the texts.

    Returns:
        The texts with masks. Rows, documents and `n_tokens` are those of the batch.

    Raises:
        UserError: several documents are in a row.
    """
    columns, lengths = _content(batch, frame)
    missing, spans = noise.counts(lengths)
    most_missing, most_spans = noise.most(columns)
    span = (torch.rand(len(batch), most_missing, device=lengths.device) * spans[:, None]).long()
    span = span.minimum(spans[:, None] - 1).clamp(min=0)  # the product may be rounded up
    layout = _layout(lengths - missing, missing, spans, columns, span, most_spans)
    ids, layout, real = _elements(batch, layout, torch.full((1,), mask_id, device=lengths.device), frame)
    return _source(batch, ids, real & (layout != MISSING), noise, frame)


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


def _source(batch: TokenBatch, ids: Tensor, kept: Tensor, noise: Noise, frame: Frame) -> TokenBatch:
    ids, length = _packed(ids, kept, noise.source_width(batch.input_ids.shape[1], frame), frame.pad)
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
