"""A view in a file of its own: neighbouring tokens are swapped."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.errors import UserError
from ssl_nlp.objectives.views import View, Vocabulary


@dataclass(frozen=True)
class SwapNeighbours(View):
    """Swap tokens with their right neighbours.

    Args:
        rate: probability for each pair of neighbours, counted in twos from the left.
    """

    rate: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise UserError(f"SwapNeighbours: rate {self.rate} is not a probability: choose one above 0, at most 1")

    def corrupt(self, batch: TokenBatch, content: Tensor, vocabulary: Vocabulary) -> TokenBatch:
        ids, pairs = batch.input_ids, batch.input_ids.shape[1] // 2
        left = torch.arange(pairs, device=ids.device) * 2
        both = content[:, left] & content[:, left + 1]
        swaps = both & (torch.rand(both.shape, device=ids.device) < self.rate)
        swapped = ids.clone()
        swapped[:, left] = torch.where(swaps, ids[:, left + 1], ids[:, left])
        swapped[:, left + 1] = torch.where(swaps, ids[:, left], ids[:, left + 1])
        return replace(batch, input_ids=swapped)
