"""The cost of a step of a training."""

import json
import math
from itertools import chain, islice
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from ssl_nlp import durable
from ssl_nlp import lightning_internals as internals
from ssl_nlp.data import TokenBatch
from ssl_nlp.training.callbacks.throughput import LOOKAHEAD, Throughput
from ssl_nlp.training.flops import cost_per_token
from ssl_nlp.training.module import Module

BEGINNING = 5  # batches at most whose seconds do not count: they prepare the later ones
BATCHES = 500  # whose tokens are counted


class Rehearsal(Throughput):
    """Writes the mean cost of an optimizer step as JSON at the end of a short training.

    The file has `tokens`, `tokens_read`, `flops` and `seconds`, and the ancestors of the encoder, which cost something,
    too, as `ancestry`.

    Costs are summed over ranks, so every rank needs this callback; the first one writes.

    Args:
        file: in a folder that exists.
    """

    several_from = math.inf  # they are counted at the end: looking ahead would make all data before the clock runs

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = Path(file)
        self._batches: list[int] = []  # tokens of each
        self._costs: list[dict[str, float]] = []  # so far, after each batch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TokenBatch, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._batches.append(batch.all_tokens)
        self._costs.append(self.spent(pl_module.device))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Module)
        batches = iter(internals.datamodule_of(trainer).train_dataloader())
        first = [*islice(batches, LOOKAHEAD)]
        per_token = cost_per_token(pl_module, first)
        tokens = [batch.all_tokens for batch in chain(first, islice(batches, BATCHES - LOOKAHEAD))] + self._batches
        in_a_step = trainer.accumulate_grad_batches * trainer.world_size * sum(tokens) / len(tokens)
        if trainer.is_global_zero:
            step = {
                "tokens": in_a_step,
                "tokens_read": in_a_step * per_token.reads,
                "flops": in_a_step * per_token.flops + self.optimizer_flops / trainer.global_step,
                "seconds": in_a_step * seconds_per_token(self._costs),
            }
            ancestry = [*getattr(pl_module.encoder, "ancestry", ())]
            durable.write_text(self.file, json.dumps({**step, "ancestry": ancestry}))


def seconds_per_token(costs: list[dict[str, float]]) -> float:
    """Processor seconds per token, without those of the first batches (at most half of all), which are slower.

    Args:
        costs: `tokens` and `seconds` so far, after each batch.
    """
    begun = [{"tokens": 0.0, "seconds": 0.0}, *costs][min(BEGINNING, len(costs) // 2)]
    last = costs[-1]
    return (last["seconds"] - begun["seconds"]) / (last["tokens"] - begun["tokens"])
