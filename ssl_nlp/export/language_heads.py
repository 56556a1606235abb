"""The heads of methods in the stock classes of `transformers`."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_nlp.encoders.language_head import PLACES, HeadLayers, layers_of_head
from ssl_nlp.export.stock import StockModel, embedding_of, fill
from ssl_nlp.modules import LanguageModelHead

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_language_head(stock: StockModel, head: LanguageModelHead, auto: str) -> StockModel:
    """The stock model with a language modelling head, if its class can express ours; if not, with a note why."""
    import transformers

    config = stock.model.config
    places = PLACES.get(config.model_type)
    if places is None:
        stock.left_out.append(
            f"It has no language modelling head, because that of {config.model_type} is not one that this package knows."
        )
        return stock
    own, states = head.output_weight, stock.states
    config.tie_word_embeddings = torch.equal(own.float().cpu(), embedding_of(stock.model).weight)
    model = getattr(transformers, auto).from_config(config, dtype=torch.float32).eval()
    layers, output = layers_of_head(model), model.get_output_embeddings()
    if (theirs := _form(layers)) != (ours := _form(head)):
        stock.left_out.append(
            f"It has no language modelling head: that of {type(model).__name__} has {theirs}, and ours {ours}."
        )
        return stock
    for layer, mine in ((layers.dense, head.dense), (layers.norm, head.norm)):
        if layer is not None and mine is not None:
            fill(layer, mine)
    with torch.no_grad():
        if head.bias is not None:
            for bias in (model.get_parameter(places.bias) if places.bias else output.bias, output.bias):
                bias.copy_(head.bias)
        model.base_model.load_state_dict(stock.model.state_dict())
        output.weight.copy_(own)
    stock.model = model
    stock.loads_as.append(auto)
    stock.logits = lambda batch: head(states(batch))
    return stock


def _form(head: HeadLayers | LanguageModelHead) -> str:
    """The properties of a head that a stock class fixes, in words."""
    output = "an output layer " + ("without bias" if head.bias is None else "with a bias")
    if head.dense is None or head.norm is None:
        return f"{output} alone"
    points = torch.linspace(-4, 4, 81, device=head.dense.weight.device)
    is_gelu = torch.allclose(head.activation(points), F.gelu(points), atol=1e-6)
    activation = "gelu" if is_gelu else type(head.activation).__name__
    outputs, inputs = head.dense.weight.shape
    return f"a layer from {inputs} to {outputs}, {activation}, a norm with the epsilon {head.norm.eps} and {output}"


@torch.no_grad()
def add_parts(model: "PreTrainedModel", parts: Tensor) -> bool:
    """Add the embeddings of the two parts of a pair (2, E) to the model's own, and say whether it has a place for both.

    Without one, the embedding of the first part is added to those of the tokens.
    """
    kinds = next((m for name, m in model.named_modules() if name.endswith("token_type_embeddings")), None)
    if isinstance(kinds, nn.Embedding) and kinds.num_embeddings > 1:
        kinds.weight[:2] = kinds.weight[0] + parts.float()  # in training, all tokens were of type 0
        return True
    embedding_of(model).weight += parts[0].float()
    return False
