"""Diagonal Gaussians for variational methods: divergences, densities, bounds, and remedies for posterior collapse.

Everything is in nats and in float32 or wider, even under autocast. Shapes: B sentences, Z latent dimensions, K samples.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from ssl_nlp.objectives.geometry import widened

Annealing = Literal["none", "linear", "cyclical"]
FreeBitsPer = Literal["dimension", "total"]


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B, Z): KL(N(mean, variance) || N(0, 1)) of each dimension (Kingma & Welling, arXiv:1312.6114, appendix B).

    Args:
        mean: (B, Z).
        log_variance: (B, Z).
    """
    mean, log_variance = widened(mean), widened(log_variance)
    return 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance)


def reparameterize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B, Z): a draw from N(mean, variance) by torch's default generator, through which gradients flow (ibid., 2.4)."""
    mean, log_variance = widened(mean), widened(log_variance)
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def gaussian_log_density(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The log of N(x; mean, variance), summed over the last dimension. The shapes (..., Z) of the arguments broadcast."""
    x, mean, log_variance = widened(x), widened(mean), widened(log_variance)
    squares = (x - mean).square() * (-log_variance).exp()
    return -0.5 * (math.log(2 * math.pi) + log_variance + squares).sum(dim=-1)


def importance_weighted_nll(log_p_x_given_z: Tensor, log_p_z: Tensor, log_q_z_given_x: Tensor) -> Tensor:
    """An upper bound of -log p(x) from K samples of q(z | x) (Burda et al., arXiv:1509.00519, equation 8).

    With one sample it is the negative ELBO; with more it falls, on average, towards -log p(x).

    Args:
        log_p_x_given_z: (K, B), the reconstruction of each sample.
        log_p_z: (K, B), its density under the prior.
        log_q_z_given_x: (K, B), its density under the posterior it was drawn from.

    Returns:
        (B,) nats.
    """
    weights = widened(log_p_x_given_z) + widened(log_p_z) - widened(log_q_z_given_x)
    return math.log(len(weights)) - weights.logsumexp(dim=0)


def free_bits(kl: Tensor, nats: float, per: FreeBitsPer) -> Tensor:
    """The KL term of each sentence, with `nats` that cost the same whether used or not (arXiv:1606.04934, appendix C.8).

    As in the paper it is the mean over the batch that may not fall below `nats`, not the value of a single sentence:

        mean over sentences of the result = sum over groups of max(nats, mean over sentences of kl)

    A group whose mean is below has no gradient; the others are passed through. The result is one value for each sentence,
    so that it can be added to the reconstruction. The mean is over this batch on this rank.

    Args:
        kl: (B, Z).
        nats: the allowance of each group.
        per: whether each dimension is a group, or all of them together are one.

    Returns:
        (B,) nats.
    """
    groups = kl if per == "dimension" else kl.sum(dim=1, keepdim=True)
    return torch.where(groups.mean(dim=0) > nats, groups, nats).sum(dim=1)


def mutual_information(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The information of each code about which sentence of the batch it encodes; the mean estimates I(x; z) under q.

    log q(z | x) - log q(z), where q(z) is the mean of the posteriors of the batch (Hoffman & Johnson 2016, "ELBO surgery";
    He et al., arXiv:1901.05534, section 3.2). A batch has only B sentences to tell apart: the values are at most ln B.
    They are 0 if all posteriors are equal.

    Args:
        z: (B, Z), a draw from the posterior of each sentence.
        mean: (B, Z).
        log_variance: (B, Z).

    Returns:
        (B,) nats.
    """
    log_q = gaussian_log_density(z[:, None], mean, log_variance)  # (B, B): each code under each posterior
    return log_q.diagonal() - log_q.logsumexp(dim=1) + math.log(len(z))


def annealing(step: int, kind: Annealing, steps: float, cycles: int = 4, ratio: float = 0.5) -> float:
    """The weight of the KL term in an optimizer step.

    Args:
        step: 0 is the first one.
        kind: `none` is always 1; `linear` rises from 0 to 1 (Bowman et al., arXiv:1511.06349, section 3.1); `cyclical`
            does so several times, staying at 1 before it starts again (Fu et al., arXiv:1903.10145, equation 6).
        steps: number of steps it takes; from then on the weight is 1.
        cycles: number of times `cyclical` rises.
        ratio: the share of a cycle in which `cyclical` rises.
    """
    if kind == "none" or step >= steps:
        return 1.0
    if kind == "linear":
        return step / steps
    progress = step * cycles / steps % 1
    return progress / ratio if progress < ratio else 1.0
