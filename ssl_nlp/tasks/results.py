"""The file with all metrics of a validation or test of a task."""

import json
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp import durable
from ssl_nlp.tasks.base import Task
from ssl_nlp.terminal import say


class Results(Callback):
    """Writes `validation.json` or `test.json`: metrics and what is too long for them, such as numbers by class.

    A training replaces the file at every validation; a test, or a validation of its own, prints where it is.

    Args:
        directory: of the run.
        step: of the checkpoint that is validated or tested; None in a training.
    """

    def __init__(self, directory: Path, step: int | None = None) -> None:
        self.directory, self.step = directory, step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn in ("fit", "validate") and not trainer.sanity_checking:
            self._write(trainer, pl_module, "validation")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module, "test")

    def _write(self, trainer: Trainer, pl_module: LightningModule, name: str) -> None:
        if not isinstance(pl_module, Task) or pl_module.last_result is None or not trainer.is_global_zero:
            return
        path = self.directory / f"{name}.json"
        step = trainer.global_step if self.step is None else self.step
        plain = {"checkpoint": trainer.ckpt_path, "step": step} | pl_module.last_result.to_json()
        durable.write_text(path, json.dumps(plain, ensure_ascii=False, indent=1) + "\n")
        if trainer.state.fn != "fit":
            say(f"{path}: all metrics, per class where the task has classes")
