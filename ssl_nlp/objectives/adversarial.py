"""The penalty that keeps a Wasserstein critic's slope near 1."""

from collections.abc import Callable

import torch
from torch import Tensor

from ssl_nlp.objectives.geometry import widened


def gradient_penalties(critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor) -> Tensor:
    """(B,): (|grad f(x)| - 1)^2, x a random point between a real and a made one (Gulrajani et al., arXiv:1704.00028).

    The mean of these is the second term of their equation 3, without its weight. Gradients flow to the critic alone. The
    points are drawn by torch's default generator.

    Args:
        critic: f, from points (B, Z) to scores (B,), each of its own point alone.
        real: (B, Z).
        made: (B, Z), by a generator.
    """
    real, made = widened(real.detach()), widened(made.detach())
    with torch.enable_grad():
        shares = torch.rand(len(real), 1, dtype=real.dtype, device=real.device)
        points = torch.lerp(
            made, real.requires_grad_(), shares
        )  # no leaf: torch's counter of operations fails at these
        [slopes] = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
        return (slopes.norm(dim=1) - 1).square()
