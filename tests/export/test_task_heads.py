"""Fine-tuned tasks as stock models: the same logits and the names of the classes."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import load_pretrained, train
from ssl_nlp.encoders import Encoder, PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.export.transformers_format import write
from ssl_nlp.tasks import Classification
from tests.corpus import random_texts
from tests.export.conftest import OLD

SIZES = {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 40, "pad_token_id": 0, "vocab_size": 20,
}  # fmt: skip
PUBLISHED = {
    "bert": {},
    "roberta": {"layer_norm_eps": 1e-5},
    "modernbert": {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 8},
    "gpt2": {"bos_token_id": 2, "eos_token_id": 3},
}
TEXTS = ["the dog sees a cat", "a bird", "", "a bird hears the red house and the cat"]


def published(kind: str, folder: Path) -> tuple[PretrainedEncoder, Tokenizer]:
    """A tiny model of some kind with random weights, and the tokenizer of the old BERT."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, **PUBLISHED[kind])
    AutoModel.from_config(config).save_pretrained(folder)
    return PretrainedEncoder(str(folder)), load_pretrained(str(OLD / "bert"))


def ours() -> tuple[Transformer, Tokenizer]:
    texts = random_texts(50)
    tokenizer = Tokenizer(train(TokenizerSettings("char"), lambda: iter(texts)))
    return Transformer(None, 8, 1, 2, max_length=40), tokenizer


def task_on(encoder: Encoder, tokenizer: Tokenizer, causal: bool = False, **settings) -> Classification:
    task = Classification(encoder, classes=["bad", "good", "so so"], **settings)
    task.causal = causal
    torch.manual_seed(1)
    task.connect(tokenizer)
    with torch.no_grad():  # so that every parameter matters
        for parameter in task.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return task.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ours", "ours causal", *PUBLISHED])
def test_a_classifier_keeps_its_logits_and_its_classes(kind, tmp_path):
    encoder, tokenizer = ours() if "ours" in kind else published(kind, tmp_path / "published")
    task = task_on(encoder, tokenizer, causal=kind in ("ours causal", "gpt2"))
    (tmp_path / "out").mkdir()
    contents = write(task, tmp_path / "out", task.pooling)
    assert contents.task == "text-classification"
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert model.config.id2label == {0: "bad", 1: "good", 2: "so so"}
    inputs = AutoTokenizer.from_pretrained(tmp_path / "out")(TEXTS, padding=True, return_tensors="pt")
    vectors = task.embed(TEXTS)
    torch.testing.assert_close(model(**inputs).logits, task.head(vectors), rtol=1e-4, atol=1e-4)


def test_a_head_that_no_stock_class_has_is_refused_in_one_line(tmp_path):
    task = task_on(*published("bert", tmp_path / "published"))
    task.pooling = "mean"
    with pytest.raises(
        UserError, match="of bert has no head like this TanhHead on the mean state: export it with --for"
    ):
        write(task, tmp_path, "mean")
