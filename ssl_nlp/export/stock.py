"""A model of ours as a stock model of `transformers`: the same states and, where a stock class has its head, logits."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.encoders import Encoder, PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM, MaskedLM, MultiObjective, ReplacedToken
from ssl_nlp.modules import LanguageModelHead
from ssl_nlp.training.module import Module

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-4
"""The largest difference of states and logits from ours, where these are of the order of 1."""
LANGUAGE_HEADS = {  # by model_type: the dense layer, the norm and the bias of the language modelling head
    "modernbert": ("head.dense", "head.norm", "decoder.bias"),
    "modernbert-decoder": ("lm_head.dense", "lm_head.norm", "decoder.bias"),
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "xlm-roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "camembert": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
}


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


def stock_model(module: Module) -> StockModel:
    """The stock model with the weights of a method or task, which is compared with it on random tokens.

    Raises:
        UserError: `transformers` has no class for its encoder.
    """
    stock = _with_head(module)
    _set_special_tokens(stock.model, module)
    _check(stock, module)
    return stock


def base_model(encoder: Encoder) -> "PreTrainedModel":
    """The stock model of an encoder, without a head.

    Raises:
        UserError: there is none.
    """
    if isinstance(encoder, Transformer):
        return encoder.to_transformers().float()
    if isinstance(encoder, PretrainedEncoder):
        model = copy.deepcopy(encoder.model).cpu().float().eval()
        model.config._name_or_path = ""  # may be a path of this machine
        if encoder.causal:
            model.config.use_cache = True  # ours keeps caches itself
        return model
    raise UserError(
        f"transformers has no class for the encoder {type(encoder).__name__}: export it with --format onnx, which "
        "takes any encoder"
    )


# ------------------------------------------------------------------------------------------------------------------ heads


@singledispatch
def _with_head(module: Module) -> StockModel:
    return StockModel(base_model(module.encoder), module.encoder)


@_with_head.register
def _(module: CausalLM) -> StockModel:
    stock = StockModel(base_model(module.encoder), module.encoder)
    return _add_language_head(stock, module.head, "AutoModelForCausalLM")


@_with_head.register
def _(module: MaskedLM) -> StockModel:
    stock = StockModel(base_model(module.encoder), module.states)
    if module.sentence_pairs is not None:
        stock.left_out.append("It has no head that tells whether the second text of a pair follows the first.")
        stock.parts = _add_parts(stock.model, module.part_embedding.weight)
        if not stock.parts:
            stock.left_out.append(
                f"{type(stock.model).__name__} has no embedding of the parts of a pair. That of the first part is in the "
                "token embeddings, so a single text has its exact states; the second text of a pair does not."
            )
    return _add_language_head(stock, module.head, "AutoModelForMaskedLM")


@_with_head.register
def _(module: ReplacedToken) -> StockModel:
    note = "It has neither the generator nor the head that tells whether a token was replaced."
    return StockModel(base_model(module.encoder), module.encoder, left_out=[note])


@_with_head.register
def _(module: MultiObjective) -> StockModel:
    stock, others = StockModel(base_model(module.encoder), module.encoder), []
    for name, objective in module.objectives.items():
        fits = isinstance(objective, MaskedLM | CausalLM) and objective.causal == module.causal
        if not fits or stock.logits is not None or getattr(objective, "sentence_pairs", None) is not None:
            others.append(name)
        elif isinstance(objective, MaskedLM | CausalLM):
            auto = "AutoModelForCausalLM" if module.causal else "AutoModelForMaskedLM"
            stock = _add_language_head(stock, objective.head, auto)
    if others:
        stock.left_out.append(f"It has no heads of these objectives: {', '.join(others)}.")
    return stock


def _add_language_head(stock: StockModel, head: LanguageModelHead, auto: str) -> StockModel:
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
    config.tie_word_embeddings = torch.equal(own.float().cpu(), _embedding(stock.model).weight)
    model = getattr(transformers, auto).from_config(config, dtype=torch.float32).eval()
    dense, norm = (model.get_submodule(name) for name in places[:2])
    activation = getattr(config, "classifier_activation", None) or config.hidden_act
    if (dense.weight.shape, norm.eps, activation) != (head.dense.weight.shape, head.norm.eps, "gelu"):
        stock.left_out.append(
            f"It has no language modelling head: that of {type(model).__name__} has the activation {activation} and the "
            f"epsilon {norm.eps} in its norm, and ours gelu and {head.norm.eps}."
        )
        return stock
    with torch.no_grad():
        for layer, mine in ((dense, head.dense), (norm, head.norm)):
            layer.weight.copy_(mine.weight)
            if layer.bias is not None:
                layer.bias.zero_()
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
def _add_parts(model: "PreTrainedModel", parts: Tensor) -> bool:
    """Add the embeddings of the two parts of a pair (2, E) to the model's own, and say whether it has a place for both.

    Without one, the embedding of the first part is added to those of the tokens.
    """
    kinds = next((m for name, m in model.named_modules() if name.endswith("token_type_embeddings")), None)
    if isinstance(kinds, nn.Embedding) and kinds.num_embeddings > 1:
        kinds.weight[:2] = kinds.weight[0] + parts.float()  # in training, all tokens were of type 0
        return True
    _embedding(model).weight += parts[0].float()
    return False


def _embedding(model: "PreTrainedModel") -> nn.Embedding:
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding


# ------------------------------------------------------------------------------------------------------------ the details


def _set_special_tokens(model: "PreTrainedModel", module: Module) -> None:
    """Put the ids of special tokens into the configuration; a published model keeps those that it has."""
    tokenizer = module.tokenizer
    first = tokenizer.prefix[0] if tokenizer.prefix else None
    ids = {"pad": tokenizer.pad_id, "bos": first, "cls": first, "eos": tokenizer.end_id, "sep": tokenizer.end_id}
    ours = isinstance(module.encoder, Transformer)
    for role, number in ids.items():
        if ours or getattr(model.config, f"{role}_token_id", None) is None:
            setattr(model.config, f"{role}_token_id", number)
    if model.can_generate() and model.generation_config is not None:
        for role in ("pad", "bos", "eos"):
            setattr(model.generation_config, f"{role}_token_id", ids[role])


@torch.no_grad()
def _check(stock: StockModel, module: Module) -> None:
    """Compare the stock model with ours on two rows of random tokens.

    Raises:
        UserError: they differ, so that nothing should be exported.
    """
    length = min(12, module.encoder.max_length)
    tokens = torch.tensor(sorted({*range(module.vocab_size)} - {*module.tokenizer.special_ids}))
    ids = tokens[torch.randint(len(tokens), (2, length), generator=torch.Generator().manual_seed(0))]
    segments = torch.ones_like(ids)
    segments[1, (length + 1) // 2 :] = 0
    ids = torch.where(segments > 0, ids, module.tokenizer.pad_id)
    batch = TokenBatch(ids, segments, packed=False).to(module.device)
    text = segments > 0
    pairs = [(stock.model.base_model(input_ids=ids, attention_mask=segments).last_hidden_state, stock.states(batch))]
    if stock.logits is not None:
        pairs.append((stock.model(input_ids=ids, attention_mask=segments).logits, stock.logits(batch)))
    for theirs, ours in pairs:
        rows = text if theirs.ndim == 3 else slice(None)
        if not torch.allclose(theirs[rows], ours.float().cpu()[rows], rtol=TOLERANCE, atol=TOLERANCE):
            raise UserError(
                f"the {type(stock.model).__name__} made from this {type(module).__name__} gives other numbers than it: "
                "please report this, and export it with --format onnx"
            )
