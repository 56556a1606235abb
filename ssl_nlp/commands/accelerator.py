"""The device of commands that have no trainer: a GPU if there is one, as Lightning chooses it for those that train.

CUDA_VISIBLE_DEVICES chooses among several GPUs; where it is empty, the processor computes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def accelerator() -> torch.device:
    """The first visible GPU of CUDA, or the processor.

    cuDNN would round the inputs of convolutions and recurrent layers to TF32: scores are in float32 on every device.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", torch.cuda.current_device())


@contextmanager
def accelerated(model: nn.Module) -> Iterator[None]:
    """A model on the accelerator, and on the processor afterwards: many models are compared, and one has to fit."""
    model.to(accelerator())
    try:
        yield
    finally:
        model.to("cpu")
