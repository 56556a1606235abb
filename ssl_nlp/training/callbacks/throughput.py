"""Tokens and floating-point operations of a training: their rate, their number, and the share of the hardware's peak."""

import math
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ssl_nlp.data import TokenBatch
from ssl_nlp.encoders import Encoder
from ssl_nlp.evaluation.cost import FLOPS, MEMORY, RATE, READ, SECONDS, TOKENS
from ssl_nlp.seeding import random_state_kept
from ssl_nlp.training.module import Module
from ssl_nlp.training.optimizers import flops_of_step
from ssl_nlp.training.parts import buffers_kept, mere_count
from ssl_nlp.training.players import Player, acting_in, losses
from ssl_nlp.training.ranks import sum_over_ranks

PARTS = 4
"""Of a training, in the middle of each of which the cost of a step is counted where it changes."""


class Throughput(Callback):
    """Logs what a training costs, under `train/`.

    `tokens_per_second`, `mfu`, `tokens`, `tokens_read`, `flops`, `processor_seconds`, `padding` and `peak_memory`.

    Tokens exclude padding and are summed over ranks. `tokens` are those of the text; `tokens_read` counts each as often as
    networks of the method read it, by the first batch (`training_cost`). `padding` is its share of the positions since the
    last log, in the batches as the data module made them.

    Seconds are those of training: they include waiting for data, but neither validation nor checkpoints. Those of
    processors are summed over cores and ranks: a machine that is busy with other work does not lengthen them. A GPU counts
    as busy all the time.

    FLOPs are counted, not estimated: those of the forward and backward pass of the first batch under torch's counter, per
    token, of each player what it really does, and on average over the steps where a setting is a `Ramp`. Those of Muon are
    added in each step, on every rank (of which FSDP spares some). Model FLOPs utilisation (`mfu`; Chowdhery et al.,
    arXiv:2204.02311, appendix B) leaves the optimizer's out, and divides by the vendor's peak if Lightning knows it, else
    by the speed of a large matrix product measured at the start.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.flops_per_token: float | None = None  # not yet counted
        self.reads_per_token: float | None = None  # likewise, and in checkpoints of earlier versions
        self.optimizer_flops: float | None = 0.0  # of all steps and ranks; None: begun before they were counted
        self.seconds: float | None = 0.0  # of processors; None: begun before they were counted
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
            counted, tokens = training_cost(pl_module, batch), max(batch.all_tokens, 1)
            self.reads_per_token = counted.tokens_read / tokens
            if self.flops_per_token is None:  # a run that is resumed goes on with its number
                self.flops_per_token = counted.flops / tokens
            if pl_module.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(pl_module.device)  # counting needs as much as an eager step
            self._last = _clocks(pl_module.device)
        elif self._last is None:
            self._last = _clocks(pl_module.device)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        flops = float(flops_of_step(optimizer) * trainer.world_size)
        if self.optimizer_flops is None:
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
        spent = self.spent(pl_module.device)
        for name, column in (("tokens", TOKENS), ("tokens_read", READ), ("flops", FLOPS), ("seconds", SECONDS)):
            if name in spent:
                pl_module.log(column, spent[name])

    def spent(self, device: torch.device) -> dict[str, float]:
        """Tokens, tokens read, FLOPs and processor seconds of all ranks so far; a resumed run may not know its seconds."""
        tokens = self.tokens + int(sum_over_ranks(torch.tensor(self._window_tokens, device=device)))
        seconds = self._seconds_so_far(device)
        spent = {"tokens": float(tokens), "flops": self._flops(tokens)}
        if self.reads_per_token is not None:  # before the first batch they are not known
            spent["tokens_read"] = tokens * self.reads_per_token
        return spent if seconds is None else spent | {"seconds": seconds}

    def _flops(self, tokens: int) -> float:
        """FLOPs of all ranks, after so many tokens; those per token are not known before the first of them."""
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


class TrainingCost(NamedTuple):
    """What a method spends on a batch: floating-point operations, and tokens that its networks read."""

    flops: float
    tokens_read: float


def training_cost(method: Module, batch: TokenBatch) -> TrainingCost:
    """The cost of one forward and backward pass of the loss; leaves everything as `forward_flops` does.

    Both passes are done. Of several players, each that acts computes the gradients of its own parameters alone. Where some
    players rest in some steps, or a setting changes during training, this is the average over the steps. Where batches are
    accumulated, counting their targets beforehand is included: some methods need a forward pass for it. A method without a
    network (word vectors, counts of n-grams) reads each token once.
    """
    steps = _typical_steps(method)
    cost = _mean([_cost_in(step, method, batch) for step in steps], [1] * len(steps))
    if method.trained and method.trainer.accumulate_grad_batches > 1:
        with _counting(method) as counter, _reading(method) as read:
            method.count_targets(method.visible(batch))
        cost = TrainingCost(cost.flops + counter.get_total_flops(), cost.tokens_read + sum(read))
    return cost._replace(tokens_read=cost.tokens_read or float(batch.all_tokens))


def _mean(costs: Sequence[TrainingCost], weights: Sequence[int]) -> TrainingCost:
    """The weighted mean of costs."""
    flops, reads = (
        sum(weight * number for weight, number in zip(weights, numbers, strict=True)) / sum(weights)
        for numbers in zip(*costs, strict=True)
    )
    return TrainingCost(flops, reads)


def _typical_steps(method: Module) -> list[int | None]:
    """Steps of a training that cost on average what all cost; the one that the module is in if all cost the same."""
    if not method.ramps():
        return [None]
    if method.total_steps == math.inf:
        return [max(int(ramp.steps) for ramp in method.ramps().values())]  # after which no setting changes any more
    return [round(method.total_steps * (2 * part + 1) / (2 * PARTS)) for part in range(PARTS)]


def _cost_in(step: int | None, method: Module, batch: TokenBatch) -> TrainingCost:
    """`training_cost` in one step."""
    parts = [part for part in method.modules() if isinstance(part, Module)]
    for part in parts:
        part.pretended_step = step
    try:
        return _counted_cost(method, batch)
    finally:
        for part in parts:
            part.pretended_step = None


def _counted_cost(method: Module, batch: TokenBatch) -> TrainingCost:
    """`training_cost` in the step that the module is in."""
    if method.sharded:
        return _estimated_cost(method, batch)
    players = method.players()
    steps = math.lcm(*(player.every for player in players.values()))
    turns = Counter(acting_in(step, players) for step in range(steps))
    try:
        return _mean([_step_cost(method, batch, players, acting) for acting in turns], [*turns.values()])
    except torch.OutOfMemoryError:  # a compiled encoder needs less
        return _estimated_cost(method, batch)


def _step_cost(
    method: Module, batch: TokenBatch, players: Mapping[str, Player], acting: frozenset[str]
) -> TrainingCost:
    """The cost of a step in which these players act."""
    method.acting = acting
    try:
        with _counting(method) as counter, _reading(method) as read, torch.enable_grad():
            with method.trainer.precision_plugin.forward_context() if method.trained else nullcontext():
                loss = method.loss(method.visible(batch))
                minimised, penalty = losses(loss, loss.targets, players, acting), method.encoder.penalty()
            minimised = (minimised if penalty is None else minimised + penalty).reshape(-1)
            trained = [player.parameters() for name, player in players.items() if name in acting]
            for one, parameters in zip(minimised, trained, strict=True):
                if one.requires_grad:
                    torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
    finally:
        method.acting = None
    return TrainingCost(counter.get_total_flops(), sum(read))


@contextmanager
def _reading(method: Module) -> Iterator[list[int]]:
    """A list that gets the number of tokens whenever a network of the method reads a batch.

    Networks are all `Encoder`s: those of decoders, generators and momentum encoders are, too. Two directions that see
    nothing of each other are two networks. Padding, prompts and latent vectors are no tokens.
    """
    read: list[int] = []

    def count(network: Any, args: Any, kwargs: Any) -> None:
        batch = kwargs["batch"] if "batch" in kwargs else args[0]
        read.append(int(batch.is_text.sum()) * (2 if network.separate else 1))

    networks = [part for part in method.modules() if isinstance(part, Encoder)]
    # Before the hook of a prompt, which adds positions.
    hooks = [network.register_forward_pre_hook(count, prepend=True, with_kwargs=True) for network in networks]
    try:
        yield read
    finally:
        for hook in hooks:
            hook.remove()


def _estimated_cost(method: Module, batch: TokenBatch) -> TrainingCost:
    """`training_cost` with `estimated_flops`."""
    with _reading(method) as read:
        flops = estimated_flops(method, batch)
    return TrainingCost(flops, sum(read))


def estimated_flops(method: Module, batch: TokenBatch) -> int:
    """The FLOPs of a training step where no backward pass can be tried: parameters are sharded, or memory is too small.

    Three times those of the forward pass (Kaplan et al., arXiv:2001.08361, section 2.1), less the products that frozen
    weights of the encoder spare.
    """
    with _spared(method.encoder) as spared:
        forward = forward_flops(method, batch)
    frozen = not all(parameter.requires_grad for parameter in method.encoder.parameters())
    return 3 * forward - sum(spared) * frozen


@contextmanager
def _spared(encoder: Encoder) -> Iterator[list[int]]:
    """A list that gets the operations that backward passes through an encoder do without, one number for each product.

    A frozen weight needs no gradient; nor does the input of a linear map before which nothing is trained.
    """
    spared: list[int] = []
    trained = False

    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal trained
        trained = encoder.prompt_length > 0

    def count(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal trained
        for name, weight in module.named_parameters(recurse=False):
            if name.startswith("weight") and weight.ndim == 2 and not isinstance(module, nn.Embedding):
                given = args[0].data  # of a tensor or a packed sequence
                product = 2 * weight.numel() * (given.numel() // given.shape[-1])
                own = name.startswith("weight_hh") and weight.requires_grad  # reads states that depend on it
                spared.append(product * ((not weight.requires_grad) + (not (trained or own))))
        trained = trained or any(parameter.requires_grad for parameter in module.parameters())

    hooks = [encoder.register_forward_pre_hook(begin, with_kwargs=True)]
    hooks += [module.register_forward_hook(count) for module in encoder.modules() if module is not encoder]
    try:
        yield spared
    finally:
        for hook in hooks:
            hook.remove()


def forward_flops(method: Module, batch: TokenBatch) -> int:
    """Floating-point operations of one forward pass of the loss; leaves random state, buffers and metrics alone."""
    with _counting(method) as counter, torch.no_grad():
        method.loss(method.visible(batch))
    return counter.get_total_flops()


@contextmanager
def _counting(method: Module) -> Iterator[FlopCounterMode]:
    """A counter of the operations that are done meanwhile; random state and buffers are restored after."""
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS)
    counter.mod_tracker = _OneModule()  # type: ignore[assignment]  # it has what the counter asks for
    eager = torch.compiler.set_stance("force_eager")
    with random_state_kept(method.device), mere_count(), buffers_kept(method), eager, counter:
        yield counter


class _OneModule(nullcontext[None]):
    """Counts for no module in particular.

    torch's own tracker fails where a module is called under `no_grad` with a tensor that has a gradient.
    """

    parents = ("Global",)


def _attention_flops(query: list[int], key: list[int], value: list[int], *_: Any, **__: Any) -> int:
    """FLOPs of the two products in attention, from the shapes (B, heads, T, D)."""
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(
    gradient: list[int], query: list[int], key: list[int], value: list[int], *_: Any, **__: Any
) -> int:
    """FLOPs of the products in the backward pass of attention, from the shapes (B, heads, T, D)."""
    return int(sdpa_backward_flop_count(gradient, query, key, value))


def _recurrent_flops(inputs: list[int], weights: list[list[int]], *_: Any, **__: Any) -> int:
    """FLOPs of the products in a recurrent layer: each token meets every matrix of the weights once."""
    return 2 * math.prod(inputs[:-1]) * sum(math.prod(weight) for weight in weights if len(weight) == 2)


def _recurrent_backward_flops(*args: Any, **__: Any) -> int:
    """FLOPs of the products in the backward pass of a recurrent layer: the gradients of inputs, and those of weights."""
    return 2 * _recurrent_flops(*args)


# What torch's own list lacks: the attention kernel for CPUs, and the recurrent layers of cuDNN.
_MORE_FLOPS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    torch.ops.aten._cudnn_rnn: _recurrent_flops,
    torch.ops.aten._cudnn_rnn_backward: _recurrent_backward_flops,
}


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
