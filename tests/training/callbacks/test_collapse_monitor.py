from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import VAE, CausalLM, Optimization
from ssl_nlp.objectives.geometry import alignment, effective_rank, embedding_spread, uniformity
from ssl_nlp.training.callbacks import CollapseMonitor
from ssl_nlp.training.callbacks.collapse_monitor import _with_gaps, validation_sentences
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(60), random_texts(30, seed=1))


def fit(method, tmp_path, *callbacks):
    data = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit="sentence", length=64, batch_size=4, seed=0)
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=2, val_check_interval=1, limit_val_batches=1, num_sanity_val_steps=0,
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(method, data)
    return trainer


def small(kind=CausalLM):
    torch.manual_seed(0)
    return kind(Transformer(size=None, dim=16, layers=2, heads=2, max_length=64, dropout=0.1))


def test_the_numbers_are_those_of_the_sentences_embeddings(tmp_path, capsys):
    method = small()
    logged = fit(method, tmp_path, CollapseMonitor(sentences=20)).callback_metrics
    embeddings = method.embed(validation_sentences(CORPUS, 20))
    assert float(logged["val/embedding_spread"]) == pytest.approx(float(embedding_spread(embeddings)), rel=1e-4)
    assert float(logged["val/effective_rank"]) == pytest.approx(float(effective_rank(embeddings)), rel=1e-4)
    assert float(logged["val/uniformity"]) == pytest.approx(float(uniformity(embeddings)), rel=1e-4)
    gaps = method.embed([_with_gaps(text) for text in validation_sentences(CORPUS, 20)])
    assert float(logged["val/alignment"]) == pytest.approx(float(alignment(embeddings, gaps)), rel=1e-4)
    assert 0 < float(logged["val/alignment"]) < 4
    assert "collapsed" not in capsys.readouterr().err


class Collapsed(CausalLM):
    """Its embeddings differ by rounding."""

    def embed_batch(self, batch):
        return 1 + 1e-6 * super().embed_batch(batch)


def test_a_collapse_is_said_once_and_in_words(tmp_path, capsys):
    fit(small(Collapsed), tmp_path, CollapseMonitor())
    error = capsys.readouterr().err
    assert error.count("the embeddings have collapsed") == 1
    assert "30 different sentences" in error


class Line(CausalLM):
    """Its embeddings lie on a line through the origin, to both sides of it."""

    def embed_batch(self, batch):
        side = batch.input_ids[:, 1:2] % 2 * 2 - 1
        return side * super().embed_batch(batch).norm(dim=1, keepdim=True) * torch.ones(16)


def test_embeddings_on_a_line_have_collapsed_however_far_apart_they_are(tmp_path, capsys):
    logged = fit(small(Line), tmp_path, CollapseMonitor()).callback_metrics
    assert float(logged["val/embedding_spread"]) > 0.5
    assert "effective rank 1.0 of 16" in capsys.readouterr().err
    fit(small(), tmp_path, CollapseMonitor(sentences=2))  # any two are on a line
    assert "collapsed" not in capsys.readouterr().err


def test_a_vae_has_collapsed_when_its_posteriors_are_the_prior(tmp_path, capsys):
    """Its means may point everywhere all the same."""
    method = small(partial(VAE, optimization=Optimization(learning_rate=1e-9)))
    fit(method, tmp_path)
    torch.nn.init.normal_(method.to_posterior.weight, std=1e-3)
    center = method.embed(validation_sentences(CORPUS, 30)).mean(dim=0)
    method.to_posterior.bias.data[:16] -= center
    logged = fit(method, tmp_path, CollapseMonitor()).callback_metrics
    assert float(logged["val/embedding_spread"]) > 0.3
    assert float(logged["val/effective_rank"]) > 3
    error = capsys.readouterr().err
    assert "the posterior is the prior" in error
    assert "free bits" in error
    torch.nn.init.normal_(method.to_posterior.weight)
    fit(method, tmp_path, CollapseMonitor())
    assert "collapsed" not in capsys.readouterr().err


class Diverged(CausalLM):
    def embed_batch(self, batch):
        return super().embed_batch(batch) * torch.nan


def test_what_is_not_finite_is_said_and_stops_nothing(tmp_path, capsys):
    logged = fit(small(Diverged), tmp_path, CollapseMonitor()).callback_metrics
    assert capsys.readouterr().err.count("some embeddings are not finite") == 1
    assert "val/loss" in logged


def test_sentences_that_occur_often_leave_room_for_others():
    often = ListCorpus([], ["the same old sentence."] * 300 + random_texts(60, seed=1))
    found = validation_sentences(often, 20)
    assert len(found) == len(set(found)) == 20


def test_chinese_sentences_have_words_that_can_be_missing():
    sentences = ["今天天气很好。", "我们去公园散步。", "他用手机看书。", "好。"]
    found = validation_sentences(ListCorpus([], ["".join(sentences)]), 20)
    assert found == sentences[:3], "one word is too few"
    assert _with_gaps("好。") == "好。"
    texts = [f"{'很' * i}好。我们去公园散步，他用手机看书。" for i in range(20)]
    gaps = [_with_gaps(text) for text in texts]
    assert any(len(gap) < len(text) for gap, text in zip(gaps, texts, strict=True))
    assert all(set(gap) <= set(text) and len(gap) > 4 for gap, text in zip(gaps, texts, strict=True))


def test_training_is_the_same_with_and_without_the_monitor(tmp_path):
    watched, alone = small(), small()
    fit(watched, tmp_path, CollapseMonitor())
    fit(alone, tmp_path)
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)
