"""The device of commands that have no trainer: a CUDA GPU if there is one.

CUDA_VISIBLE_DEVICES chooses among several GPUs; where it is empty, the CPU computes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def accelerator() -> torch.device:
    """The first visible CUDA GPU, or the CPU.

    Where it is a GPU, cuDNN no longer rounds the inputs of convolutions and recurrent layers to TF32 from here on, because
    scores are in float32 on every device.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", torch.cuda.current_device())


@contextmanager
def accelerated(model: nn.Module) -> Iterator[None]:
    """Moves a model to the accelerator, and back to the CPU afterwards, so that only one needs to fit."""
    model.to(accelerator())
    try:
        yield
    finally:
        model.to("cpu")
