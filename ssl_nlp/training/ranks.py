"""Communication between ranks."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of `tensor` over all ranks, on every rank; the tensor itself where there is one rank. No gradient."""
    if _several_ranks():
        tensor = tensor.detach().clone()
        dist.all_reduce(tensor)
    return tensor


def sums_over_ranks(numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums of several scalars over all ranks, by name, in one communication."""
    return dict(zip(numbers, sum_over_ranks(torch.stack([number.long() for number in numbers.values()])), strict=True))


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Gather the rows of all ranks, in their order. Gradients flow back to every rank.

    Args:
        rows: (n, ...); n may differ between ranks, the rest of the shape may not.

    Returns:
        (N, ...) with N the sum of all n, the same on every rank; `rows` itself where there is one rank.
    """
    if not _several_ranks():
        return rows, 0
    sizes = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor(len(rows), device=rows.device))
    counts = [int(size) for size in sizes]
    return _Gather.apply(rows, counts), sum(counts[: dist.get_rank()])


def gather_objects(objects: Sequence[T]) -> list[T]:
    """The objects of all ranks, in the order of the ranks, on every rank. They must be plain data."""
    if not _several_ranks():
        return list(objects)
    gathered: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, list(objects))
    return [each for of_rank in gathered for each in of_rank]


class _Gather(torch.autograd.Function):
    """Sums the gradients of all ranks for each row, because every rank's loss depends on every rank's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(gathered, padded)
        return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.split(ctx.counts)[dist.get_rank()], None


def _several_ranks() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
