"""The distribution of the lengths of texts, for models of a text that are told its length."""

import torch
from torch import Tensor


def length_log_probabilities(counts: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The distribution of lengths that were counted, smoothed so that every length has a probability.

        p(n) = (c(n) + u * g(n)) / (N + u),    g(n) = (1 - e)^n * e

    c(n) of the N texts have n tokens, and u lengths occur, at least one (Witten and Bell 1991, method C). g is the
    distribution of the length if a text ends after any of its tokens with the same probability e = (N + 1) / (N + tokens +
    2), which needs no count and is 1/2 without any.

    Args:
        counts: (M + 2,) int64: the number of texts of n = 0 ... M tokens, and of those with more.
        tokens: scalar, of all texts together.

    Returns:
        (M + 1,) float32: log p(n) for n = 0 ... M; and (M + 2,): the log-probability of n tokens or more, n = 0 ... M + 1.
    """
    number = counts.sum()
    kinds = (counts > 0).sum().clamp(min=1).float()
    end = (number + 1).float() / (number + tokens + 2).float()
    length = torch.arange(len(counts), device=counts.device)
    log_geometric = kinds.log() + length * torch.log1p(-end)  # u times the probability of n tokens or more
    at_least = counts.flip(0).cumsum(0).flip(0)
    log_total = (number + kinds).log()
    log_p = torch.logaddexp(counts.float().log(), log_geometric + end.log()) - log_total
    return log_p[:-1], torch.logaddexp(at_least.float().log(), log_geometric) - log_total
