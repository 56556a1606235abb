"""The heads of tasks in the stock classes of `transformers`."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.errors import UserError
from ssl_nlp.export.stock import StockModel, fill
from ssl_nlp.modules.heads import ClassifierHead, LinearHead, TanhHead
from ssl_nlp.modules.pooling import Pooling

MODERNBERT = {"dense": "head.dense", "norm": "head.norm", "classifier": "classifier"}
ROBERTA = {"dense": "classifier.dense", "classifier": "classifier.out_proj"}
TEXT_HEADS: dict[type[nn.Module], dict[str, tuple[dict[str, str], dict[Pooling, str]]]] = {
    # by our head and model_type: the places of its layers, and the poolings with their names in the configuration
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
        name: ({"classifier": "score"}, {"last": ""})
        for name in ("gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3")
    },
}


def add_text_head(
    stock: StockModel, head: nn.Module, pooling: Pooling, classes: Sequence[str], logits: Callable[[TokenBatch], Tensor]
) -> StockModel:
    """The stock model with a head for `AutoModelForSequenceClassification`.

    Args:
        stock: without a head.
        head: ours.
        pooling: that it reads.
        classes: names of its C outputs.
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
    if poolings[pooling]:
        config.classifier_pooling = poolings[pooling]
    return _with_head(stock, "AutoModelForSequenceClassification", head, places, classes, logits)


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
    model = getattr(transformers, auto).from_config(config, dtype=torch.float32).eval()
    pooler = {name: weight for name, weight in model.base_model.state_dict().items() if "pooler" in name}
    model.base_model.load_state_dict(pooler | stock.model.state_dict())
    for name, place in places.items():
        fill(model.get_submodule(place), getattr(head, name))
    stock.model, stock.logits = model, logits
    stock.loads_as.append(auto)
    return stock
