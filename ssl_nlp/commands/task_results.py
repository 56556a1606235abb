"""The files with all metrics of a validation or test of a task."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp import durable
from ssl_nlp.comparison.intervals import LEVEL, result_interval
from ssl_nlp.corpora import Document
from ssl_nlp.corpora.base import Split
from ssl_nlp.data import TextDataModule
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Result
from ssl_nlp.evaluation.result import groups_of
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.tasks.base import Task
from ssl_nlp.terminal import say


class Results(Callback):
    """Writes `validation.json` or `test.json`: metrics and what is too long for them, such as numbers by class.

    `interval` is the 95 % interval of the primary metric over the items, where it follows from them; `digest` that of the
    checkpoint, except in a training, whose steps are enough.

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
        plain: dict[str, Any] = {"checkpoint": trainer.ckpt_path, "step": step}
        if trainer.state.fn != "fit" and trainer.ckpt_path is not None:
            plain["digest"] = checkpoints.digest(Path(trainer.ckpt_path))
        plain |= pl_module.last_result.to_json()
        documents = _pairs(trainer, "test" if name == "test" else "valid")
        if (interval := result_interval(grouped_by_text(pl_module.last_result, documents))) is not None:
            plain |= {"interval": interval, "level": LEVEL}
        durable.write_text(path, json.dumps(plain, ensure_ascii=False, indent=1) + "\n")
        if trainer.state.fn != "fit":
            say(f"{path}: all metrics, per class where the task has classes")


def grouped_by_text(result: Result, documents: Sequence[Document]) -> Result:
    """A result whose items with a text in common are a group, such as several hypotheses about one premise.

    Args:
        result: its items are the documents; of any others it stays as it is.
        documents: of the split.
    """
    if result.groups is not None or result.items is None or len(result.items) != len(documents):
        return result
    texts = [[document.text for document in documents]]
    if pairs := [document.pair for document in documents if document.pair is not None]:
        texts += [pairs] * (len(pairs) == len(documents))
    return replace(result, groups=groups_of(*texts))


def _pairs(trainer: Trainer, split: Split) -> list[Document]:
    """The documents of a split if the first one is a pair; the texts of others are hardly ever there twice."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, TextDataModule):
        return []
    first = next(iter(data.corpus.documents(split)), None)
    return [] if first is None or first.pair is None else list(data.corpus.documents(split))


def read_results(directory: Path, name: Literal["validation", "test"], digest: str, step: int) -> dict[str, Any]:
    """Read what `Results` wrote about a checkpoint; empty if there is no file, or if it describes another checkpoint.

    Args:
        directory: of the run.
        name: of the file.
        digest, step: of the checkpoint.

    Raises:
        UserError: the file is broken.
    """
    path = directory / f"{name}.json"
    if not path.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = found["digest"] == digest if "digest" in found else found["step"] == step
        found["metrics"][found["primary_metric"]] + sum(found.get("interval", [0]))  # all are numbers
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is broken: move it away, or write it anew with validate or test") from error
    return found if same else {}
