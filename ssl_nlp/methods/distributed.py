"""Sums over ranks."""

import torch.distributed
from torch import Tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of `tensor` over all ranks, on every rank; the tensor itself where there is one rank. No gradient."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        tensor = tensor.detach().clone()
        torch.distributed.all_reduce(tensor)
    return tensor
