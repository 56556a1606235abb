"""Fine-tuned tasks as stock models: the same logits and the names of the classes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from ssl_nlp.data import TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import load_pretrained, train
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.encoders.adapters import LoRA
from ssl_nlp.errors import UserError
from ssl_nlp.export.transformers_format import write
from ssl_nlp.methods import MaskedLM
from ssl_nlp.tasks import Classification, QuestionAnswering, Regression, Tagging, Task
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


def connected(task: Task, tokenizer: Tokenizer, causal: bool = False) -> Any:
    """The task with random weights that all matter."""
    task.causal = causal
    torch.manual_seed(1)
    task.connect(tokenizer)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return task.eval()


def exported(task: Task, folder: Path) -> Any:
    """What the stock model of a task computes for texts: its logits, and its configuration."""
    folder.mkdir()
    auto = {
        "text-classification": AutoModelForSequenceClassification,
        "token-classification": AutoModelForTokenClassification,
    }
    contents = write(task, folder, task.pooling)
    run_lines(contents.code, folder)
    model = auto[contents.task].from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def logits(*texts: list[str]) -> torch.Tensor:
        return model(**tokenizer(*texts, padding=True, return_tensors="pt")).logits

    return logits, model.config, contents


def run_lines(code: str, folder: Path) -> None:
    """Run the first lines of Python on the card."""
    exec(code.replace("{path}", str(folder)).partition("```")[0], {})


def batch_of(task: Task, texts: list[str], pairs: list[str] | None = None) -> TokenBatch:
    batch = pad_rows([ids for ids, _ in task.tokenizer.encode(texts)], None, task.tokenizer, 40)
    return batch if pairs is None else replace(batch, pair=batch_of(task, pairs))


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ours", "ours causal", *PUBLISHED])
def test_a_classifier_keeps_its_logits_and_its_classes(kind, tmp_path):
    encoder, tokenizer = ours() if "ours" in kind else published(kind, tmp_path / "published")
    task = Classification(encoder, classes=["bad", "good", "so so"])
    task = connected(task, tokenizer, causal=kind in ("ours causal", "gpt2"))
    logits, config, _ = exported(task, tmp_path / "out")
    assert config.id2label == {0: "bad", 1: "good", 2: "so so"}
    assert config.problem_type == "single_label_classification"
    close(logits(TEXTS), task.outputs(batch_of(task, TEXTS)))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ours", *PUBLISHED])
def test_a_tagger_keeps_its_logits_and_its_tags(kind, tmp_path):
    encoder, tokenizer = ours() if kind == "ours" else published(kind, tmp_path / "published")
    task = connected(Tagging(encoder, classes=["O", "B-LOC"]), tokenizer, causal=kind == "gpt2")
    logits, config, _ = exported(task, tmp_path / "out")
    assert config.label2id == {"O": 0, "B-LOC": 1}
    batch = batch_of(task, TEXTS)
    close(logits(TEXTS)[batch.is_text], task.outputs(batch)[batch.is_text])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ours", "bert", "roberta"])
def test_pairs_are_read_as_in_training(kind, tmp_path):
    encoder, tokenizer = ours() if kind == "ours" else published(kind, tmp_path / "published")
    task = connected(Classification(encoder, classes=["no", "yes"], pairs=True), tokenizer)
    logits, _, contents = exported(task, tmp_path / "out")
    assert '{"text": "A text.", "text_pair": "Another one."}' in contents.code
    first, second = ["the dog", "a bird", "", "a"], ["a cat", "a red house", "the dog", ""]
    close(logits(first, second), task.outputs(batch_of(task, first, second)))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ours", "bert"])
def test_answers_have_the_logits_of_the_task(kind, tmp_path):
    encoder, tokenizer = ours() if kind == "ours" else published(kind, tmp_path / "published")
    task = connected(QuestionAnswering(encoder), tokenizer)
    (tmp_path / "out").mkdir()
    contents = write(task, tmp_path / "out", "mean")
    assert contents.task == "question-answering"
    run_lines(contents.code, tmp_path / "out")
    model = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out").eval()
    inputs = AutoTokenizer.from_pretrained(tmp_path / "out")("a bird", "the dog sees a cat", return_tensors="pt")
    found = model(**inputs)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    first = len(tokenizer.encode(["a bird"])[0][0]) + (0 if tokenizer.suffix else len(tokenizer.prefix))
    window = torch.tensor([[first, ids.shape[1] - len(tokenizer.suffix), 0]])
    start, end = task.outputs(TokenBatch(ids, mask, packed=False, windows=window))[0]
    place = slice(first, int(window[0, 1]))
    close(torch.cat([found.start_logits[0, place], found.end_logits[0, place]]), torch.cat([start[place], end[place]]))


@torch.no_grad()
@pytest.mark.parametrize(("kind", "fits"), [("roberta", True), ("modernbert", True), ("bert", False)])
def test_a_language_model_keeps_a_head_of_our_form_where_the_stock_one_is_like_it(kind, fits, tmp_path):
    _, tokenizer = published(kind, tmp_path / "published")
    encoder = PretrainedEncoder(str(tmp_path / "published"), language_head="own")
    method = connected(MaskedLM(encoder), tokenizer)
    (tmp_path / "out").mkdir()
    contents = write(method, tmp_path / "out", "mean")
    assert (contents.task == "fill-mask") == fits
    if not fits:
        assert "a norm with the epsilon 1e-12" in contents.notes[0]
        return
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    batch = batch_of(method, TEXTS)
    theirs = model(input_ids=batch.input_ids, attention_mask=batch.segment_ids).logits
    close(theirs[batch.is_text], method.head(method.states(batch))[batch.is_text])


def test_pairs_are_framed_as_they_were_in_training(tmp_path):
    """RoBERTa's own tokenizer puts two separators between two texts, and ours one."""
    encoder, tokenizer = published("modernbert", tmp_path / "published")  # without token types, as RoBERTa
    roles = json.loads(tokenizer.serialize())
    backend = tokenizers.Tokenizer.from_str(roles["tokenizer"])
    frame = [(backend.id_to_token(number), number) for number in (*tokenizer.prefix, *tokenizer.suffix)]
    first, last = (token for token, _ in frame)
    pair = f"{first} $A {last} {last} $B {last}"
    backend.post_processor = TemplateProcessing(single=f"{first} $A {last}", pair=pair, special_tokens=frame)
    double = Tokenizer(json.dumps(roles | {"tokenizer": backend.to_str()}))
    (tmp_path / "out").mkdir()
    write(connected(QuestionAnswering(encoder), double), tmp_path / "out", "mean")
    found = AutoTokenizer.from_pretrained(tmp_path / "out")("the dog", "a cat")["input_ids"]
    one, other = (ids for ids, _ in tokenizer.encode(["the dog", "a cat"]))
    assert found == one + other[1:]


