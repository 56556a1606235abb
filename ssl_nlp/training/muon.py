"""Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon): steps along orthogonalized momentum."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ssl_nlp.training.precision import cpu_multiplies_bfloat16

# Coefficients (a, b, c) of a x + b x^3 + c x^5 in each step of `orthogonalize`: the polynomial nearest to 1 between what
# the steps before leave of 0.01 and, but for a margin of 0.1 for rounding in bfloat16, what they leave at most.
NEWTON_SCHULZ = ((8.0934, -23.6204, 17.4462), (3.4877, -2.3672, 0.4220), (2.6128, -1.7656, 0.3605))
MOMENTUM = 0.95


class Muon(Optimizer):
    """Step along the orthogonalized Nesterov momentum of each matrix.

    Unlike `torch.optim.Muon` this takes all matrices of a shape at once, which is quicker on CPUs and GPUs alike.

    Args:
        groups: parameter groups of matrices with `lr`, `weight_decay` and `match_adamw`: whether updates are scaled to the
            size of AdamW's (arXiv:2502.16982, section 2.2) instead of by sqrt(max(1, rows / columns)).
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, defaults={})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all matrices that have a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape, parameter.device, parameter.dtype].append(parameter)
            for parameters in by_shape.values():
                self._step(parameters, group)
        return loss

    def flops(self) -> int:
        """Floating-point operations of the matrix products in a step, for the matrices that have a gradient now."""
        trained = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        return sum(_flops_of_orthogonalizing(*parameter.shape) for parameter in trained)

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        updates = orthogonalize(torch.stack(torch._foreach_lerp(gradients, momenta, MOMENTUM)))
        rows, columns = updates.shape[1:]
        scale = 0.2 * math.sqrt(max(rows, columns)) if group["match_adamw"] else math.sqrt(max(1, rows / columns))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates.to(parameters[0].dtype).unbind(), alpha=-group["lr"] * scale)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Move the singular values of matrices (N, rows, columns) near 1 (0.7 to 1.3) and keep their singular vectors.

    Newton-Schulz steps X <- a X + (b A + c A^2) X with A = X X^T, whose coefficients change from step to step so that a few
    steps suffice (Amsel et al., "The Polar Express", arXiv:2505.16932, section 3), in bfloat16 where it is quick. Matrices
    are first divided by the fourth root of the sum of fourth powers of their singular values, which is nearer to the
    largest one than the Frobenius norm. Singular values below a hundredth of that come closer to 1 but do not reach it.
    """
    x = matrices.to(_quick_dtype(matrices.device))
    tall = x.shape[1] > x.shape[2]
    gram = x.mT @ x if tall else x @ x.mT
    largest = gram.flatten(1).norm(dim=1, dtype=torch.float32).clamp(min=1e-14)[:, None, None].to(x.dtype)
    x, gram = x / largest.sqrt(), gram / largest
    for step, (a, b, c) in enumerate(NEWTON_SCHULZ):
        if step > 0:
            gram = x.mT @ x if tall else x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, polynomial, beta=a) if tall else torch.baddbmm(x, polynomial, x, beta=a)
    return x


def _flops_of_orthogonalizing(rows: int, columns: int) -> int:
    """Floating-point operations of the products in `orthogonalize` for one matrix."""
    short, long = sorted((rows, columns))
    return len(NEWTON_SCHULZ) * 2 * (2 * short**2 * long + short**3)


def _quick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, except on CPUs that have no instructions for its matrix products."""
    return torch.bfloat16 if device.type != "cpu" or cpu_multiplies_bfloat16() else torch.float32
