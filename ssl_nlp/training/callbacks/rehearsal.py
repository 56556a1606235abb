"""The cost of a step of a training."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from ssl_nlp import durable
from ssl_nlp import lightning_internals as internals
from ssl_nlp.data import TokenBatch
from ssl_nlp.training.callbacks.throughput import Throughput

BEGINNING = 5  # batches at most whose seconds do not count: they prepare the later ones
BATCHES = 500  # whose tokens are counted


class Rehearsal(Throughput):
    """Writes the mean cost of an optimizer step as JSON at the end of a short training.

    It has `tokens`, `tokens_read`, `flops` and `seconds`. The ancestors of the encoder, which cost something too, stand
    beside it as `ancestry`.

    Costs are summed over ranks, so every rank needs this callback; the first one writes.

    Args:
        file: in a folder that exists.
    """

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = Path(file)
        self._batches: list[int] = []  # tokens of each
        self._costs: list[dict[str, float]] = []  # after each batch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TokenBatch, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._batches.append(batch.all_tokens)
        self._costs.append(self.spent(pl_module.device))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loader = internals.datamodule_of(trainer).train_dataloader()
        tokens = [batch.all_tokens for batch in islice(loader, BATCHES)] + self._batches
        in_a_step = trainer.accumulate_grad_batches * trainer.world_size * sum(tokens) / len(tokens)
        per_token = costs_per_token(self._costs)
        if trainer.is_global_zero:
            step = {kind: in_a_step * cost for kind, cost in per_token.items()}
            ancestry = [*getattr(pl_module.encoder, "ancestry", ())]
            durable.write_text(self.file, json.dumps({**step, "ancestry": ancestry}))


def costs_per_token(costs: list[dict[str, float]]) -> dict[str, float]:
    """The tokens (1), tokens_read, flops and seconds that a token costs.

    Args:
        costs: all of them so far, after each batch. The seconds of the first batches are left out, of half of them at most.
    """
    begun = [dict.fromkeys(costs[-1], 0.0), *costs][min(BEGINNING, len(costs) // 2)]
    last = costs[-1]
    seconds = (last["seconds"] - begun["seconds"]) / (last["tokens"] - begun["tokens"])
    return {**{name: last[name] / last["tokens"] for name in ("tokens", "tokens_read", "flops")}, "seconds": seconds}
