"""The progress of a run as lines of text, for log files."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.data import TokenBatch
from ssl_nlp.terminal import say
from ssl_nlp.training.module import Module


class ProgressLines(Callback):
    """Prints a line about a training, validation, test or prediction every half minute; nothing in a terminal.

    `step 1,200 of 10,000 (12%)  train/loss 3.4512  52,310 tokens/s  41 min left`. Tokens are those of the first rank times
    the number of ranks, and seconds those of training alone. The time left follows from the time that the steps of this
    process took, validations and checkpoints included; it is left out where the number of steps is not known.

    Args:
        seconds: the longest time between two lines, as far as batches are not longer.
        clock: gives the time in seconds.
        shown: whether lines are printed; by default where standard output is not a terminal.
    """

    def __init__(
        self, seconds: float = 30.0, clock: Callable[[], float] = time.monotonic, shown: bool | None = None
    ) -> None:
        self.seconds, self.clock = seconds, clock
        self.shown = not sys.stdout.isatty() if shown is None else shown
        self._begun: tuple[int, float] | None = None  # the step and the time when the first batch was done
        self._line = 0.0  # the time of the last line
        self._last: float | None = None  # the time when the last batch was done; None after a validation
        self._tokens, self._busy = 0, 0.0  # since the last line about the training

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.shown = self.shown and trainer.is_global_zero
        self._line = self.clock()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: TokenBatch, batch_idx: int
    ) -> None:
        if self._last is None:
            self._last = self.clock()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TokenBatch, batch_idx: int
    ) -> None:
        now = self.clock()
        self._tokens += batch.all_tokens
        self._busy += now - (now if self._last is None else self._last)
        self._last = now
        if self._begun is None:
            self._begun = trainer.global_step, now
        if now - self._line >= self.seconds:
            assert isinstance(pl_module, Module)
            self._print("  ".join(self._training(trainer, pl_module, now)))
            self._tokens, self._busy = 0, 0.0

    def on_validation_batch_end(self, trainer: Trainer, *batch: Any, dataloader_idx: int = 0) -> None:
        self._last = None
        start = f"step {trainer.global_step:,}: " if trainer.state.fn == "fit" else ""
        self._count(f"{start}validation", batch[-1], trainer.num_val_batches)

    def on_test_batch_end(self, trainer: Trainer, *batch: Any, dataloader_idx: int = 0) -> None:
        self._count("test", batch[-1], trainer.num_test_batches)

    def on_predict_batch_end(self, trainer: Trainer, *batch: Any, dataloader_idx: int = 0) -> None:
        self._count("prediction", batch[-1], trainer.num_predict_batches)

    def _count(self, name: str, index: int, batches: Sequence[int | float]) -> None:
        if self.clock() - self._line >= self.seconds:
            total = sum(batches)  # of one loader
            self._print(f"{name} batch {index + 1:,}" + ("" if math.isinf(total) else f" of {int(total):,}"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = None
        self._line = self.clock()  # every validation ends with a line

    def _training(self, trainer: Trainer, module: Module, now: float) -> list[str]:
        """The parts of the line about the training."""
        step, steps = trainer.global_step, trainer.estimated_stepping_batches
        known = 0 < steps < math.inf  # -1 and inf both stand for no limit
        if not known:
            parts = [f"step {step:,}, epoch {trainer.current_epoch + 1}"]
        else:
            parts = [f"step {step:,} of {int(steps):,} ({step / steps:.0%})"]
        logged = trainer.callback_metrics.get("train/loss")
        loss = module.training_sums.loss() if logged is None else float(logged)
        if loss is not None:
            parts.append(f"train/loss {loss:.4f}")
        if self._busy > 0:
            parts.append(f"{self._tokens * trainer.world_size / self._busy:,.0f} tokens/s")
        assert self._begun is not None
        done = step - self._begun[0]
        if done > 0 and known:
            parts.append(f"{duration((now - self._begun[1]) / done * (steps - step))} left")
        return parts

    def _print(self, line: str) -> None:
        if self.shown:
            say(line)
        self._line = self.clock()


def duration(seconds: float) -> str:
    """A time in its two largest units: `41 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
