"""The directory of a run while it trains: locked, begun, finished."""

from typing import Any

import yaml
from filelock import FileLock
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelPruning, StochasticWeightAveraging
from lightning.pytorch.loggers import WandbLogger

from ssl_nlp import lightning_internals as internals
from ssl_nlp.data import TextDataModule
from ssl_nlp.runs.run import Run
from ssl_nlp.terminal import say
from ssl_nlp.tracking import WandbSettings, wandb_logger
from ssl_nlp.training.module import Module
from ssl_nlp.training.texts import TextModule


class RunKeeper(Callback):
    """Begins the run after its first batch, so that a mistake leaves no run behind, and marks it as finished at the end.

    Args:
        run: the run.
        config: its complete configuration, as YAML.
        wandb: how W&B tracks it; None if no logger is wanted.
    """

    def __init__(self, run: Run, config: str, wandb: WandbSettings | None) -> None:
        self.run, self.config, self.wandb = run, config, wandb
        self._lock: FileLock | None = None
        self._wandb_id = ""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._lock = self.run.lock()
            self._wandb_id = self.run.wandb_id()
            if self.wandb is not None:
                trainer.loggers += wandb_logger(self.wandb, self.run, self._wandb_id, yaml.safe_load(self.config))
            if self.run.begun and "text" not in (state := self.run.read_state()):  # an earlier version has begun it
                self.run.write_state(state | {"text": _data_of(trainer).text_digests()})
        if trainer.is_global_zero:
            assert isinstance(pl_module, TextModule)
            say(f"{type(pl_module).__name__}: {_parameters(pl_module)}")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, *args: Any) -> None:  # type: ignore[override]  # the rest is in args
        if trainer.is_global_zero and not self.run.begun:
            ancestry = {"ancestry": [*pl_module.encoder.ancestry]} if pl_module.encoder.ancestry else {}
            self.run.begin(
                self.config,
                wandb_id=self._wandb_id,
                tokenizer=pl_module.tokenizer.fingerprint(),
                text=_data_of(trainer).text_digests(),
                **ancestry,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if weights_change_at_the_end(trainer):
            trainer.save_checkpoint(self.run.last_checkpoint)
        if trainer.is_global_zero:
            self.run.finish()
            say(f"finished: {self.run.directory}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close(trainer, 0)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close(trainer, getattr(exception, "status", 1))

    def _close(self, trainer: Trainer, status: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=status)
        if self._lock is not None:
            self.run.abandon()
            self._lock.release()


def _data_of(trainer: Trainer) -> TextDataModule:
    data = internals.datamodule_of(trainer)
    assert isinstance(data, TextDataModule)
    return data


def _parameters(module: TextModule) -> str:
    """How many parameters there are, and how many of them are trained."""
    total, trained = (count / 1e6 for count in module.parameter_counts())
    if not total:
        return "no parameters yet: it counts"
    return (
        f"{total:.2f} M parameters" if trained == total else f"{trained:.2f} M of {total:.2f} M parameters are trained"
    )


def weights_change_at_the_end(trainer: Trainer) -> bool:
    """Whether a callback changes the weights after the last step, when the last checkpoint is already written."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it without declaring it
    return any(isinstance(callback, StochasticWeightAveraging | ModelPruning) for callback in callbacks)
