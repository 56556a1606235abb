"""A made corpus of any labels, and a trainer that is quick and quiet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from ssl_nlp.cache import fingerprint
from ssl_nlp.corpora import Corpus, Document
from ssl_nlp.corpora.base import Split
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.tasks import Task
from ssl_nlp.training import Optimization

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


class Made(Corpus):
    """Documents from a list; every fifth one is in valid and in test."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.all = list(documents)

    def documents(self, split: Split):
        return (d for i, d in enumerate(self.all) if (i % 5 == 0) == (split != "train"))

    def fingerprint(self) -> str:
        return fingerprint([[d.text, d.pair, repr(d.label)] for d in self.all])


def data_of(documents: Sequence[Document], **settings: Any) -> TextDataModule:
    given = {"tokenizer": TokenizerSettings(vocab_size=320), "unit": "text", "length": 48, "batch_size": 8}
    return TextDataModule(Made(documents), **given | settings)


def tiny(**settings: Any) -> Transformer:
    return Transformer(size=None, **{"dim": 16, "layers": 1, "heads": 2, "max_length": 48} | settings)


FAST = Optimization(learning_rate=0.01)


def fitted(task: Task, data: TextDataModule, folder: Path, steps: int) -> dict[str, float]:
    """Train a task, and give its scores on the valid split."""
    trainer = Trainer(default_root_dir=folder, accelerator="cpu", max_steps=steps, max_epochs=-1, **QUIET)
    trainer.fit(task, datamodule=data)
    [scores] = trainer.validate(task, datamodule=data, verbose=False)
    return scores
