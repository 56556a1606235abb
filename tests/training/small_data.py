"""Sixty short texts, and a trainer that leaves nothing behind: for trainings of a few steps."""

from typing import Any

from lightning.pytorch import Trainer

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.units import Unit
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(60))


def small_data(unit: Unit = "sentence", length: int = 64) -> TextDataModule:
    return TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit=unit, length=length, batch_size=4, seed=0)


def small_trainer(**settings: Any) -> Trainer:
    """A trainer on the CPU that validates, saves and shows nothing."""
    return Trainer(
        accelerator="cpu", limit_val_batches=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **settings,
    )  # fmt: skip
