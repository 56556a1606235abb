"""A run that is trained longer than it was planned to be."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.errors import UserError
from ssl_nlp.runs.run import Run
from ssl_nlp.terminal import say
from ssl_nlp.training.callbacks.run_keeper import weights_change_at_the_end
from ssl_nlp.training.module import Module
from ssl_nlp.training.optimizers import rates_of_step


class Extension(Callback):
    """Says what a longer training makes of the schedule, and gives the run its new configuration after the first batch.

    Args:
        run: the run.
        config: its new configuration, complete, as YAML.
        before, after: how long it was to train, and how long it now does, such as `300 steps`.
    """

    def __init__(self, run: Run, config: str, before: str, after: str) -> None:
        self.run, self.config, self.before, self.after = run, config, before, after
        self._step: int | None = None  # where the longer training begins, until that is recorded

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if weights_change_at_the_end(trainer):
            raise UserError(
                f"runs/{self.run.name} cannot be trained longer, because a callback changes its weights at the end: start "
                f"another run from it, with --model.encoder Trained --model.encoder.run {self.run.name}"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._step = trainer.global_step
        assert isinstance(pl_module, Module)
        optimization = next(iter(pl_module.players().values())).optimization
        group = trainer.optimizers[0].param_groups[0]
        rates = rates_of_step(trainer.lr_scheduler_configs[0].scheduler)
        old, new = (
            optimization.learning_rate * rate / group["initial_lr"]
            for rate in (group["lr"], (rates or [group["lr"]])[0])
        )
        name = optimization.schedule
        if rates is None or name == "constant":
            said = f"{name} goes on as before"
        else:
            said = f"{name} over {self.before} becomes {name} over {self.after}"
        verb = "rises" if new > old else "falls"
        change = f"stays at {new:.2g}" if math.isclose(old, new) else f"{verb} from {old:.2g} to {new:.2g}"
        say(f"{said}: the learning rate {change} at step {trainer.global_step:,}")

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:  # type: ignore[override]  # the rest is in args
        if self._step is not None:
            self.run.extend(self.config, self._step)
            self._step = None
