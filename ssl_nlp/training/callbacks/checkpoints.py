"""Checkpoints of a run, from which a killed one resumes and ends as if it had never stopped."""

import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.progress import _BatchProgress

from ssl_nlp import durable, interrupts
from ssl_nlp.interrupts import Interrupted
from ssl_nlp.runs.metrics_csv import MetricsCSV
from ssl_nlp.training.callbacks import divergence
from ssl_nlp.training.module import Module

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints beside what they replace, and keeps the `last.ckpt` before as `previous.ckpt`.

    Lightning's own writes into the temporary folder and moves: on another file system that is a copy over the old file,
    which a kill or a full disk in the middle destroys.
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
    """Writes `last.ckpt` every so many steps, before each validation and at the end, and `best.ckpt`.

    A checkpoint is always taken at the same point: a step is done and logged, and the validation that may be due is not. A
    run that goes on does that validation first, again if need be, so that whatever comes after the checkpoint happens in
    full. `best.ckpt` is the `last.ckpt` of the validation with the lowest loss, which is part of the checkpoint.

    Args:
        directory: where they are.
        every: steps between two savings.
        resumes: the run goes on from one of its own checkpoints, rather than from another run's or from nothing.
    """

    def __init__(self, directory: Path, every: int, resumes: bool = False) -> None:
        self.directory, self.every, self.resumes = directory, every, resumes
        self.best: float | None = None  # the lowest validation loss
        self._validates = False  # a validation is due at the step of the checkpoint
        self._steps_added = 0  # to those that the trainer is to do
        self._stops = False  # the training was asked to stop before it began
        self._saved: int | None = None  # the step of last.ckpt

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "validates": self._validates}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # It depends on how often the run was interrupted, and nothing depends on it: validations are done in full.
        checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = _BatchProgress().state_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if not self.resumes or state is None:
            return
        self.best, self._validates, self._saved = state["best"], state["validates"], checkpoint["global_step"]
        if trainer.max_steps == self._saved:  # Lightning would not even begin a training of which no step is left
            trainer.fit_loop.epoch_loop.max_steps += 1
            self._steps_added = 1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stops, trainer.should_stop = trainer.should_stop, False  # nor one that has used up its time

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interrupts.defer()
        epochs = trainer.fit_loop
        if self._validates:
            trainer.validating = True
            epochs.epoch_loop.val_loop.restarting = False
            epochs.epoch_loop.val_loop.run()
            trainer.training = True
        epochs.epoch_loop.max_steps -= self._steps_added
        trainer.should_stop = trainer.should_stop or self._stops

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Module)
        loop = trainer.fit_loop.epoch_loop
        self._validates = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
        number = _interruption(trainer)
        stepped = not loop._should_accumulate()
        saves = stepped and (
            self._validates or number is not None or trainer.global_step % self.every == 0 or _ends(trainer)
        )
        logs = trainer._logger_connector.should_update_logs
        if saves or self._validates or logs:
            divergence.check(trainer, pl_module, weights=saves or self._validates)
        pl_module.log_training()
        if saves:
            _count_epoch(trainer)
            self._save(trainer)
        if stepped and number is not None:
            raise self._interrupted(trainer, number)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.state.fn == "fit" and (number := _interruption(trainer)) is not None:
            raise self._interrupted(trainer, number)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.state.fn != "fit" or trainer.sanity_checking or loss is None:
            return
        if self._saved is None:  # gradients are being accumulated for the first time: nothing could go on from there
            return
        if self.best is not None and float(loss) >= self.best:
            return
        self.best = float(loss)
        last = self.directory / LAST
        copies = isinstance(trainer.strategy.checkpoint_io, DurableCheckpointIO) and last.is_file()
        if trainer.strategy.broadcast(copies and self._saved == trainer.global_step):
            if trainer.is_global_zero:
                with last.open("rb") as source, durable.replacing(self.directory / BEST) as target:
                    shutil.copyfileobj(source, target)
        else:  # gradients are being accumulated over this validation
            _count_epoch(trainer)
            trainer.save_checkpoint(self.directory / BEST)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.should_stop and self._saved != trainer.global_step:
            self._save(trainer)  # a validation has stopped the training while gradients were being accumulated

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interrupts.stop_deferring()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        interrupts.stop_deferring()

    def _save(self, trainer: Trainer) -> None:
        """Write `last.ckpt`, and before it what it counts on: the metrics of the steps up to it."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                if trainer._logger_connector.should_update_logs:  # Lightning logs them only after this hook
                    logger.log_metrics(trainer._logger_connector.metrics["log"])
                logger.sync()
        trainer.save_checkpoint(self.directory / LAST)
        self._saved = trainer.global_step

    def _interrupted(self, trainer: Trainer, number: int) -> BaseException:
        where, more = (
            f"{self.directory / LAST} is that of step {self._saved or 0:,}",
            "the same command goes on from there",
        )
        if self._saved is None:
            where, more = "nothing was saved yet", "the same command begins again"
        if trainer.is_global_zero and _requeues(trainer, number) and interrupts.requeue():
            more = "SLURM starts the job again"
        trainer.strategy.barrier()  # a process that ended while the first one still writes would have it killed
        return Interrupted(number, f"{where}; {more}") if trainer.is_global_zero else SystemExit(0)


def _count_epoch(trainer: Trainer) -> None:
    """Count the epoch that goes on: resumed at the end of the one before, Lightning does not."""
    epoch = trainer.fit_loop.epoch_progress
    for count in (epoch.total, epoch.current):
        count.ready = count.started = count.processed + 1


def _ends(trainer: Trainer) -> bool:
    """Whether this was the last batch."""
    last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
    done = trainer.global_step >= trainer.max_steps > 0
    return trainer.should_stop or done or (trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and last_epoch)


def _requeues(trainer: Trainer, number: int) -> bool:
    """Whether this is the signal on which a job of SLURM asks to be started again; Lightning's plugin has the setting."""
    environment = trainer._accelerator_connector.cluster_environment
    return (
        isinstance(environment, SLURMEnvironment) and environment.auto_requeue and number == environment.requeue_signal
    )


def _interruption(trainer: Trainer) -> int | None:
    """The signal that has asked any of the processes to stop; all learn of it at the same batch."""
    number = interrupts.received()
    if trainer.world_size == 1:
        return number
    numbers = torch.tensor(number or 0, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MAX)
    return int(numbers) or None
