"""The validation at the end of every run."""

import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.lightning_internals import validate_after_batch


class FinalValidation(Callback):
    """Validates after the last step, whatever the interval is, so that each run has a final loss and a best checkpoint.

    Lightning validates only when an interval ends: a run that `max_steps` or `max_epochs` ends earlier would have no
    validation loss at all.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and not trainer.enable_validation:
            print(
                "warning: limit_val_batches 0 turns validation off: the run will have no validation loss and no best.ckpt, "
                "and commands will use its last.ckpt",
                file=sys.stderr,
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        last_epoch = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.global_step == trainer.max_steps or (last_epoch and trainer.is_last_batch):
            validate_after_batch(trainer)
