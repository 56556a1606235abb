"""ARAE in two processes trains like one process that has all sentences, each player included."""

from unittest.mock import patch

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import ARAE, Optimization
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(24), random_texts(4, seed=1))


class Drawn(ARAE):
    """The same draws for each sentence, so that it does not matter which process has it."""

    def from_prior(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        return self.codes(torch.linspace(-1, 1, self.noise_dim).expand(number, -1))

    def loss(self, batch):
        with patch.object(torch, "rand", lambda *size, **settings: torch.full(size, 0.5, **settings)):
            return super().loss(batch)  # whose gradient penalties are measured halfway between real and made codes


@pytest.mark.slow
def test_two_processes_equal_one_that_has_all():
    """Over six steps, in which the autoencoder acts in each second and the generator in each third."""

    def fit(devices: int, batch_size: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        method = Drawn(
            Transformer(size=None, dim=16, layers=1, heads=2, max_length=64), latent_dim=8, noise=0.0, decoder_layers=1,
            autoencoder_every=2, generator_every=3,
            optimization=Optimization("torch.optim.SGD", 0.1, weight_decay=0.0, schedule="constant", warmup=0),
        )  # fmt: skip
        module = TextDataModule(
            CORPUS, TokenizerSettings(vocab_size=300), "sentence", length=40, batch_size=batch_size, seed=0
        )
        method.connect(module.tokenizer)
        Trainer(
            accelerator="cpu", devices=devices, strategy="ddp_spawn" if devices > 1 else "auto", max_steps=6, logger=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, enable_checkpointing=False,
        ).fit(method, module)  # fmt: skip
        return {name: value.clone() for name, value in method.state_dict().items()}

    one, two = fit(1, 8), fit(2, 4)
    assert all(torch.allclose(value, two[name], atol=1e-6) for name, value in one.items())
