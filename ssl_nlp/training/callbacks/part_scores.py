"""The scores of all parts after each part of a training, which show what it has learned and forgotten."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp import durable
from ssl_nlp import lightning_internals as internals
from ssl_nlp.data import ContinualDataModule
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.continual import PartRecord
from ssl_nlp.terminal import say
from ssl_nlp.training.module import Module


class PartScores(Callback):
    """Validates before the training and after each part, and keeps the scores of all parts in `continual.json`.

    Logged after each part: `continual/average`, `continual/forgetting`, `continual/backward_transfer` and
    `continual/forward_transfer` over the parts so far (`ssl_nlp.evaluation.continual`). It does nothing where the data do
    not come in parts.

    Args:
        directory: the folder of `continual.json`.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "continual.json"
        self.before: list[float] = []  # the score of each part before the training
        self.rows: list[list[float]] = []  # and after each part
        self._interval: Any = None  # of validations, while one follows a part

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before, "rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before, self.rows = list(state_dict["before"]), list(state_dict["rows"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _data(trainer) is None or trainer.global_step or trainer.fast_dev_run:
            return
        self.rows = []
        loggers, trainer.loggers = trainer.loggers, []  # the run has not begun: a mistake must leave no file behind
        internals.run_validation(trainer)
        trainer.loggers = loggers
        self.before = self._scores(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:  # type: ignore[override]  # the rest is in args
        data = _data(trainer)
        if data is not None and data.finished_part is not None and self._interval is None:
            self._interval = internals.validation_interval(trainer)
            internals.validate_after_batch(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._interval is not None:
            internals.set_validation_interval(trainer, self._interval)
            self._interval = None
        data = _data(trainer)
        if data is None or not self.before or data.finished_part is None:
            return
        self.rows = [*self.rows[: data.finished_part], self._scores(trainer, pl_module)]
        record = self.record(pl_module, data)
        for logger in trainer.loggers:
            metrics = {f"continual/{name}": value for name, value in record.metrics.items()}
            logger.log_metrics(metrics, trainer.global_step)
        if trainer.is_global_zero:
            durable.write_text(self.path, json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = _data(trainer)
        if data is not None and self.rows and trainer.is_global_zero:
            say(self.record(pl_module, data).table())

    def record(self, pl_module: LightningModule, data: ContinualDataModule) -> PartRecord:
        """The scores so far and the metrics that follow from them."""
        assert isinstance(pl_module, Module)
        return PartRecord.of(data.part_names, data.joint, pl_module.monitor, self.before, self.rows)

    def _scores(self, trainer: Trainer, pl_module: LightningModule) -> list[float]:
        """The score of each part at the last validation.

        Raises:
            UserError: the model gives none for each part.
        """
        data = _data(trainer)
        assert data is not None and isinstance(pl_module, Module)
        name = pl_module.monitor[0]
        found = [trainer.callback_metrics.get(f"val/{name}/{part}") for part in data.part_names]
        if any(score is None for score in found):
            raise UserError(
                f"{type(pl_module).__name__} has no {name} for each part: a stream of parts needs a task whose metric can "
                "be computed for some of the documents, such as ssl_nlp.tasks.Classification"
            )
        return [float(score) for score in found if score is not None]


def _data(trainer: Trainer) -> ContinualDataModule | None:
    """The data of a training that come in parts."""
    data = internals.datamodule_of(trainer)
    trains = trainer.state.fn == "fit" and not trainer.sanity_checking
    return data if trains and isinstance(data, ContinualDataModule) else None
