"""The file with the embeddings of `predict`."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from ssl_nlp import durable
from ssl_nlp import lightning_internals as internals
from ssl_nlp.data import TextDataModule
from ssl_nlp.errors import UserError
from ssl_nlp.terminal import say


class EmbeddingWriter(Callback):
    """Writes the embeddings of `predict` as a NumPy file of (N, D) float32, a row for each row of the test split in order.

    Args:
        path: the `.npy` file, which does not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: list[Tensor] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            raise UserError("predict runs on one device only: set --trainer.devices 1")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, *args: Any, **kwargs: Any
    ) -> None:
        assert isinstance(outputs, Tensor)
        self._parts.append(outputs.float().cpu())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = internals.datamodule_of(trainer)
        assert isinstance(data, TextDataModule)
        rows = torch.tensor([*chain.from_iterable([*data.test_dataloader().sampler][: len(self._parts)])])
        embeddings = torch.cat(self._parts)[rows.argsort()]  # back from order of length
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with durable.replacing(self.path) as file:
            np.save(file, embeddings.numpy())
        say(f"{self.path}: {embeddings.shape[0]} embeddings of width {embeddings.shape[1]}")
