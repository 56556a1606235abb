"""How a token is chosen from the distribution that a model predicts."""

import math
from collections.abc import Callable
from typing import TypedDict

import torch
from torch import Tensor

from ssl_nlp.errors import refuse

Choose = Callable[[Tensor], Tensor]
"""Chooses a token for each row, (B,), given logits (B, V)."""


GREEDY = 1e-6
"""Temperatures below it are as good as 0, and float32 may not even hold them."""


class SamplingOptions(TypedDict, total=False):
    """How `generate`, `draw` and `infill` sample tokens: their keyword arguments, any of which may be left out.

    Attributes:
        temperature: divides the logits; 0, or anything below 1e-6, takes the most probable token every time. Default: 1.
        top_k: sample from the k most probable tokens only.
        top_p: sample from the smallest set of tokens with at least this probability (arXiv:1904.09751).
        seed: makes the texts reproducible.
    """

    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int | None


class Sampling:
    """Samples tokens, each call with new random numbers of one generator.

    Args:
        device: that of the logits.
        temperature, top_k, top_p, seed: as in `SamplingOptions`.

    Raises:
        UserError: all mistakes in one line.
    """

    def __init__(
        self,
        device: torch.device,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> None:
        problems = {
            f"temperature must be 0 or more, not {temperature}": not 0 <= temperature < math.inf,
            f"top_k must be 1 or more, not {top_k}": top_k is not None and top_k < 1,
            f"top_p must be above 0 and at most 1, not {top_p}": top_p is not None and not 0 < top_p <= 1,
            f"seed must be between 0 and 2 ** 63 - 1, not {seed}": seed is not None and not 0 <= seed < 2**63,
        }
        refuse(problems)
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.generator = torch.Generator(device)
        if seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(seed)

    def __call__(self, logits: Tensor) -> Tensor:
        """(B,): a token for each row of logits (B, V)."""
        if self.temperature < GREEDY:
            return most_probable(logits)
        logits = (logits - logits.amax(dim=-1, keepdim=True)) / self.temperature  # else tiny ones would overflow
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            kth = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < kth, -torch.inf)
        if self.top_p is not None:
            ordered, index = logits.sort(dim=-1, descending=True)
            probabilities = ordered.softmax(dim=-1)
            before = probabilities.cumsum(dim=-1) - probabilities
            ordered = ordered.masked_fill(before >= self.top_p, -torch.inf)
            logits = torch.full_like(logits, -torch.inf).scatter(-1, index, ordered)
        return torch.multinomial(logits.softmax(dim=-1), 1, generator=self.generator).squeeze(-1)


def most_probable(logits: Tensor) -> Tensor:
    """(B,): the most probable token of each row of logits (B, V)."""
    return logits.argmax(dim=-1)


def check_amount(max_new_tokens: int, number: int = 0) -> None:
    """Check how long the texts may be, and how many to draw where that is an argument.

    Raises:
        UserError: both mistakes in one line.
    """
    problems = {
        f"max_new_tokens must be 1 or more, not {max_new_tokens}": max_new_tokens < 1,
        f"number must be 0 or more, not {number}": number < 0,
    }
    refuse(problems)
