"""The heads of methods in the stock classes of `transformers`."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ssl_nlp.export.stock import StockModel, embedding_of, fill
from ssl_nlp.modules import LanguageModelHead

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LANGUAGE_HEADS = {  # by model_type: the dense layer, the norm and the bias of the language modelling head
    "modernbert": ("head.dense", "head.norm", "decoder.bias"),
    "modernbert-decoder": ("lm_head.dense", "lm_head.norm", "decoder.bias"),
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "xlm-roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "camembert": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
}


def add_language_head(stock: StockModel, head: LanguageModelHead, auto: str) -> StockModel:
    """The stock model with a language modelling head, if its class can express ours; if not, with a note why."""
    import transformers

    config = stock.model.config
    places = LANGUAGE_HEADS.get(config.model_type)
    if places is None:
        stock.left_out.append(
            f"It has no language modelling head, because that of {config.model_type} is not like ours."
        )
        return stock
    own, states = head.output_weight, stock.states
    config.tie_word_embeddings = torch.equal(own.float().cpu(), embedding_of(stock.model).weight)
    model = getattr(transformers, auto).from_config(config, dtype=torch.float32).eval()
    dense, norm = (model.get_submodule(name) for name in places[:2])
    activation = getattr(config, "classifier_activation", None) or config.hidden_act
    if (dense.weight.shape, norm.eps, activation) != (head.dense.weight.shape, head.norm.eps, "gelu"):
        stock.left_out.append(
            f"It has no language modelling head: that of {type(model).__name__} has the activation {activation} and the "
            f"epsilon {norm.eps} in its norm, and ours gelu and {head.norm.eps}."
        )
        return stock
    fill(dense, head.dense)
    fill(norm, head.norm)
    with torch.no_grad():
        output = model.get_output_embeddings()
        for bias in (model.get_parameter(places[2]), output.bias):
            bias.copy_(head.bias)
        model.base_model.load_state_dict(stock.model.state_dict())
        output.weight.copy_(own)
    stock.model = model
    stock.loads_as.append(auto)
    stock.logits = lambda batch: head(states(batch))
    return stock


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
