"""Samples of what the model writes or predicts, at every validation."""

import json
from itertools import islice
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from ssl_nlp import durable
from ssl_nlp import lightning_internals as internals
from ssl_nlp.corpora import Document
from ssl_nlp.data import TextDataModule
from ssl_nlp.training.texts import TextModule


class Samples(Callback):
    """Adds the samples of the model for a few validation documents to `samples.jsonl`, and to W&B as a table.

    Lines of this step or a later one were left by a run that was killed and has resumed from an earlier step: they are
    replaced.

    Args:
        directory: the folder of `samples.jsonl`.
        texts: the number of validation documents to use.
    """

    def __init__(self, directory: Path, texts: int = 4) -> None:
        self.path = directory / "samples.jsonl"
        self.texts = texts
        self._documents: list[Document] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = internals.datamodule_of(trainer)
        assert isinstance(pl_module, TextModule)
        if trainer.state.fn != "fit" or not trainer.is_global_zero or pl_module.sharded:
            return
        if not isinstance(data, TextDataModule):
            return
        if self._documents is None:
            self._documents = list(islice(data.corpus.documents("valid"), self.texts))
        rows = pl_module.sample_documents(self._documents)
        if not rows:
            return
        new = [json.dumps({"step": trainer.global_step} | row, ensure_ascii=False) for row in rows]
        durable.write_text(self.path, "".join(f"{line}\n" for line in [*self._before(trainer.global_step), *new]))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("samples", columns=list(rows[0]), data=[list(row.values()) for row in rows])

    def _before(self, step: int) -> list[str]:
        """The lines of the file from earlier steps."""
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else []
        return [line for line in lines if line and json.loads(line)["step"] < step]
