"""How far two predictions for the same targets are apart, summed over targets."""

import torch
from torch import Tensor
from torch.nn import functional as F


def symmetric_kl(one: Tensor, other: Tensor) -> Tensor:
    """(KL(p || q) + KL(q || p)) / 2 of two categorical distributions, in float32: R-Drop (arXiv:2106.14448, equation 2).

    Args:
        one, other: their logits (..., C), -inf where both have probability 0.

    Returns:
        (...): one number for each pair of distributions.

    >>> symmetric_kl(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    tensor(0.)
    """
    p, q = F.log_softmax(one.float(), dim=-1), F.log_softmax(other.float(), dim=-1)
    apart = (p - q).masked_fill(p.isneginf() & q.isneginf(), 0.0)
    return ((p.exp() - q.exp()) * apart).sum(dim=-1) / 2


def symmetric_bernoulli_kl(one: Tensor, other: Tensor) -> Tensor:
    """As `symmetric_kl`, of the two outcomes of each logit (...): (p - q) (logit p - logit q) / 2."""
    one, other = one.float(), other.float()
    return (torch.sigmoid(one) - torch.sigmoid(other)) * (one - other) / 2
