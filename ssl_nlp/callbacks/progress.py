"""What a person sees while a run trains."""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """A bar with loss, tokens per second and time left, and a line for every validation.

    Where standard output is no terminal only the lines are printed.
    """

    def __init__(self) -> None:
        super().__init__(leave=False)
        if not sys.stdout.isatty():
            self.disable()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        logged = trainer.progress_bar_metrics
        shown = {"loss": logged.get("train/loss"), "val": logged.get("val/loss")}
        rate = logged.get("train/tokens_per_second")
        return {name: f"{value:.3f}" for name, value in shown.items() if value is not None} | (
            {} if rate is None else {"tokens/s": f"{rate:,.0f}"}
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        parts = [f"step {trainer.global_step:,}".ljust(13)]
        for name in ("train/loss", "val/loss", "val/bits_per_byte"):
            if name in metrics:
                parts.append(f"{name} {float(metrics[name]):.4f}")
        if "train/tokens_per_second" in metrics:
            parts.append(f"{float(metrics['train/tokens_per_second']):,.0f} tokens/s")
        line = "  ".join(parts)
        if self.progress is not None and self.is_enabled:
            self.progress.console.print(line)
        else:
            print(line, flush=True)
