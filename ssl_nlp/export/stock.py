"""A stock model of `transformers` with the weights of an encoder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.encoders import BagOfWords, Encoder, PretrainedEncoder, Transformer
from ssl_nlp.encoders.adapters import merged
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class StockModel:
    """A model of `transformers`.

    Attributes:
        model: with our weights, float32, on the CPU.
        states: ours, (B, T, D), that its `last_hidden_state` equals.
        loads_as: the classes that load it, such as `AutoModelForMaskedLM`, the most specific last.
        logits: ours that its logits equal; None if it has no head.
        left_out: sentences about what the stock model does not have.
        parts: whether it tells the two texts of a pair apart by `token_type_ids`.
    """

    model: "PreTrainedModel"
    states: Callable[[TokenBatch], Tensor]
    loads_as: list[str] = field(default_factory=lambda: ["AutoModel"])
    logits: Callable[[TokenBatch], Tensor] | None = None
    left_out: list[str] = field(default_factory=list)
    parts: bool = False


def base_model(encoder: Encoder) -> "PreTrainedModel":
    """The stock model of an encoder, without a head.

    Raises:
        UserError: there is none.
    """
    if encoder.prompt_length:
        raise UserError("PromptTuning changes the input of the encoder and cannot be merged into it: use --format peft")
    encoder = merged(encoder)
    if isinstance(encoder, Transformer):
        return encoder.to_transformers().float()
    if isinstance(encoder, PretrainedEncoder):
        model = encoder.model.cpu().float().eval()
        model.config._name_or_path = ""  # may be a path of this machine
        if encoder.causal:
            model.config.use_cache = True  # ours keeps caches itself
        return model
    other = "export it with --format onnx" if encoder.exportable else "it cannot be exported, so use its checkpoint"
    if isinstance(encoder, BagOfWords):
        other = "export its word vectors with --format word2vec"
    raise UserError(f"transformers has no class for the encoder {type(encoder).__name__}: {other}")


@torch.no_grad()
def fill(layer: nn.Module, mine: nn.Module) -> None:
    """Copy weight and bias of a layer; a bias that mine lacks is 0."""
    parameters = dict(layer.named_parameters(recurse=False))
    assert parameters.keys() >= {name for name, _ in mine.named_parameters(recurse=False)}
    for name, parameter in parameters.items():
        own = getattr(mine, name, None)
        parameter.zero_() if own is None else parameter.copy_(own)


def embedding_of(model: "PreTrainedModel") -> nn.Embedding:
    """The token embedding of a stock model."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding
