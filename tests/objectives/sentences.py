"""Sentences of token ids for tests of views, and how tests look at the corrupted ones."""

import math
from typing import Any

import torch
from torch import Tensor

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.objectives.views import (
    View,
    Vocabulary,
)

PAD, MASK, FIRST, LAST, UNKNOWN = range(5)
VOCAB = 90
CONTENT = torch.arange(VOCAB) > UNKNOWN
FRAMES = [([FIRST], []), ([FIRST], [LAST])]
Frame = tuple[list[int], list[int]]


def vocabulary(mask_id: int | None = MASK, counts: Tensor | None = None) -> Vocabulary:
    return Vocabulary(PAD, mask_id, CONTENT, torch.ones(VOCAB, dtype=torch.int64) if counts is None else counts)


def sentences(contents: list[list[int]], frame: Frame) -> TokenBatch:
    prefix, suffix = frame
    rows = [prefix + content + suffix for content in contents]
    width = max(map(len, rows))
    return TokenBatch(
        torch.tensor([row + [PAD] * (width - len(row)) for row in rows]),
        torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        next_ids=torch.zeros(len(rows), width, dtype=torch.int64),
        starts_word=torch.ones(len(rows), width, dtype=torch.bool),
        packed=False,
        padded=min(map(len, rows)) < width,
        n_tokens=sum(map(len, rows)),
        documents=torch.arange(len(rows)),
        causal=True,
    )


def examples(rows: int = 30, longest: int = 20, unknown: float = 0.1) -> list[list[int]]:
    """Contents of every length from 0, with an unknown word here and there; an unknown word is a special token."""
    generator = torch.Generator().manual_seed(rows)
    contents = []
    for i in range(rows):
        size = i % (longest + 1)
        content = torch.randint(UNKNOWN + 1, VOCAB, (size,), generator=generator)
        content[torch.rand(size, generator=generator) < unknown] = UNKNOWN
        contents.append(content.tolist())
    return contents


def distinct(rows: int, size: int) -> list[list[int]]:
    """Contents without a token that occurs twice."""
    return [list(range(UNKNOWN + 1, UNKNOWN + 1 + size))] * rows


def rows_of(batch: TokenBatch) -> list[list[int]]:
    """The tokens of each row without its padding, which must be on the right, and nothing but padding."""
    rows = []
    for ids, segments in zip(batch.input_ids.tolist(), batch.segment_ids.tolist(), strict=True):
        size = sum(segments)
        assert segments == [1] * size + [0] * (len(segments) - size)
        assert ids[size:] == [PAD] * (len(ids) - size)
        rows.append(ids[:size])
    return rows


def contents_of(batch: TokenBatch, frame: Frame) -> list[list[int]]:
    """The rows without their frames, which must be where they were."""
    prefix, suffix = frame
    contents = []
    for row in rows_of(batch):
        assert row[: len(prefix)] == prefix and row[len(row) - len(suffix) :] == suffix
        contents.append(row[len(prefix) : len(row) - len(suffix)])
    return contents


def is_subsequence(part: list[int], whole: list[int]) -> bool:
    remaining = iter(whole)
    return all(token in remaining for token in part)


def texts(row: list[int]) -> list[int]:
    return [token for token in row if token > UNKNOWN]


def corrupted(view: View, contents: list[list[int]], frame: Frame, seed: int = 0, **known: Any) -> list[list[int]]:
    torch.manual_seed(seed)
    return contents_of(view(sentences(contents, frame), vocabulary(**known)), frame)


def within(count: float, number: int, probability: float) -> bool:
    """Whether a binomial count is within five standard deviations of its mean."""
    return abs(count - number * probability) <= 5 * math.sqrt(number * probability * (1 - probability))
