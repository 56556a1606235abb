"""Parts of Lightning that are not its documented interface, each behind a name that says what it gives.

They stand in this file alone: when Lightning changes, only this file has to.
"""

from lightning.pytorch import LightningModule, Trainer


def has_trainer(module: LightningModule) -> bool:
    """Whether a trainer is running the module; `module.trainer` raises where none is."""
    return module._trainer is not None


def batches_done(trainer: Trainer) -> int:
    """Batches that the training has begun in all epochs, the current one not counted; it survives a resume."""
    return trainer.fit_loop.epoch_loop.total_batch_idx


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
