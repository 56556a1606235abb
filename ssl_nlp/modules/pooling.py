"""One vector for a text from the hidden states of its tokens."""

from typing import Literal

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch

Pooling = Literal["mean", "first", "last", "max"]
POOLINGS: tuple[Pooling, ...] = ("mean", "last", "first")
"""The poolings that frozen encoders are evaluated with, in the order in which the first of equally good ones is chosen."""


def pool(hidden: Tensor, batch: TokenBatch, how: Pooling) -> Tensor:
    """(B, D): the mean or the maximum of the hidden states (B, T, D) over real tokens, or the first or the last of them."""
    if how == "first":
        return hidden[:, 0]
    real = batch.is_text
    if how == "last":
        last = real.sum(dim=1).clamp(min=1) - 1
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
    if how == "max":
        most = hidden.masked_fill(~real.unsqueeze(-1), -torch.inf).amax(dim=1)
        return most.masked_fill(~real.any(dim=1, keepdim=True), 0.0)
    weights = real.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
