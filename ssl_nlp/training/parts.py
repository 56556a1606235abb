"""How a model is divided among processes, which parts of it train and from where, and what a mere count leaves alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from ssl_nlp.encoders import Encoder
from ssl_nlp.encoders.depth import layers_of
from ssl_nlp.terminal import say
from ssl_nlp.training.optimization import Optimization, warn_if_unusual


def shard(module: nn.Module, encoder: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the parameters of a module among processes (FSDP2), layer by layer of its encoder."""
    for layer in layers_of(encoder):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    register_fsdp_forward_method(module, "loss")  # Lightning calls training_step, never forward


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Give a module its buffers back, which a forward pass changes even without gradients, such as those of BatchNorm."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


_counts_only = ContextVar("counts_only", default=False)


@contextmanager
def mere_count() -> Iterator[None]:
    """Meanwhile, losses are computed for the sake of counting their operations."""
    token = _counts_only.set(True)
    try:
        yield
    finally:
        _counts_only.reset(token)


def counts_only() -> bool:
    """Whether a loss is wanted by `mere_count`, so that nothing needs to be measured on the way."""
    return _counts_only.get()


def say_how_it_starts(encoder: Encoder, optimization: Optimization) -> None:
    """Say what a user may not expect of a training that begins with published weights."""
    if encoder.pretrained and encoder.adapter is None and any(p.requires_grad for p in encoder.parameters()):
        warn_if_unusual(optimization)
    if encoder.lacks_language_head:
        say("the encoder's files have no language modelling head that can be used: a new one is trained")


def train_all_but_frozen(module: nn.Module) -> None:
    """Put a module and its parts into training mode, except parts in evaluation mode whose parameters are all frozen.

    Lightning keeps the modes it finds. An encoder that was loaded from a checkpoint is in evaluation mode and would go
    without dropout; one that was frozen (`encoder.requires_grad_(False).eval()`) is meant to stay as it is.
    """
    for part in module.children():
        parameters = list(part.parameters())
        if part.training or not parameters or any(parameter.requires_grad for parameter in parameters):
            train_all_but_frozen(part)
    module.training = True
    if isinstance(module, Encoder):
        module.keep_frozen_still()
