"""FLOPs of a training step, and the tokens that networks read in it, counted on a batch."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ssl_nlp.data import TokenBatch
from ssl_nlp.encoders import Encoder
from ssl_nlp.seeding import random_state_kept, seed_generators
from ssl_nlp.training.module import Module
from ssl_nlp.training.parts import buffers_kept, mere_count
from ssl_nlp.training.players import Player, acting_in, losses

PARTS = 4
"""Equal parts of a training: where the cost of a step changes, it is counted in the middle of each."""


COUNTED = 8
"""Batches whose cost is counted, where costs differ."""
COUNTING_SEED = 3_000_017


class TrainingCost(NamedTuple):
    """Cost of a step on a batch: floating-point operations, and tokens that the networks of the method read."""

    flops: float
    tokens_read: float


class CostPerToken(NamedTuple):
    """Mean cost of a token of the text: floating-point operations, and how often networks read it."""

    flops: float
    reads: float


def cost_per_token(method: Module, batches: Sequence[TokenBatch]) -> CostPerToken:
    """The mean cost of a token of batches, from the `training_cost` of some of them.

    FLOPs are interpolated between the sizes of batches; reads are in proportion to tokens.

    One batch is counted alone. Of several, `COUNTED` are, the smallest and the largest among them, and never fewer: losses
    may need all ranks. Each has random draws of its own.
    """
    ordered = sorted(batches, key=lambda batch: (batch.all_positions, batch.all_tokens))
    parts = COUNTED - 1 if len(batches) > 1 else 0
    counted = [ordered[part * (len(ordered) - 1) // max(parts, 1)] for part in range(parts + 1)]
    reads, by_size = 0.0, defaultdict(list)
    for number, batch in enumerate(counted):
        with random_state_kept(method.device):
            seed_generators(method.device, COUNTING_SEED, number)
            cost = training_cost(method, batch.to(method.device))
        reads += cost.tokens_read
        by_size[batch.all_positions].append(cost.flops)
    sizes = sorted(by_size)
    flops = np.interp([batch.all_positions for batch in batches], sizes, [np.mean(by_size[size]) for size in sizes])
    return CostPerToken(float(flops.sum()) / max(_tokens(batches), 1), reads / max(_tokens(counted), 1))


def _tokens(batches: Sequence[TokenBatch]) -> int:
    return sum(batch.all_tokens for batch in batches)


def training_cost(method: Module, batch: TokenBatch) -> TrainingCost:
    """The cost of the forward and backward pass of the loss, the mean over steps if they differ.

    Both passes are run, and leave everything as `forward_flops` does. Steps differ where some players rest, or where a
    setting is a `Ramp`. A player that acts computes the gradients of its own parameters only. Where batches are
    accumulated, counting their targets beforehand is included, for which some methods need a forward pass. A method
    without a network (word vectors, counts of n-grams) reads each token once.
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
    """Steps whose mean cost is that of all steps; None, the current one, if all cost the same."""
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
    """A list that receives the number of tokens each time that a network of the method reads a batch.

    Networks are all instances of `Encoder`, also those of decoders, generators and momentum encoders. Two directions that
    see nothing of each other count as two. Padding, prompts and latent vectors are not tokens.
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
    """A list that receives the operations that a backward pass through an encoder is spared, one number for each product.

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
    """Count the operations in the block; random state and buffers are restored after it."""
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


def _product_flops(added: list[int], one: list[int], other: list[int], *_: Any, **__: Any) -> int:
    """FLOPs of a product of matrices (N, K) and (K, M), or of as many of them, that is added to a tensor in place."""
    return 2 * math.prod(one) * other[-1]


def _onednn_flops(inputs: list[int], *weights: Any, **__: Any) -> int:
    """FLOPs of the products in an LSTM layer of oneDNN, whose weights are two matrices and two biases."""
    return _recurrent_flops(inputs, list(weights[:4]))


def _onednn_backward_flops(*args: Any, **__: Any) -> int:
    """FLOPs of the products in the backward pass of such a layer."""
    return 2 * _onednn_flops(*args)


# What torch's own list lacks: products that are added in place, the attention kernel for CPUs, and the recurrent layers of
# cuDNN and of oneDNN, which computes LSTMs on CPUs where equally many documents have a token at each position.
_MORE_FLOPS = {
    torch.ops.aten.addmm_: _product_flops,
    torch.ops.aten.baddbmm_: _product_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    torch.ops.aten._cudnn_rnn: _recurrent_flops,
    torch.ops.aten._cudnn_rnn_backward: _recurrent_backward_flops,
    torch.ops.aten.mkldnn_rnn_layer: _onednn_flops,
    torch.ops.aten.mkldnn_rnn_layer_backward: _onednn_backward_flops,
}
