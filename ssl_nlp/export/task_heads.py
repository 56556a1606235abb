"""The heads of tasks in the stock classes of `transformers`."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.errors import UserError
from ssl_nlp.export.stock import StockModel, fill
from ssl_nlp.modules.heads import ClassifierHead, LinearHead, TanhHead
from ssl_nlp.modules.pooling import Pooling

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
MODERNBERT = {"dense": "head.dense", "norm": "head.norm", "classifier": "classifier"}
ROBERTA = {"dense": "classifier.dense", "classifier": "classifier.out_proj"}
TEXT_HEADS: dict[type[nn.Module], dict[str, tuple[dict[str, str], dict[Pooling, str]]]] = {
    # By our head and model_type: the places of its layers ("": the only linear one), and the poolings that it may have,
    # with their names in the configuration.
    ClassifierHead: {
        "modernbert": (MODERNBERT, {"mean": "mean", "first": "cls"}),
        "modernbert-decoder": (MODERNBERT, {"last": ""}),
    },
    TanhHead: {
        "bert": ({"dense": "bert.pooler.dense", "classifier": "classifier"}, {"first": ""}),
        "roberta": (ROBERTA, {"first": ""}),
        "xlm-roberta": (ROBERTA, {"first": ""}),
        "camembert": (ROBERTA, {"first": ""}),
        "mpnet": (ROBERTA, {"first": ""}),
    },
    LinearHead: {
        name: ({"classifier": ""}, {"last": ""})
        for name in ("gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3")
    },
}


def add_text_head(
    stock: StockModel,
    head: nn.Module,
    pooling: Pooling,
    classes: Sequence[str],
    kind: Problem,
    logits: Callable[[TokenBatch], Tensor],
) -> StockModel:
    """The stock model with a head for `AutoModelForSequenceClassification`.

    Args:
        stock: without a head.
        head: ours.
        pooling: that it reads.
        classes: names of its C outputs.
        kind: `problem_type` of the configuration.
        logits: ours, (B, C).

    Raises:
        UserError: the stock class has another head, or another pooling.
    """
    config = stock.model.config
    places, poolings = TEXT_HEADS.get(type(head), {}).get(config.model_type, ({}, {}))
    if pooling not in poolings:
        raise UserError(
            f"AutoModelForSequenceClassification of {config.model_type} has no head like this {type(head).__name__} on the "
            f"{pooling} state: export it with --format onnx"
        )
    config.problem_type = kind
    if poolings[pooling]:
        config.classifier_pooling = poolings[pooling]
    return _with_head(stock, "AutoModelForSequenceClassification", head, places, classes, logits)


def add_token_head(
    stock: StockModel, head: nn.Module, auto: str, classes: Sequence[str], logits: Callable[[TokenBatch], Tensor]
) -> StockModel:
    """The stock model with a head on each state, for `AutoModelForTokenClassification` or `...ForQuestionAnswering`.

    Args:
        stock: without a head.
        head: ours.
        auto: the name of the class.
        classes: names of its C outputs.
        logits: ours, (B, T, C).

    Raises:
        UserError: the stock class has another head, or there is none.
    """
    places = MODERNBERT if isinstance(head, ClassifierHead) else {"classifier": ""}
    return _with_head(stock, auto, head, places, classes, logits)


def _with_head(
    stock: StockModel,
    auto: str,
    head: nn.Module,
    places: dict[str, str],
    classes: Sequence[str],
    logits: Callable[[TokenBatch], Tensor],
) -> StockModel:
    import transformers

    config = stock.model.config
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: number for number, name in enumerate(classes)}
    if config.model_type == "modernbert-decoder":
        config.classifier_bias = True  # or its last layer has none
    if isinstance(drop := getattr(head, "drop", None), nn.Dropout) and hasattr(config, "classifier_dropout"):
        config.classifier_dropout = drop.p
    try:
        model = getattr(transformers, auto).from_config(config, dtype=torch.float32).eval()
    except ValueError as error:  # it has no such class
        raise UserError(f"{auto} knows no {config.model_type}: export it with --format onnx") from error
    pooler = {name: weight for name, weight in model.base_model.state_dict().items() if "pooler" in name}
    model.base_model.load_state_dict(pooler | stock.model.state_dict())
    linear = [name for name, part in model.named_children() if isinstance(part, nn.Linear)]  # the only one of its head
    for name, place in places.items():
        fill(model.get_submodule(place or linear[-1]), getattr(head, name))
    stock.model, stock.logits = model, logits
    stock.loads_as.append(auto)
    return stock
