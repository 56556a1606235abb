"""Logs the cost of a training: tokens, FLOPs, seconds, throughput and the share of the hardware's peak."""

import resource
import sys
import time
import warnings
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from ssl_nlp import lightning_internals as internals
from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.evaluation.cost import COLUMNS, FLOPS, MEMORY, RATE, READ, SECONDS, TOKENS
from ssl_nlp.training.flops import cost_per_token
from ssl_nlp.training.module import Module
from ssl_nlp.training.optimizers import flops_of_step
from ssl_nlp.training.ranks import sum_over_ranks

LOOKAHEAD = 200
"""Batches from which those are chosen whose cost is counted."""


class Throughput(Callback):
    """Logs what a training costs, under `train/`.

    `tokens_per_second`, `mfu`, `tokens`, `tokens_read`, `flops`, `processor_seconds`, `padding` and `peak_memory`.

    Tokens exclude padding and are summed over ranks. `tokens` counts each token of the text once, `tokens_read` as often as
    a network of the method reads it (`cost_per_token`). `padding` is its share of the positions since the last log, in the
    batches as the data module made them.

    Seconds include waiting for data, but neither validation nor checkpoints. Processor seconds are summed over cores and
    ranks, so other work on the machine does not lengthen them. A GPU counts as busy all the time.

    FLOPs and reads per token are counted at the start: in trainings of 20 steps or more on eight of the first 200 batches,
    spread over their sizes, and in shorter ones on the first batch. Every step of Muon adds its own on each rank, although
    FSDP spares some of them. Model FLOPs utilisation (`mfu`; Chowdhery et al., arXiv:2204.02311, appendix B)
    leaves the optimizer out. It divides by the vendor's peak if Lightning knows it, otherwise by the speed of a large
    matrix product, measured at the start.
    """

    several_from = 20  # steps of a training; those of a shorter one would take longer to count than to do

    def __init__(self) -> None:
        self.tokens = 0
        self.flops_per_token: float | None = None  # not yet counted
        self.reads_per_token: float | None = None  # likewise; checkpoints of earlier versions lack it
        self.optimizer_flops: float | None = 0.0  # of all steps and ranks; None: the run is older than this count
        self.seconds: float | None = 0.0  # of processors; None: the run is older than this count
        self._peak = 0.0
        self._ranks = 1
        self._window_tokens = self._window_positions = 0
        self._window_seconds = self._window_processor = 0.0
        self._last: tuple[float, float] | None = None

    def state_dict(self) -> dict[str, Any]:
        window = {"window_tokens": self._window_tokens, "window_positions": self._window_positions}  # of the first rank
        per_token = {"flops_per_token": self.flops_per_token, "reads_per_token": self.reads_per_token}
        spent = {"tokens": self.tokens, **per_token, "optimizer_flops": self.optimizer_flops, "seconds": self.seconds}
        return {**spent, "ranks": self._ranks, **window, "window_processor": self._window_processor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens, self.flops_per_token = state_dict["tokens"], state_dict["flops_per_token"]
        self.reads_per_token = state_dict.get("reads_per_token")
        self.optimizer_flops = state_dict.get("optimizer_flops")
        self._window_tokens, self._window_positions = state_dict["window_tokens"], state_dict["window_positions"]
        self.seconds, self._window_processor = state_dict.get("seconds"), state_dict.get("window_processor", 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ranks = trainer.world_size
        self._peak = peak_flops(pl_module.device, _compute_dtype(trainer)) * trainer.world_size
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)  # of the products that it may have timed
        self._last = _clocks(pl_module.device)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: TokenBatch, batch_idx: int
    ) -> None:
        if self.flops_per_token is None or self.reads_per_token is None:
            assert isinstance(pl_module, Module)
            counted = cost_per_token(pl_module, self._coming(trainer, pl_module, batch))
            self.reads_per_token = counted.reads
            if self.flops_per_token is None:  # a resumed run keeps the number that it began with
                self.flops_per_token = counted.flops
            if pl_module.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(pl_module.device)  # counting needs as much as an eager step
            self._last = _clocks(pl_module.device)
        elif self._last is None:
            self._last = _clocks(pl_module.device)

    def _coming(self, trainer: Trainer, method: Module, batch: TokenBatch) -> list[TokenBatch]:
        """The batches of which some are counted: in a long training the next ones, else only the current one."""
        data, accumulated = internals.datamodule_of(trainer), trainer.accumulate_grad_batches
        if method.total_steps < self.several_from or not isinstance(data, TextDataModule) or not data.looks_ahead:
            return [batch]
        start = _clocks(method.device)
        coming = data.upcoming(int(min(LOOKAHEAD, trainer.num_training_batches, method.total_steps * accumulated)))
        now = _clocks(method.device)
        self._window_seconds += now[0] - start[0]
        self._window_processor += now[1] - start[1]
        return coming

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        flops = float(flops_of_step(optimizer) * trainer.world_size)
        if self.optimizer_flops is None:  # the steps so far cost what this one costs
            self.optimizer_flops = trainer.global_step * flops
        self.optimizer_flops += flops

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TokenBatch, batch_idx: int
    ) -> None:
        self._window_tokens += batch.all_tokens
        self._window_positions += batch.all_positions
        logs = trainer.global_step % trainer.log_every_n_steps == 0
        if logs and pl_module.device.type == "cuda":
            torch.cuda.synchronize()  # otherwise launching is timed, not computing
        now = _clocks(pl_module.device)
        if self._last is not None:
            self._window_seconds += now[0] - self._last[0]
            self._window_processor += now[1] - self._last[1]
        self._last = now
        if logs:
            self._log_window(pl_module)

    def _log_window(self, pl_module: LightningModule) -> None:
        """Add what was counted since the last log to the totals, log them, and start counting anew."""
        window = torch.tensor([self._window_tokens, self._window_positions], device=pl_module.device)
        tokens, positions = sum_over_ranks(window).tolist()
        self.tokens += tokens
        self.seconds = self._seconds_so_far(pl_module.device)
        rate = tokens / self._window_seconds
        self._window_tokens = self._window_positions = 0
        self._window_seconds = self._window_processor = 0.0
        pl_module.log(RATE, rate, prog_bar=True)
        pl_module.log("train/mfu", rate * self.flops_per_token / self._peak)
        pl_module.log(TOKENS, float(self.tokens))
        pl_module.log(READ, self.tokens * self.reads_per_token)
        pl_module.log(FLOPS, self._flops(self.tokens))
        if self.seconds is not None:
            pl_module.log(SECONDS, self.seconds)
        pl_module.log("train/padding", 1 - tokens / positions)
        pl_module.log(MEMORY, peak_memory(pl_module.device))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the costs so far beside the validation's metrics, so that either can be the axis of a plot."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        for kind, number in self.spent(pl_module.device).items():
            pl_module.log(COLUMNS[kind], number)

    def spent(self, device: torch.device) -> dict[str, float]:
        """Tokens, tokens read, FLOPs and processor seconds of all ranks so far; a resumed run may not know its seconds."""
        tokens = self.tokens + int(sum_over_ranks(torch.tensor(self._window_tokens, device=device)))
        seconds = self._seconds_so_far(device)
        spent = {"tokens": float(tokens), "flops": self._flops(tokens)}
        if self.reads_per_token is not None:  # before the first batch they are not known
            spent["tokens_read"] = tokens * self.reads_per_token
        return spent if seconds is None else spent | {"seconds": seconds}

    def _flops(self, tokens: int) -> float:
        """FLOPs of all ranks after so many tokens; before the first batch, those per token are not known."""
        return tokens * (self.flops_per_token or 0.0) + (self.optimizer_flops or 0.0)

    def _seconds_so_far(self, device: torch.device) -> float | None:
        """Processor seconds of all ranks, those since the last log included; None if those before are not known."""
        window = float(sum_over_ranks(torch.tensor(self._window_processor, device=device)))
        return None if self.seconds is None else self.seconds + window

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._last = None


