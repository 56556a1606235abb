"""A method or task as a stock model of `transformers`: the same states and, where a stock class has its head, logits."""

from functools import singledispatch
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.export.checking import check, joined
from ssl_nlp.export.language_heads import add_language_head, add_parts
from ssl_nlp.export.stock import StockModel, base_model
from ssl_nlp.export.task_heads import Problem, add_text_head, add_token_head
from ssl_nlp.methods import CausalLM, CausalMaskedLM, MaskedDiffusion, MaskedLM, MultiObjective, ReplacedToken
from ssl_nlp.methods.language_models.denoising import Denoising
from ssl_nlp.modules.parts import added_by_parts
from ssl_nlp.tasks import Classification, QuestionAnswering, Regression, Tagging, Task
from ssl_nlp.tasks.whole_texts import WholeTexts
from ssl_nlp.training.texts import TextModule

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def stock_model(module: TextModule) -> StockModel:
    """The stock model with the weights of a method or task, which is compared with it on random tokens.

    Raises:
        UserError: `transformers` has no class for its encoder.
    """
    stock = _with_head(module)
    set_special_tokens(stock.model, module)
    check(stock, module)
    return stock


def stock_encoder(module: TextModule) -> StockModel:
    """The stock model of a module's states, without a head.

    Raises:
        UserError: `transformers` has no class for its encoder.
    """
    stock = StockModel(base_model(module.encoder), module.states)
    stock.parts = bool(getattr(module, "pairs", False)) and module.encoder.part_embedding is not None
    parts = getattr(module, "part_embedding", None)
    if isinstance(parts, nn.Embedding):
        stock.parts = add_parts(stock.model, parts.weight)
        if not stock.parts:
            stock.left_out.append(
                f"{type(stock.model).__name__} has no embedding of the parts of a pair. That of the first part is in the "
                "token embeddings, so a single text has its exact states; the second text of a pair does not."
            )
    return stock


@singledispatch
def _with_head(module: TextModule) -> StockModel:
    return stock_encoder(module)


@_with_head.register
def _(module: CausalLM) -> StockModel:
    return add_language_head(stock_encoder(module), module.head, "AutoModelForCausalLM")


@_with_head.register
def _(module: CausalMaskedLM) -> StockModel:
    stock = stock_encoder(module)
    stock.left_out.append(
        "It has no language modelling head: no stock class predicts a masked token from the state of the token before it."
    )
    return stock


@_with_head.register
def _(module: MaskedLM) -> StockModel:
    stock = stock_encoder(module)
    if module.sentence_pairs is not None:
        stock.left_out.insert(0, "It has no head that tells whether the second text of a pair follows the first.")
    return add_language_head(stock, module.head, "AutoModelForMaskedLM")


@_with_head.register
def _(module: MaskedDiffusion) -> StockModel:
    stock = stock_encoder(module)
    stock.left_out.append(
        "It has no head that predicts hidden tokens: every stock class would give the mask itself a probability."
    )
    return stock


@_with_head.register
def _(module: ReplacedToken) -> StockModel:
    stock = stock_encoder(module)
    stock.left_out.append("It has neither the generator nor the head that tells whether a token was replaced.")
    return stock


@_with_head.register
def _(module: Denoising) -> StockModel:
    stock = stock_encoder(module)
    stock.left_out.append(
        "It is the encoder alone: the weights of the decoder fit no stock class, because T5ForConditionalGeneration and "
        "BartForConditionalGeneration have other positions than rotary ones."
    )
    return stock


@_with_head.register
def _(module: MultiObjective) -> StockModel:
    stock, others = stock_encoder(module), []
    for name, objective in module.objectives.items():
        fits = isinstance(objective, MaskedLM | CausalLM) and objective.causal == module.causal
        fits = fits and not isinstance(objective, CausalMaskedLM)
        if not fits or stock.logits is not None or getattr(objective, "sentence_pairs", None) is not None:
            others.append(name)
        elif isinstance(objective, MaskedLM | CausalLM):
            auto = "AutoModelForCausalLM" if module.causal else "AutoModelForMaskedLM"
            stock = add_language_head(stock, objective.head, auto)
    if others:
        stock.left_out.append(f"It has no heads of these objectives: {', '.join(others)}.")
    return stock


@_with_head.register
def _(module: Task) -> StockModel:
    ways = "export it with --format onnx, or its encoder" if isinstance(module, WholeTexts) else "export its encoder"
    raise UserError(
        f"transformers has no class for {type(module).__name__}: {ways} alone with --format sentence-transformers"
    )


@_with_head.register
def _(module: Classification) -> StockModel:
    assert module.classes is not None
    kind: Problem = "multi_label_classification" if module.several else "single_label_classification"
    return _text_head(module, module.head, module.classes, kind)


@_with_head.register
def _(module: Regression) -> StockModel:
    stock = _text_head(module, module.head, ["score"], "regression")
    if module.range is not None:
        low, high = module.range
        stock.left_out.append(
            f"A score is {low:g} + {high - low:g} * sigmoid(logit), which you have to apply yourself: the stock class "
            "returns the raw logit."
        )
    return stock


def _text_head(module: WholeTexts, head: nn.Module, classes: list[str], kind: Problem) -> StockModel:
    def logits(batch: TokenBatch) -> Tensor:
        found: Tensor = head(module.pooled(batch))
        return found

    return add_text_head(stock_encoder(module), head, module.pooling, classes, kind, logits)


@_with_head.register
def _(module: Tagging) -> StockModel:
    assert module.classes is not None
    return add_token_head(
        stock_encoder(module), module.head, "AutoModelForTokenClassification", module.classes, module.outputs
    )


@_with_head.register
def _(module: QuestionAnswering) -> StockModel:
    if module.none is not None:
        raise UserError(
            "this QuestionAnswering finds on the last state that there is no answer, because its encoder is causal, and "
            "stock classes find it on the first: export it with --format onnx, or its encoder alone with --format "
            "sentence-transformers"
        )

    def logits(batch: TokenBatch) -> Tensor:
        rows, parts = joined(batch, module.tokenizer)
        found: Tensor = module.head(module.encoder(rows, added=added_by_parts(parts, module.encoder)))
        return found

    stock = stock_encoder(module)
    return add_token_head(stock, module.head, "AutoModelForQuestionAnswering", ["start", "end"], logits)


def set_special_tokens(model: "PreTrainedModel", module: TextModule) -> None:
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
