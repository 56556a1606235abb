"""Cross-entropy of an output layer over a vocabulary, without ever holding all its logits.

The logits of N positions over V tokens, and their gradient, are the largest tensors of a language model. Here they exist
for one block of rows at a time: the forward pass also takes the gradients of a block, while its logits are at hand, so
that nothing is kept and nothing is computed twice. The idea comes from Liger Kernel (arXiv:2410.10989 §3.2); this is plain
PyTorch and runs on every device.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ssl_nlp.data.batch import IGNORE_INDEX

# Logits in one block. On a CPU the block should stay in its cache; on an accelerator it should fill the device (512 MiB).
CPU_BLOCK = 2**22
ACCELERATOR_BLOCK = 2**27
# Up to this many logits, autograd's own cross-entropy is faster.
SMALL = 2**20


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float = 0.0,
    factors: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The sum of the losses and the number of targets; their ratio, over all ranks, is the mean.

    Equals `cross_entropy(linear(hidden, weight, bias).float(), targets, reduction="sum", label_smoothing=smoothing)`, first
    derivatives included.
    Matrix products run in the precision of autocast, else of `hidden`; softmax and sums over blocks in float32 or more.

    Args:
        hidden: (N, D).
        weight: (V, D).
        bias: (V,) or None. -inf excludes a token, if `smoothing` is 0.
        targets: (N,) int64, `IGNORE_INDEX` where nothing is predicted.
        smoothing: this share of the target's probability is spread evenly over all V tokens (arXiv:1512.00567, section 7).
        factors: (N,), by which the losses are multiplied before they are summed; None: 1. They get no gradient.

    Returns:
        The sum, a float32 scalar (float64 for float64 input), and the number, an int64 scalar. Both may be 0.
    """
    if len(targets) * len(weight) <= SMALL:
        logits = F.linear(hidden, weight, bias)
        loss = F.cross_entropy(
            logits.to(_accumulator(logits.dtype)),
            targets,
            ignore_index=IGNORE_INDEX,
            reduction="sum" if factors is None else "none",
            label_smoothing=smoothing,
        )
        loss = loss if factors is None else (loss * factors).sum()
    elif torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (hidden, weight, bias)):
        loss = _LinearCrossEntropy.apply(hidden, weight, bias, targets, smoothing, factors)
    else:
        losses = token_losses(hidden, weight, bias, targets, smoothing)[0]
        loss = (losses if factors is None else losses * factors).sum()
    return loss, (targets != IGNORE_INDEX).sum()


@torch.no_grad()
def token_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The loss of every target, and whether its token was the likeliest. Arguments as for `linear_cross_entropy`.

    Returns:
        (N,) losses in nats, float32 (float64 for float64 input), 0 where `targets` is `IGNORE_INDEX`; and (N,) bool,
        False there.
    """
    dtype = _matmul_dtype(hidden)
    losses, correct = [], []
    with torch.autocast(hidden.device.type, enabled=False):
        x, output, offset = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        for x_block, target_block in _blocks(len(weight), x, targets):
            logits = F.linear(x_block, output, offset)
            correct.append(logits.argmax(dim=1) == target_block)
            losses.append(_softmax_(logits.to(_accumulator(dtype)), target_block, smoothing)[0])
    return torch.cat(losses), torch.cat(correct)


class _LinearCrossEntropy(torch.autograd.Function):
    """The sum of the losses. The forward pass computes the gradients, the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        factors: Tensor | None,
    ) -> Tensor:
        needs_hidden, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        dtype = _matmul_dtype(hidden)
        wide = _accumulator(dtype)
        kept = targets != IGNORE_INDEX
        scale = kept if factors is None else factors.to(wide)
        grad_weight = torch.zeros_like(weight, dtype=wide) if needs_weight else None
        grad_bias = torch.zeros_like(weight[:, 0], dtype=wide) if needs_bias else None
        loss = torch.zeros((), dtype=wide, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            # Rows of zeros at ignored positions add nothing to the weight's gradient: the logits need no mask.
            x = hidden.to(dtype).masked_fill(~kept[:, None], 0)
            output, offset = weight.to(dtype), None if bias is None else bias.to(dtype)
            grad_hidden = torch.zeros_like(x) if needs_hidden else None
            rows = x if grad_hidden is None else grad_hidden
            blocks = _blocks(len(weight), x, rows, targets, kept, scale)
            for x_block, grad_block, target_block, kept_block, scale_block in blocks:
                losses, grad_logits = _softmax_(F.linear(x_block, output, offset).to(wide), target_block, smoothing)
                loss += (losses if factors is None else losses * scale_block).sum()
                target_block = target_block.masked_fill(~kept_block, 0)[:, None]
                grad_logits.scatter_add_(1, target_block, torch.full_like(losses, smoothing - 1)[:, None])
                if smoothing:
                    grad_logits -= smoothing / len(weight)
                if factors is not None:
                    grad_logits *= scale_block[:, None]
                if grad_bias is not None:
                    grad_bias += kept_block.to(wide) @ grad_logits
                grad_logits = grad_logits.to(dtype)
                if grad_hidden is not None:
                    grad_block.copy_(grad_logits @ output)  # `out=` a part of a tensor is lost in a graph of torch 2.11
                if grad_weight is not None and dtype == wide:
                    grad_weight.addmm_(grad_logits.T, x_block)
                elif grad_weight is not None:
                    grad_weight += grad_logits.T @ x_block
            if grad_hidden is not None:
                grad_hidden.masked_fill_(~kept[:, None], 0)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        saved = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *(None if grad is None else grad.to(dtype) * grad_output for grad, dtype in saved), None, None, None


def _softmax_(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The losses (N,), 0 where ignored, and the probabilities (N, V), which overwrite `logits`."""
    ignored = targets == IGNORE_INDEX
    logits -= logits.amax(dim=1, keepdim=True)
    of_target = logits.gather(1, targets.masked_fill(ignored, 0)[:, None])
    if smoothing:
        of_target = (1 - smoothing) * of_target + smoothing * logits.mean(dim=1, keepdim=True)
    total = logits.exp_().sum(dim=1, keepdim=True)
    return (total.log() - of_target)[:, 0].masked_fill(ignored, 0), logits.div_(total)


def _matmul_dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _blocks(vocabulary: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of all tensors, block by block, as many as fit with `vocabulary` logits each."""
    size = CPU_BLOCK if tensors[0].device.type == "cpu" else ACCELERATOR_BLOCK
    number = -(-len(tensors[0]) * vocabulary // size)
    return zip(*(tensor.chunk(max(number, 1)) for tensor in tensors), strict=True)