def _clocks(device: torch.device) -> tuple[float, float]:
    """Seconds of the clock and of the processors that compute; of a GPU, those of the clock."""
    clock = time.perf_counter()
    return clock, time.process_time() if device.type == "cpu" else clock


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """The device's peak in floating-point operations a second.

    That is the vendor's figure where Lightning knows the card, and otherwise the best speed of large matrix products here.
    """
    if device.type == "cuda":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "FLOPs not found")  # for this card
            known = get_available_flops(device, dtype)
        if known:
            return float(known)
        return _speed_of_products(device, dtype, size=4096, number=8)  # enough work that launching takes no time
    return _speed_of_products(device, dtype, size=1024, number=1)


def _speed_of_products(device: torch.device, dtype: torch.dtype, size: int, number: int) -> float:
    """Floating-point operations a second of `number` products of (size, size) matrices: the best of five trials."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(number):
            product = left @ right
        float(product[0, 0])  # waits for the last one
        seconds.append(time.perf_counter() - start)
    return 2 * number * size**3 / min(seconds)


def peak_memory(device: torch.device) -> float:
    """The peak number of bytes of the tensors on a GPU or, on a CPU, of the process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _compute_dtype(trainer: Trainer) -> torch.dtype:
    precision = str(trainer.precision)
    return torch.bfloat16 if "bf16" in precision else torch.float16 if "16" in precision else torch.float32
