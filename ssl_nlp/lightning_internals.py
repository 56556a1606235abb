"""Parts of Lightning that are not its documented interface, each behind a name that says what it gives.

They stand in this file alone: when Lightning changes, only this file has to.
"""

from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.loops.progress import _BatchProgress


def has_trainer(module: LightningModule) -> bool:
    """Whether a trainer is running the module; `module.trainer` raises where none is."""
    return module._trainer is not None


def datamodule_of(trainer: Trainer) -> Any:
    """The data module that a trainer runs with, or None. Lightning sets the attribute without declaring it."""
    return trainer.datamodule  # type: ignore[attr-defined]  # set without a declaration


def batches_done(trainer: Trainer) -> int:
    """Batches that the training has begun in all epochs, the current one not counted; it survives a resume."""
    return trainer.fit_loop.epoch_loop.total_batch_idx


def batches_used(trainer: Trainer) -> int:
    """Batches that the training has used in all epochs; Lightning keeps the count in its checkpoints."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def epoch_and_position(trainer: Trainer) -> tuple[int, int]:
    """The epoch and the number of its batches that are done, as Lightning counts them: it may end epochs early."""
    epoch: int = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]  # declared as a base class
    batches = trainer.fit_loop.epoch_loop.batch_progress
    if not batches.is_last_batch:
        return epoch, batches.current.ready
    return epoch + (batches.current.completed < batches.current.ready), 0  # a checkpoint of the epoch's last batch


def logs_now(trainer: Trainer) -> bool:
    """Whether what is logged at this batch reaches the loggers."""
    return trainer._logger_connector.should_update_logs or trainer.is_last_batch


def forget_logged(trainer: Trainer, name: str) -> None:
    """Stop Lightning from logging the last value of a name again at each later logging."""
    if logged := trainer.fit_loop.epoch_loop._results.get(f"on_train_batch_end.{name}"):
        logged.reset()


def discard_train_loader(trainer: Trainer) -> None:
    """Make Lightning create the training loader again.

    Counting the steps of a training creates one, before Lightning has restored the position of a resumed run.
    """
    loop = trainer.fit_loop
    if loop._combined_loader is not None:
        assert loop._data_fetcher is not None
        loop._data_fetcher.teardown()
        loop._combined_loader = None


# ---------------------------------------------------------------------------------- where the training stands after a batch


def step_done(trainer: Trainer) -> bool:
    """Whether the batch completed an optimizer step, rather than being accumulated."""
    return not trainer.fit_loop.epoch_loop._should_accumulate()


def validation_due(trainer: Trainer) -> bool:
    """Whether a validation follows the batch."""
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def logging_due(trainer: Trainer) -> bool:
    """Whether Lightning gives the metrics to the loggers after the batch's hooks."""
    return trainer._logger_connector.should_update_logs


def metrics_to_log(trainer: Trainer) -> dict[str, Any]:
    """The metrics that it gives them."""
    return trainer._logger_connector.metrics["log"]


# ---------------------------------------------------------------------------------------------- changes to what comes next


def validate_after_batch(trainer: Trainer) -> None:
    """Have a validation follow the batch, whatever the interval is."""
    trainer.check_val_every_n_epoch = None
    trainer.val_check_batch = 1
    trainer._val_check_time_interval = None  # type: ignore[attr-defined]  # which Lightning asks first


def validation_interval(trainer: Trainer) -> tuple[Any, ...]:
    """The settings that `validate_after_batch` changes."""
    return trainer.check_val_every_n_epoch, trainer.val_check_batch, trainer._val_check_time_interval  # type: ignore[attr-defined]  # undeclared


def set_validation_interval(trainer: Trainer, interval: tuple[Any, ...]) -> None:
    """Go back to what `validation_interval` gave."""
    trainer.check_val_every_n_epoch, trainer.val_check_batch, trainer._val_check_time_interval = interval  # type: ignore[attr-defined]  # undeclared


def run_validation(trainer: Trainer) -> None:
    """Validate in full at once, before the first batch of a training that resumes."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    trainer.validating = True
    loop.restarting = False
    loop.run()
    trainer.training = True


def resume_accumulation(trainer: Trainer) -> None:
    """Set `accumulate_grad_batches` by its scheduler, which Lightning calls only where an epoch begins."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set without a declaration
        if isinstance(callback, GradientAccumulationScheduler):
            trainer.accumulate_grad_batches = callback.get_accumulate_grad_batches(trainer.current_epoch)


def add_steps(trainer: Trainer, steps: int) -> None:
    """Move the end of the training, `max_steps`."""
    trainer.fit_loop.epoch_loop.max_steps += steps


def count_epoch(trainer: Trainer) -> None:
    """Count the current epoch as begun: after a resume at the end of the one before, Lightning does not."""
    epoch = trainer.fit_loop.epoch_progress
    for count in (epoch.total, epoch.current):
        count.ready = count.started = count.processed + 1  # type: ignore[attr-defined]  # declared as a base class


def forget_validation_progress(checkpoint: dict[str, Any]) -> None:
    """Drop from a checkpoint how far a validation has come: that depends on how often the run was interrupted."""
    checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = _BatchProgress().state_dict()


def cluster_environment(trainer: Trainer) -> ClusterEnvironment | None:
    """The scheduler that started the processes."""
    return trainer._accelerator_connector.cluster_environment
