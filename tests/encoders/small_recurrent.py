"""Small recurrent encoders with random weights, and rows for them."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders import Recurrent

VOCAB, PAD = 50, 3
KINDS = ("rnn", "lstm", "gru")
DIRECTIONS = {"causal": {}, "bidirectional": {}, "separate": {"separate": True}}
WAYS = [pytest.param(kind, way, id=f"{kind}-{way}") for kind, way in itertools.product(KINDS, DIRECTIONS)]
SEGMENTS = torch.tensor([[1] * 5 + [2] * 8 + [3] * 3 + [0] * 4, [1] * 11 + [2] * 9, [1] * 2 + [0] * 18, [0] * 20])


def build(kind: str = "lstm", way: str = "causal", **arguments) -> Recurrent:
    torch.manual_seed(0)
    encoder = Recurrent(kind, **{"dim": 12, "embedding_dim": 10, **DIRECTIONS[way], **arguments})
    encoder.build(VOCAB, PAD, causal=way == "causal")
    with torch.no_grad():
        for parameter in encoder.parameters():  # so that biases and states matter
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder.eval()


def draw(segment_ids: Tensor) -> Tensor:
    ids = torch.randint(4, VOCAB, segment_ids.shape, generator=torch.Generator().manual_seed(2))
    return torch.where(segment_ids > 0, ids, PAD)


def row(*size: int) -> TokenBatch:
    ids = draw(torch.ones(size))
    return TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)


def documents(segment_ids: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each document of packed rows: the number of its row, and its places there."""
    for line in range(len(segment_ids)):
        for document in range(1, int(segment_ids[line].max()) + 1):
            yield line, segment_ids[line] == document
