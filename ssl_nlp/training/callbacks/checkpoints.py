"""The checkpoints of a run, from which a killed run resumes and ends as if it had never stopped."""

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from ssl_nlp import durable, interrupts
from ssl_nlp import lightning_internals as internals
from ssl_nlp.interrupts import Interrupted
from ssl_nlp.runs.metrics_csv import MetricsCSV
from ssl_nlp.runs.run import kept
from ssl_nlp.training.callbacks import divergence
from ssl_nlp.training.module import Module

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, and keeps the previous `last.ckpt` as `previous.ckpt`.

    Lightning's own class writes into the temporary folder and moves the file. To another file system that is a copy over
    the old checkpoint, which a kill or a full disk then destroys.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with durable.replacing(path, keep=path.with_name(PREVIOUS) if path.name == LAST else None) as file:
            torch.save(checkpoint, file)


class Checkpoints(Checkpoint):
    """Writes `last.ckpt` every so many steps, before each validation and at the end, `best.ckpt`, and those to keep.

    A checkpoint is always taken at the same point: after a step and its logging, and before the validation that may be
    due. A run that resumes does that validation first, again if need be, so that everything after the checkpoint happens
    in full. `best.ckpt` is the `last.ckpt` of the validation with the best value of `Module.monitor`, which is part of the
    checkpoint.

    Args:
        directory: the folder of the checkpoints.
        every: steps between two writes.
        keep_every: steps between two copies that are kept, as `step-N.ckpt` of step N; None keeps none.
        resumes: whether the run resumes from a checkpoint of its own, rather than from another run's or from nothing.
    """

    def __init__(self, directory: Path, every: int, keep_every: int | None = None, resumes: bool = False) -> None:
        self.directory, self.every, self.keep_every, self.resumes = directory, every, keep_every, resumes
        self.best: float | None = None  # value of what is monitored
        self._validates = False  # a validation is due at the step of the checkpoint
        self._steps_added = 0  # to the trainer's max_steps
        self._stops = False  # the training was asked to stop before it began
        self._saved: int | None = None  # the step of last.ckpt

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "validates": self._validates}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        internals.forget_validation_progress(checkpoint)  # a validation always starts again

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if not self.resumes or state is None:
            return
        self.best, self._validates, self._saved = state["best"], state["validates"], checkpoint["global_step"]
        if trainer.max_steps == self._saved:  # Lightning would not even begin a training without a step left
            self._steps_added = 1
            internals.add_steps(trainer, self._steps_added)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stops, trainer.should_stop = trainer.should_stop, False  # nor one without time left

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interrupts.defer()
        internals.resume_accumulation(trainer)
        if self._saved is not None and self._keeps(self._saved) and not kept(self.directory, self._saved).exists():
            self._copy(trainer, kept(self.directory, self._saved))  # killed before it was copied
        if self._validates:
            internals.run_validation(trainer)
        internals.add_steps(trainer, -self._steps_added)
        trainer.should_stop = trainer.should_stop or self._stops

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Module)
        self._validates = internals.validation_due(trainer)
        number = _interruption(trainer)
        stepped = internals.step_done(trainer)
        keeps = self._keeps(trainer.global_step)
        saves = stepped and (
            self._validates or number is not None or trainer.global_step % self.every == 0 or keeps or _ends(trainer)
        )
        if saves or self._validates or internals.logging_due(trainer):
            divergence.check(trainer, pl_module, weights=saves or self._validates)
        pl_module.log_training()
        if saves:
            internals.count_epoch(trainer)
            self._save(trainer)
            if keeps:
                self._copy(trainer, kept(self.directory, trainer.global_step))
        if stepped and number is not None:
            raise self._interrupted(trainer, number)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.state.fn == "fit" and (number := _interruption(trainer)) is not None:
            raise self._interrupted(trainer, number)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Module)
        name, higher = pl_module.monitor
        value = trainer.callback_metrics.get(f"val/{name}")
        if trainer.state.fn != "fit" or trainer.sanity_checking or value is None:
            return
        if (
            self._saved is None
        ):  # the gradients of the first step are being accumulated: nothing could resume from there
            return
        if not _improves(number := float(value), self.best, higher):
            return
        self.best = number
        self._copy(trainer, self.directory / BEST)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.should_stop and self._saved != trainer.global_step:
            self._save(trainer)  # a validation has stopped the training while gradients were being accumulated

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interrupts.stop_deferring()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        interrupts.stop_deferring()

    def _save(self, trainer: Trainer) -> None:
        """Write `last.ckpt`, and before it the metrics of the steps up to it, which it relies on."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                if internals.logging_due(trainer):  # Lightning logs them only after this hook
                    logger.log_metrics(internals.metrics_to_log(trainer))
                logger.sync()
        trainer.save_checkpoint(self.directory / LAST)
        self._saved = trainer.global_step

    def _keeps(self, step: int) -> bool:
        return self.keep_every is not None and step % self.keep_every == 0

    def _copy(self, trainer: Trainer, path: Path) -> None:
        """Write the present state, which is a copy of `last.ckpt` if that is of this step."""
        last = self.directory / LAST
        copies = isinstance(trainer.strategy.checkpoint_io, DurableCheckpointIO) and last.is_file()
        if trainer.strategy.broadcast(copies and self._saved == trainer.global_step):
            if trainer.is_global_zero:
                with last.open("rb") as source, durable.replacing(path) as target:
                    shutil.copyfileobj(source, target)
        else:  # gradients are being accumulated over this validation
            internals.count_epoch(trainer)
            trainer.save_checkpoint(path)

    def _interrupted(self, trainer: Trainer, number: int) -> BaseException:
        where, more = (
            f"{self.directory / LAST} was saved at step {self._saved or 0:,}",
            "the same command resumes from there",
        )
        if self._saved is None:
            where, more = "nothing was saved yet", "the same command starts again"
        if trainer.is_global_zero and _requeues(trainer, number) and interrupts.requeue():
            more = "SLURM starts the job again"
        trainer.strategy.barrier()  # if another process ended first, the one that still writes would be killed
        return Interrupted(number, f"{where}; {more}") if trainer.is_global_zero else SystemExit(0)


def _improves(value: float, best: float | None, higher: bool) -> bool:
    """Whether a value is better than the best one so far, if there is one; any number is better than NaN."""
    if best is None or math.isnan(best):
        return best is None or not math.isnan(value)
    return value > best if higher else value < best


def _ends(trainer: Trainer) -> bool:
    """Whether this was the last batch."""
    last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
    done = trainer.global_step >= trainer.max_steps > 0
    return trainer.should_stop or done or (trainer.is_last_batch and last_epoch)


def _requeues(trainer: Trainer, number: int) -> bool:
    """Whether a SLURM job asks to be requeued on this signal, according to Lightning's plugin."""
    environment = internals.cluster_environment(trainer)
    return (
        isinstance(environment, SLURMEnvironment) and environment.auto_requeue and number == environment.requeue_signal
    )


def _interruption(trainer: Trainer) -> int | None:
    """The signal that asked any of the processes to stop; all of them learn of it at the same batch."""
    number = interrupts.received()
    if trainer.world_size == 1:
        return number
    numbers = torch.tensor(number or 0, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MAX)
    return int(numbers) or None
