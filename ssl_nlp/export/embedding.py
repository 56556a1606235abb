"""The parts of a model's embedding: a pooling of its states and, for some, a linear layer."""

from typing import cast

import torch
from torch import nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.errors import UserError
from ssl_nlp.modules.pooling import POOLINGS, Pooling, pool
from ssl_nlp.training.texts import TextModule

TOLERANCE = 1e-5


def embedding_parts(module: TextModule, pooling: Pooling | None = None) -> tuple[Pooling, nn.Linear | None]:
    """The pooling of a module's embedding, and the linear layer after it, if there is one.

    Args:
        module: whose `embed` is meant.
        pooling: of the states, instead of the module's own embedding.

    Raises:
        UserError: the embedding is not a linear function of one of the poolings.
    """
    if pooling is not None:
        return pooling, None
    if type(module).embed_batch is TextModule.embed_batch:
        if module.own_embedding(*_states(module, torch.zeros(1, 1, module.encoder.dim))) is None:
            return module.pooling, None
        for how in POOLINGS:
            if (layer := _linear(module, how)) is not None:
                return how, layer
    raise UserError(
        f"the embedding of this {type(module).__name__} is not a linear function of the mean, first or last state: export "
        "one of these with --pooling, or take --format onnx"
    )


@torch.no_grad()
def _linear(module: TextModule, how: Pooling) -> nn.Linear | None:
    """The layer that makes the module's own embedding from a pooling, found by trying it on unit vectors; None if none."""
    dim = module.encoder.dim
    bias = module.own_embedding(*_states(module, torch.zeros(1, 1, dim)))
    columns = module.own_embedding(*_states(module, torch.eye(dim).unsqueeze(1)))
    assert bias is not None and columns is not None
    layer = nn.Linear(dim, bias.shape[1])
    layer.weight.copy_((columns - bias).T)
    layer.bias.copy_(bias[0])
    random = torch.randn(4, 5, dim, generator=torch.Generator().manual_seed(0))
    hidden, batch = _states(module, random, lengths=[5, 3, 1, 4])
    own = module.own_embedding(hidden, batch)
    found = layer(pool(random, batch.to("cpu"), how))
    return layer if torch.allclose(cast(torch.Tensor, own).cpu(), found, rtol=TOLERANCE, atol=TOLERANCE) else None


def _states(
    module: TextModule, hidden: torch.Tensor, lengths: list[int] | None = None
) -> tuple[torch.Tensor, TokenBatch]:
    """Invented states (B, T, D), and a batch of texts of these lengths that they belong to."""
    ids = torch.zeros(hidden.shape[:2], dtype=torch.int64)
    segments = torch.ones_like(ids)
    if lengths is not None:
        segments = (torch.arange(hidden.shape[1]) < torch.tensor(lengths)[:, None]).long()
    return hidden.to(module.device), TokenBatch(ids, segments, packed=False).to(module.device)
