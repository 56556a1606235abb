"""Smooth inverse frequency beside the algorithm of the paper in NumPy, from a training to its checkpoint and on."""

from collections import Counter

import numpy as np
import pytest
import torch

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import BagOfWords, Trained, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Method, SimCLR
from ssl_nlp.training import Optimization
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import run
from tests.methods.test_every_method import trainer

A = 0.05  # so large that weights differ in so small a text
TRAIN = [text.replace(".", "").replace(",", "") + "." for text in random_texts(60, longest=12)]
CORPUS = ListCorpus(TRAIN)
NEW = ["the dog sees a cat", "a bird hears the small red house", "the the the", ""]


def data(unit: str, length: int) -> TextDataModule:
    return TextDataModule(CORPUS, TokenizerSettings("word", 300), unit, length=length, batch_size=8, seed=0)


def fitted(tmp_path, sif: float | None = A) -> Method:
    method = SimCLR(BagOfWords(dim=12, sif=sif), optimization=Optimization(learning_rate=0.05, warmup=0))
    fit = trainer(tmp_path, 5, limit_val_batches=0, enable_checkpointing=False)
    fit.fit(method, data("text", 40))
    fit.save_checkpoint(tmp_path / "a.ckpt")
    return method


def algorithm_1(method: Method, texts: list[str]) -> np.ndarray:
    """The embeddings of texts, with u from TRAIN."""
    vectors = method.encoder.embedding.weight.detach().double().numpy()
    tokenized = {text: method.tokenizer.encode([text])[0][0][1:] for text in [*TRAIN, *texts]}
    counts = Counter(token for text in TRAIN for token in tokenized[text])
    total = sum(counts.values())

    def mean(text: str) -> np.ndarray:
        words = tokenized[text]
        return sum((A / (A + counts[w] / total) * vectors[w] for w in words), np.zeros(12)) / max(len(words), 1)

    u = np.linalg.svd(np.stack([mean(text) for text in TRAIN]))[2][0]
    return np.stack([mean(text) - u * (u @ mean(text)) for text in texts])


def test_embeddings_are_those_of_the_paper_with_the_component_of_the_training_text(tmp_path):
    method = fitted(tmp_path)
    expected = torch.from_numpy(algorithm_1(method, NEW)).float()
    assert expected[:2].norm(dim=1).min() > 0.01
    found = method.embed(NEW, pooling="sif")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, method.embed(NEW), atol=0.01)
    every = method.embed_all(NEW)
    assert list(every) == ["mean", "last", "first", "sif"]
    torch.testing.assert_close(every["sif"], found)
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    torch.testing.assert_close(loaded.embed(NEW, pooling="sif"), found)
    (tmp_path / "new.txt").write_text("\n".join(NEW) + "\n")
    files = ["--input", str(tmp_path / "new.txt"), "--output", str(tmp_path / "new.npy")]
    assert run("embed", "--checkpoint", str(tmp_path / "a.ckpt"), *files, "--pooling", "sif") == 0
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "new.npy")), found)
    carried = SimCLR(Trained(str(tmp_path / "a.ckpt")))
    carried.connect(method.tokenizer)
    torch.testing.assert_close(carried.embed(NEW, pooling="sif"), found)


def test_documents_that_share_rows_count_one_by_one(tmp_path):
    """The component is that of texts, whatever rows the training reads."""
    method = fitted(tmp_path)
    sif = method.encoder.sif
    assert sif is not None
    component = sif.component.clone()
    sif.component.zero_()
    method._data = data("block", 7)
    method._fit_sif()
    torch.testing.assert_close(sif.component.abs(), component.abs())


def test_a_loss_never_sees_it(tmp_path):
    """It would otherwise depend on when checkpoints are written."""
    with_it, without = fitted(tmp_path), fitted(tmp_path, sif=None)
    assert torch.equal(with_it.encoder.embedding.weight, without.encoder.embedding.weight)
    assert torch.equal(with_it.embed(NEW), without.embed(NEW))
    assert list(without.embed_all(NEW)) == ["mean", "last", "first"]


def test_encoders_without_it_and_constants_that_are_none_are_refused(tmp_path):
    method = SimCLR(Transformer(size=None, dim=16, layers=1, heads=2))
    method.connect(fitted(tmp_path).tokenizer)
    with pytest.raises(UserError, match="pooling 'sif' is unknown: use mean, last, first, or leave it out"):
        method.embed(NEW, pooling="sif")
    with pytest.raises(UserError, match="encoder: sif must be above 0, or null, not 0"):
        BagOfWords(sif=0)
