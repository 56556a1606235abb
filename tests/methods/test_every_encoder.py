"""Encoders other than the Transformer under every method and task: they train, generate and load, or refuse in one line.

An encoder is added by a line of `ENCODERS`.
"""

from collections.abc import Callable

import pytest
import torch

from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import BagOfWords, Encoder, Recurrent, TextCNN, Trained
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM, Method, Optimization
from tests.end_to_end.cli import save_untrained
from tests.methods.test_every_method import BOTH, METHODS, data, made, trainer
from tests.tasks.cases import CASES

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "lstm": lambda: Recurrent("lstm", dim=16, embedding_dim=12, max_length=64, dropout=0.1),
    "gru": lambda: Recurrent("gru", dim=16, layers=1, max_length=64, tied=False),
    "bag_of_words": lambda: BagOfWords(dim=16, max_length=64, dropout=0.1, ngrams=[3, 5], buckets=50),
    "text_cnn": lambda: TextCNN(dim=18, embedding_dim=12, max_length=64, dropout=0.1),
}
TEXTS = ["the dog sees a cat", "a bird", ""]
TASKS = ("classification_fgm", "regression", "tagging", "relations", "question_answering", "sequence_to_sequence")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("encoder", ["lstm", "bag_of_words", "text_cnn"])
def test_it_trains_under_every_method_and_its_checkpoint_says_the_same(encoder, name, tmp_path):
    method = made(name, ENCODERS[encoder]())
    if encoder == "lstm" and name in BOTH:
        with pytest.raises(UserError, match="needs a causal encoder, and the weights of this lstm are those") as caught:
            trainer(tmp_path, 1, enable_checkpointing=False).fit(method, data(method))
        assert "\n" not in str(caught.value)
        return
    run = trainer(tmp_path, 2, limit_val_batches=1, val_check_interval=2, num_sanity_val_steps=0)
    run.fit(method, data(method))
    assert torch.isfinite(run.callback_metrics["val/loss"])
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    method.eval()
    assert torch.equal(loaded.embed(TEXTS), method.embed(TEXTS))
    assert loaded.samples(TEXTS) == method.samples(TEXTS)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_text_is_continued_with_the_most_probable_tokens(encoder):
    """The oracle reads each prompt, and what was written so far, anew and without a cache."""
    method = made("causal_lm", ENCODERS[encoder]())
    assert isinstance(method, CausalLM)
    torch.manual_seed(0)
    method.connect(data(method).tokenizer)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    method.eval()
    tokenizer, prompts = method.tokenizer, ["the dog sees", "a", "the small red house likes the big"]
    for prompt, continuation in zip(prompts, method.generate(prompts, 8, temperature=0), strict=True):
        [(ids, _)] = tokenizer.encode([prompt])
        new: list[int] = []
        while len(new) < 8 and tokenizer.end_id not in new:
            row = pad_rows([ids + new], None, tokenizer, 64)
            logits = method.head(method.encoder(row)[0, -1])
            logits[[i for i in tokenizer.special_ids if i != tokenizer.end_id]] = -torch.inf
            new.append(int(logits.argmax()))
        assert continuation == tokenizer.decode([token for token in new if token != tokenizer.end_id])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("encoder", ["lstm", "bag_of_words", "text_cnn"])
def test_a_trained_one_learns_every_task(encoder, task, tmp_path):
    source = made("simclr", ENCODERS[encoder]())
    save_untrained(source, data(source).tokenizer, tmp_path / "a.ckpt")
    case = CASES[task]
    model = case.task(
        Trained(str(tmp_path / "a.ckpt"), freeze="embeddings"), optimization=Optimization(layer_decay=0.9)
    )
    run = trainer(tmp_path, 2, limit_val_batches=1, val_check_interval=2, num_sanity_val_steps=0)
    run.fit(model, case.data())
    assert torch.isfinite(run.callback_metrics["val/loss"])
    assert torch.equal(model.encoder.embedding.weight, source.encoder.embedding.weight)


def test_the_run_of_one_direction_is_no_start_for_the_other(tmp_path):
    for name, other, needed in (("causal_lm", "simclr", "bidirectional"), ("simclr", "causal_lm", "causal")):
        source = made(name, ENCODERS["lstm"]())
        save_untrained(source, data(source).tokenizer, tmp_path / "a.ckpt")
        with pytest.raises(UserError, match=f"needs a {needed} encoder, and the weights of this lstm are") as caught:
            made(other, Trained(str(tmp_path / "a.ckpt"))).connect(source.tokenizer)
        assert "\n" not in str(caught.value)
