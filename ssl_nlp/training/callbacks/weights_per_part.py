"""Weights of its own for each part, such as a LoRA and a head, so that no part overwrites those of another."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ssl_nlp import lightning_internals as internals
from ssl_nlp.data import ContinualDataModule, TokenBatch
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.terminal import say
from ssl_nlp.training.module import Module

Weights = dict[str, Tensor]


class WeightsPerPart(Callback):
    """Trains the trained parameters anew for each part, from the same start, and evaluates each part with its own.

    With `model.encoder.adapter`, these are an adapter and a head for each part, over frozen weights that all share. The
    part of a text is given: it is task-incremental. Parts that are still to come have the start. A checkpoint holds the
    weights of the last part as the model's, and those of all parts in the state of this callback.
    """

    def __init__(self) -> None:
        self.start: Weights = {}  # by the name of the parameter
        self.kept: list[Weights] = []  # those of the parts that are finished
        self.begun = False  # whether the next part is, so that the model's weights are its own
        self._live: Weights | None = None  # those of the model, while an evaluation uses others
        self._used = -1  # the part whose weights the evaluation uses

    def state_dict(self) -> dict[str, Any]:
        return {"start": self.start, "kept": self.kept, "begun": self.begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.start, self.kept = dict(state_dict["start"]), list(state_dict["kept"])
        self.begun = state_dict.get("begun", False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data = internals.datamodule_of(trainer)
        assert isinstance(pl_module, Module)
        problems = {
            "the data do not come in parts: take ssl_nlp.data.ContinualDataModule": not isinstance(
                data, ContinualDataModule
            ),
            "data.joint trains on all parts at once: leave the callback out": isinstance(data, ContinualDataModule)
            and data.joint,
            "the parameters are sharded: use ddp": pl_module.sharded,
        }
        refuse(problems, "WeightsPerPart")
        if trainer.is_global_zero:
            own, all_of_them = (
                sum(p.numel() for p in pl_module.parameters() if p.requires_grad or every) for every in (False, True)
            )
            say(f"each part has {own:,} parameters of its own, {own / all_of_them:.1%} of the model")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = self.start or _copy(pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: TokenBatch, batch_idx: int
    ) -> None:
        """Begin a part, whose first batch this is, with the start and an optimizer that has seen nothing."""
        data = internals.datamodule_of(trainer)
        assert isinstance(data, ContinualDataModule)
        if batch_idx in data.ends:
            _load(pl_module, self.start)
            for optimizer in trainer.optimizers:
                optimizer.state.clear()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # type: ignore[override]  # the rest is in args
        data = internals.datamodule_of(trainer)
        assert isinstance(data, ContinualDataModule)
        self.begun = data.finished_part is None
        if data.finished_part is not None:
            self.kept = [*self.kept[: data.finished_part], _copy(pl_module)]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.start:
            raise UserError(
                "WeightsPerPart: the weights of each part are in the checkpoint of the training: give ckpt_path"
            )
        with torch.inference_mode(False):
            self._live = _copy(pl_module)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: TokenBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take the weights of the part of the batch: of each batch all rows are of one part."""
        data = internals.datamodule_of(trainer)
        assert isinstance(data, ContinualDataModule) and batch.documents is not None and self._live is not None
        parts = data.parts_of("test" if trainer.testing or trainer.predicting else "valid")
        part = int(parts[int(batch.documents[0])])
        if part == self._used:
            return
        self._used = part
        trained = len(self.kept)  # the part that is trained on, or the next one at the end of a part
        own = self._live if part == trained and self.begun else self.start
        _load(pl_module, self.kept[part] if part < trained else own)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._live is not None
        _load(pl_module, self._live)
        self._live, self._used = None, -1

    on_test_start = on_predict_start = on_validation_start
    on_test_batch_start = on_predict_batch_start = on_validation_batch_start
    on_test_end = on_predict_end = on_validation_end


def parts_apart(trainer: Trainer) -> bool:
    """Whether each part of a run has weights of its own, so that those of its model are those of the last part."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it without declaring it
    return any(isinstance(callback, WeightsPerPart) for callback in callbacks)


def _copy(model: nn.Module) -> Weights:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def _load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])