@torch.no_grad()
def test_scores_and_several_classes_are_exported_as_such(tmp_path):
    encoder, tokenizer = ours()
    task = connected(Regression(encoder, range=(0, 5)), tokenizer)
    logits, config, contents = exported(task, tmp_path / "scores")
    assert config.problem_type == "regression"
    assert contents.notes == [
        "A score is 0 + 5 * sigmoid(logit), which you have to apply yourself: the stock class returns the raw logit."
    ]
    close(5 * logits(TEXTS).sigmoid()[:, 0], task.outputs(batch_of(task, TEXTS)))
    task = connected(Classification(ours()[0], classes=["a", "b"], several=True), tokenizer)
    assert exported(task, tmp_path / "several")[1].problem_type == "multi_label_classification"


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ours", "bert"])
def test_an_adapter_is_merged(kind, tmp_path):
    encoder, tokenizer = ours() if kind == "ours" else published(kind, tmp_path / "published")
    encoder.adapter = LoRA(rank=2)
    task = connected(Classification(encoder, classes=["a", "b"]), tokenizer)
    logits, _, _ = exported(task, tmp_path / "out")
    close(logits(TEXTS), task.outputs(batch_of(task, TEXTS)))


def test_what_no_stock_class_has_is_refused_in_one_line(tmp_path):
    bert = connected(
        Classification(published("bert", tmp_path / "published")[0], classes=["a", "b"], pooling="mean"),
        load_pretrained(str(OLD / "bert")),
    )
    with pytest.raises(
        UserError, match="of bert has no head like this TanhHead on the mean state: export it with --for"
    ):
        write(bert, tmp_path, "mean")
    tokenizer = ours()[1]
    tagger = connected(Tagging(ours()[0], classes=["a", "b"]), tokenizer, causal=True)
    with pytest.raises(UserError, match="AutoModelForTokenClassification knows no modernbert-decoder"):
        write(tagger, tmp_path, "mean")
