"""What the model writes, at every validation."""

import json
from itertools import islice
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from ssl_nlp.data import TextDataModule
from ssl_nlp.methods.base import Method

LONGEST = 200  # characters of a text that is shown


class Samples(Callback):
    """Appends what `Method.samples` makes of a few validation texts to `samples.jsonl`, and to W&B as a table.

    Args:
        directory: where `samples.jsonl` is.
        texts: how many validation documents are shown.
    """

    def __init__(self, directory: Path, texts: int = 4) -> None:
        self.path = directory / "samples.jsonl"
        self.texts = texts
        self._prompts: list[str] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, Method)
        if trainer.state.fn != "fit" or not trainer.is_global_zero or pl_module.sharded:
            return
        if not isinstance(data, TextDataModule):
            return
        if self._prompts is None:
            documents = islice(data.corpus.documents("valid"), self.texts)
            self._prompts = [" ".join(document.text.split())[:LONGEST] for document in documents]
        rows = pl_module.samples(self._prompts)
        if not rows:
            return
        with self.path.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps({"step": trainer.global_step} | row, ensure_ascii=False) + "\n")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("samples", columns=list(rows[0]), data=[list(row.values()) for row in rows])
