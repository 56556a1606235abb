"""GloVe against a loop over the entries of its matrix, and what every method promises."""

import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ssl_nlp.data import Cooccurrences, TextDataModule, TokenizerSettings
from ssl_nlp.encoders import BagOfWords
from ssl_nlp.errors import UserError
from ssl_nlp.methods import GloVe, MaskedLM, Optimization
from tests.corpus import ListCorpus, random_texts

TEXTS = random_texts(64, longest=12)
CORPUS = ListCorpus(TEXTS, valid=TEXTS[:48])
ADAGRAD = Optimization("torch.optim.Adagrad", 0.05, schedule="constant", warmup=0)


def data(unit="cooccurrence", batch_size: int = 40) -> TextDataModule:
    return TextDataModule(CORPUS, TokenizerSettings("word", vocab_size=320), unit, batch_size=batch_size, seed=0)


def trainer(folder: Path, steps: int, **arguments) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(default_root_dir=folder, accelerator="cpu", max_steps=steps, **(quiet | arguments))


def test_the_loss_is_a_sum_over_the_entries_of_the_matrix():
    method, module = GloVe(BagOfWords(dim=6), x_max=2, optimization=ADAGRAD), data()
    method.connect(module.tokenizer)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter)
    batch = next(iter(module.train_dataloader()))
    [term] = method.loss(batch).terms.values()

    def slow_loss(growth: float) -> float:
        """The counts that are estimated are those of a text that is so many times as large."""
        total = 0.0
        for (i, j), x in zip(batch.input_ids.tolist(), batch.counts.tolist(), strict=True):
            product = float(method.encoder.embedding.weight[i].detach() @ method.contexts.weight[j].detach())
            estimate = product + float((method.biases.weight[i] + method.context_biases.weight[j]).detach())
            total += min(1, (x / 2) ** 0.75) * (estimate - math.log(growth * x)) ** 2
        return total

    assert int(term.targets) == len(batch) == 40
    assert float(term.total) == pytest.approx(slow_loss(1), rel=1e-4)
    term.total.backward()
    assert all(parameter.grad.is_sparse for parameter in method.parameters())
    method.total.fill_(3 * batch.total)
    assert float(method.loss(batch).terms["entry"].total) == pytest.approx(slow_loss(3), rel=1e-4)


def test_products_learn_the_logarithms_of_the_counts(tmp_path):
    method, module = GloVe(BagOfWords(dim=20), x_max=1, optimization=ADAGRAD), data(Cooccurrences(3), 200)
    run = trainer(tmp_path, 300, enable_checkpointing=False)
    before = run.validate(method, module, verbose=False)
    run.fit(method, module)
    after = run.validate(method, module, verbose=False)
    assert after[0]["val/loss"] < before[0]["val/loss"]
    [batch] = [module.rows("train")[range(len(module.rows("train")))]]
    assert float(method.loss(batch).mean()) < 0.05 < before[0]["val/loss"]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_run_resumed_from_a_checkpoint_ends_with_the_same_bits(tmp_path):
    def fit(checkpoint: Path | None = None) -> GloVe:
        method = GloVe(BagOfWords(dim=6), optimization=ADAGRAD)
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=3)
        run = trainer(tmp_path, 6, accumulate_grad_batches=2, limit_val_batches=0, callbacks=[keep])
        run.fit(method, data(), ckpt_path=checkpoint, weights_only=True)
        return method

    whole = fit().state_dict()
    half = torch.load(tmp_path / "step=3.ckpt", weights_only=True)["state_dict"]
    resumed = fit(tmp_path / "step=3.ckpt").state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert not torch.equal(half["contexts.weight"], whole["contexts.weight"])
    assert GloVe.load_from_checkpoint(tmp_path / "step=3.ckpt").embed(["the dog"]).shape == (1, 6)


def test_rows_of_text_are_refused_as_are_entries_by_other_methods(tmp_path):
    with pytest.raises(UserError, match="GloVe reads cooccurrence rows, not block ones: set data.unit to cooccurrence"):
        trainer(tmp_path, 1, enable_checkpointing=False).fit(GloVe(BagOfWords(dim=6)), data("block"))
    with pytest.raises(UserError, match="reads block or sentence rows, not cooccurrence ones"):
        trainer(tmp_path, 1, enable_checkpointing=False).fit(MaskedLM(BagOfWords(dim=6)), data())
    with pytest.raises(UserError, match="x_max must be above 0"):
        GloVe(x_max=0)
