"""The language modelling heads of `transformers`: dense, activation, norm, output layer, or the output layer alone."""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class Places(NamedTuple):
    """The names of a head's layers in a stock model.

    Attributes:
        dense, norm: of layers before the output layer; None if there are none.
        activation: between these two; None: GELU.
        bias: of a parameter that is tied to the bias of the output layer, if there is one.
    """

    dense: str | None = None
    norm: str | None = None
    activation: str | None = None
    bias: str | None = None


_BERT = "cls.predictions."
_ROBERTA = Places("lm_head.dense", "lm_head.layer_norm", bias="lm_head.bias")
# By `model_type`. It lists the models whose logits are the output layer of these layers, without scale or cap.
PLACES = {
    "bert": Places(
        f"{_BERT}transform.dense",
        f"{_BERT}transform.LayerNorm",
        f"{_BERT}transform.transform_act_fn",
        f"{_BERT}bias",
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Places("vocab_transform", "vocab_layer_norm", "activation"),
    "electra": Places(
        "generator_predictions.dense", "generator_predictions.LayerNorm", "generator_predictions.activation"
    ),
    "modernbert": Places("head.dense", "head.norm", "head.act"),
    "modernbert-decoder": Places("lm_head.dense", "lm_head.norm", "lm_head.act"),
} | dict.fromkeys(("gpt2", "gpt_neox", "llama", "mistral", "olmo2", "opt", "phi", "qwen2", "qwen3"), Places())


@dataclass
class HeadLayers:
    """The layers of a head over V tokens, between states of width D and an output layer of width E.

    Attributes:
        dense: D to E; None if the output layer reads the states, without activation and norm.
        activation: after `dense`.
        norm: after `activation`.
        weight: (V, E) of the output layer; None if it is the token embedding.
        bias: (V,) of the output layer, if it has one.
    """

    dense: nn.Linear | None
    activation: nn.Module
    norm: nn.LayerNorm | None
    weight: Tensor | None
    bias: Tensor | None


def our_layers(dim: int, embedding: nn.Embedding, tied: bool = True) -> HeadLayers:
    """New layers of a head in our form: without a bias in the dense layer.

    Args:
        dim: width D of the states.
        embedding: of the tokens, (V, E).
        tied: whether it is the output layer's weight, which is a new one otherwise.
    """
    dense = nn.Linear(dim, embedding.embedding_dim, bias=False)
    _draw(dense.weight)
    norm = nn.LayerNorm(embedding.embedding_dim, bias=False)
    weight = None if tied else _draw(torch.empty_like(embedding.weight))
    return HeadLayers(dense, nn.GELU(), norm, weight, torch.zeros(embedding.num_embeddings))


def layers_of_head(model: "PreTrainedModel") -> HeadLayers:
    """The layers of the head of a stock model whose type `PLACES` lists."""
    places, output = PLACES[model.config.model_type], model.get_output_embeddings()
    dense, norm, activation = (None if name is None else model.get_submodule(name) for name in places[:3])
    tied = output.weight is model.get_input_embeddings().weight
    weight, bias = (None if tied else output.weight), output.bias
    return HeadLayers(dense, activation or nn.GELU(), norm, weight, bias)  # type: ignore[arg-type]  # as `PLACES` says


def stock_class(config: "PretrainedConfig", causal: bool) -> Any:
    """The class of `transformers` that loads a model with its head; None if `PLACES` does not list the head."""
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
    )

    known = MODEL_FOR_CAUSAL_LM_MAPPING if causal else MODEL_FOR_MASKED_LM_MAPPING
    if config.model_type not in PLACES or type(config) not in known:
        return None
    return AutoModelForCausalLM if causal else AutoModelForMaskedLM


def head_layers(config: "PretrainedConfig", causal: bool, place: str | None) -> tuple[HeadLayers | None, bool]:
    """The layers of the head that belongs to a model, and whether they are all that was looked for.

    Args:
        config: of the model. It is told whether the output layer is the token embedding, which the files decide.
        causal: whether the model is causal.
        place: of its files, the weights of whose head are taken; the new head of a model whose files have none is in its
            form. None: new weights.

    Returns:
        The layers, None where `PLACES` does not list the model; and whether nothing is missing.

    Raises:
        OSError, ValueError: the files cannot be read.
    """
    kind = stock_class(config, causal)
    if kind is None:
        return None, False
    if place is None:
        return _new_layers(kind, config), True
    options = {"dtype": torch.float32, "trust_remote_code": False}
    model, info = kind.from_pretrained(place, config=copy.deepcopy(config), output_loading_info=True, **options)
    found = not info["missing_keys"]
    layers = layers_of_head(model) if found else _new_layers(kind, config)
    config.tie_word_embeddings = layers.weight is None
    return layers, found


def _new_layers(kind: Any, config: "PretrainedConfig") -> HeadLayers:
    """The layers of a head as the stock class has them, with random weights."""
    with torch.device("meta"):
        model = kind.from_config(copy.deepcopy(config), dtype=torch.float32)
    layers = layers_of_head(model)
    for layer in (layers.dense, layers.norm):
        if layer is not None:
            layer.to_empty(device="cpu")
            layer.reset_parameters()
    if layers.dense is not None:
        _draw(layers.dense.weight)
        if layers.dense.bias is not None:
            nn.init.zeros_(layers.dense.bias)
    layers.weight = None if layers.weight is None else _draw(torch.empty_like(layers.weight, device="cpu"))
    layers.bias = None if layers.bias is None else torch.zeros_like(layers.bias, device="cpu")
    return layers


def _draw(weight: Tensor) -> Tensor:
    return nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)
