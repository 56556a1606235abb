"""The validation that every run ends with."""

import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class FinalValidation(Callback):
    """Validates after the last step, whatever the interval is, so that each run has a final loss and a best checkpoint.

    Lightning validates when the interval is over: a run that ends before, by `max_steps` or `max_epochs`, would have no
    number at all.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and not trainer.enable_validation:
            print(
                "warning: nothing is validated (limit_val_batches 0): the run will have no validation loss and no "
                "best.ckpt, and commands take its last.ckpt",
                file=sys.stderr,
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        last_epoch = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.global_step == trainer.max_steps or (last_epoch and trainer.is_last_batch):
            trainer.check_val_every_n_epoch = None
            trainer.val_check_batch = 1
            trainer._val_check_time_interval = None  # which would be asked first
