"""Geometry of embeddings: spread, effective rank, alignment and uniformity.

Everything is computed in float32 or wider, even under autocast.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def widened(x: Tensor) -> Tensor:
    """The same numbers in float32, or wider if they already are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit_vectors(embeddings: Tensor) -> Tensor:
    """The rows of (N, D), each divided by its Euclidean length, in float32 or wider; rows of zeros stay zeros."""
    return F.normalize(widened(embeddings), dim=1)


def embedding_spread(embeddings: Tensor) -> Tensor:
    """Spread of embeddings: 0 if they have collapsed into one point, about 1 if they point in all directions.

    The standard deviation of each dimension of the normalized embeddings, averaged over dimensions (SimSiam,
    arXiv:2011.10566, section 4.1), times sqrt(D): isotropic directions have a deviation of 1 / sqrt(D).

    Args:
        embeddings: (N, D), at least one.

    Returns:
        A scalar between 0 and about 1.
    """
    deviations = unit_vectors(embeddings).std(dim=0, correction=min(1, len(embeddings) - 1))
    return deviations.mean() * math.sqrt(embeddings.shape[1])


def effective_rank(embeddings: Tensor) -> Tensor:
    """The number of directions that embeddings use: exp of the entropy of their normalized singular values.

    Roy & Vetterli 2007, "The effective rank", definition 1; RankMe (arXiv:2210.02885, section 3.1) predicts from it how
    well embeddings transfer. Here the mean is subtracted first, since a direction that all embeddings share does not tell
    them apart. Singular values within rounding error count as 0, so that collapsed embeddings have rank 1.

    Args:
        embeddings: (N, D), at least one.

    Returns:
        A scalar between 1 and min(N - 1, D).
    """
    x = widened(embeddings)
    values = torch.linalg.svdvals(x - x.mean(dim=0))
    values = torch.where(values > torch.finfo(embeddings.dtype).eps * x.norm(), values, 0)
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(shares).sum().exp()


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """The mean squared distance between normalized embeddings that belong together (arXiv:2005.10242, section 4.1).

    Args:
        x: (N, D).
        y: (N, D), the partner of each row of `x`.

    Returns:
        A scalar between 0 (partners coincide) and 4; 2 if they are at right angles.
    """
    return (unit_vectors(x) - unit_vectors(y)).square().sum(dim=1).mean()


def uniformity(x: Tensor, t: float = 2.0) -> Tensor:
    """The log of the mean Gaussian potential exp(-t d^2) of pairs at distance d (arXiv:2005.10242, section 4.1).

    Args:
        x: (N, D), normalized here. Pairs are of two different rows.
        t: how quickly the potential falls with the distance.

    Returns:
        A scalar: 0 if all embeddings coincide, and lower the more evenly they cover the sphere.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(x) < 2:
        raise ValueError(f"uniformity needs at least 2 rows, not {len(x)}")
    units = unit_vectors(x)
    with torch.autocast(x.device.type, enabled=False):
        potentials = t * (2 * units @ units.T - 2)
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    pairs = len(x) * (len(x) - 1)
    return potentials.masked_fill(itself, -torch.inf).flatten().logsumexp(dim=0) - math.log(pairs)
