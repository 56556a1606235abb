"""The progress of a run in a terminal, and a line for every validation."""

import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from ssl_nlp.evaluation.cost import RATE
from ssl_nlp.training.module import Module


class Progress(RichProgressBar):
    """A bar with loss, tokens per second and time left; `ProgressLines` takes its place where there is no terminal."""

    def __init__(self) -> None:
        super().__init__(leave=False)
        if not sys.stdout.isatty():
            self.disable()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        logged = trainer.progress_bar_metrics
        shown = {"loss": logged.get("train/loss"), "val": logged.get("val/loss")}
        rate = logged.get(RATE)
        return {name: f"{value:.3f}" for name, value in shown.items() if value is not None} | (
            {} if rate is None else {"tokens/s": f"{rate:,.0f}"}
        )

    def _get_train_description(self, current_epoch: int) -> str:
        """`Epoch 1/3`, or `Epoch 1` where steps rather than epochs end the run (Lightning shows `Epoch 0/-2`)."""
        epochs = self.trainer.max_epochs
        description = f"Epoch {current_epoch + 1}" + (f"/{epochs}" if epochs is not None and epochs > 0 else "")
        return description.ljust(len(self.validation_description))  # of equal length, or the bars would flicker

    def print(self, *lines: str) -> None:
        """Print above the bar."""
        if self.progress is not None and self.is_enabled:
            self.progress.console.print(*lines)
        else:
            print(*lines, flush=True)


class ValidationLine(Callback):
    """Prints a line for every validation, with or without a progress bar."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        parts = [f"step {trainer.global_step:,}".ljust(13)]
        monitored = f"val/{pl_module.monitor[0]}" if isinstance(pl_module, Module) else "val/loss"
        for name in dict.fromkeys(("train/loss", "val/loss", "val/bits_per_byte", monitored)):
            if name in metrics:
                parts.append(f"{name} {float(metrics[name]):.4f}")
        if RATE in metrics:
            parts.append(f"{float(metrics[RATE]):,.0f} tokens/s")
        line = "  ".join(parts)
        if trainer.progress_bar_callback is None:
            print(line, flush=True)
        else:
            trainer.progress_bar_callback.print(line)
