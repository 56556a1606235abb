"""Optimizers and schedules, created from their settings."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from ssl_nlp.encoders.depth import layers_of, parameter_depths
from ssl_nlp.errors import UserError
from ssl_nlp.runs.checkpoint import subclasses
from ssl_nlp.training.muon import Muon
from ssl_nlp.training.optimization import Optimization, learning_rate_factor
from ssl_nlp.training.players import Player


def check_paths(optimization: Optimization) -> None:
    """Check before the data are prepared that the classes that settings name by their paths are known.

    Raises:
        UserError: one is not.
    """
    if "." in optimization.optimizer:
        _loaded(optimization.optimizer, Optimizer, "optimizer")
    if "." in optimization.schedule:
        _loaded(optimization.schedule, LRScheduler, "schedule")


def build(
    players: Mapping[str, Player], encoder: nn.Module, total_steps: float, restarts: Sequence[int]
) -> tuple[Optimizer, LRScheduler]:
    """The optimizers of all players as one, and their schedules as one; see the two functions below."""
    optimizer = build_optimizers(players, encoder)
    return optimizer, build_schedule(optimizer, players, total_steps, restarts)


def build_optimizers(players: Mapping[str, Player], encoder: nn.Module | None = None) -> Optimizer:
    """The optimizers of all players as one; its parameter groups are named `PLAYER/GROUP`.

    Args:
        players: by name.
        encoder: to whose layers `layer_decay` applies.

    Raises:
        UserError: as `build_optimizer`, a parameter has two players, or there are steps in which nobody acts.
    """
    if all(player.every > 1 for player in players.values()):
        raise UserError(f"one of {', '.join(players)} must act in every step: set its share to 1")
    built = {name: build_optimizer(player.module, player.optimization, encoder) for name, player in players.items()}
    if len(built) == 1:
        return next(iter(built.values()))
    trained = [parameter for player in players.values() for parameter in player.parameters()]
    if len(trained) > len(set(trained)):
        raise UserError(f"a parameter belongs to two of the players {', '.join(players)}: give it to one")
    for name, optimizer in built.items():
        for group in optimizer.param_groups:
            group["name"] = f"{name}/{group['name']}"
    return Combined([*built.values()])


def build_schedule(
    optimizer: Optimizer, players: Mapping[str, Player], total_steps: float, restarts: Sequence[int] = ()
) -> LRScheduler:
    """The schedules of all players, as one schedule of the optimizer from `build_optimizers`.

    Args:
        optimizer: theirs, with its learning rates at their peak.
        players: by name.
        total_steps: of the whole training; infinite if unknown.
        restarts: the numbers of steps after which the schedules begin anew, that of the last step included; none: never.

    Raises:
        UserError: a schedule needs the number of steps, which is unknown; or a class that is named cannot serve.
    """
    paths = [player.optimization.schedule for player in players.values() if "." in player.optimization.schedule]
    if not paths:
        return LambdaLR(
            optimizer, [_factor(group, players, restarts or [total_steps]) for group in optimizer.param_groups]
        )
    if len(players) > 1:
        raise UserError(f"optimization: schedule {paths[0]} cannot serve one of several players: use one of ours")
    if restarts:
        raise UserError(f"optimization: schedule {paths[0]} cannot begin anew: set data.restart_schedule to false")
    kind = _loaded(paths[0], LRScheduler, "schedule")
    if issubclass(kind, ReduceLROnPlateau):
        raise UserError(f"optimization: schedule {paths[0]} follows a metric, not the steps: use another one")
    [player] = players.values()
    return _created(kind, "schedule", paths[0], optimizer, **player.optimization.schedule_args or {})


def _factor(group: dict[str, Any], players: Mapping[str, Player], ends: Sequence[float]) -> Callable[[int], float]:
    """The factor of a group in each step; the schedule covers the steps up to each of the ends anew."""
    player = next(players[name] for name in players if len(players) == 1 or group["name"].startswith(f"{name}/"))
    starts = [0, *ends[:-1]]

    def factor(step: int) -> float:
        number = min(bisect_right(ends, step), len(ends) - 1)
        start = int(starts[number])
        return learning_rate_factor(step - start, ends[number] - start, player.optimization)

    return factor


def flops_of_step(optimizer: Optimizer) -> int:
    """Floating-point operations of the matrix products in a step, for the parameters that have a gradient now.

    Muon is the only optimizer of ours that has any. One that is named by its class path counts as if it had none.
    """
    if isinstance(optimizer, Combined):
        return sum(flops_of_step(part) for part in optimizer.parts)
    return optimizer.flops() if isinstance(optimizer, Muon) else 0


def rates_of_step(schedule: LRScheduler) -> list[float] | None:
    """The learning rates that a schedule of ours gives its step; None for a schedule that is named by its path."""
    if type(schedule) is not LambdaLR:
        return None
    step = schedule.last_epoch
    return [float(base * factor(step)) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]


def follow(schedule: LRScheduler) -> None:
    """Give the optimizer the rates of the schedule's step: a checkpoint restores those of the run that saved it."""
    for group, rate in zip(schedule.optimizer.param_groups, rates_of_step(schedule) or (), strict=False):
        group["lr"] = rate


def logged_rates(optimizer: Optimizer) -> dict[str, float]:
    """The learning rates by the names of the groups; of groups that differ by their layer alone, the highest rate.

    A group of empty parameters learns nothing and has no rate.
    """
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        if not any(parameter.numel() for parameter in group["params"]):
            continue
        name = group["name"].partition(".")[0]
        rates[name] = max(group["lr"], rates.get(name, 0.0))
    return rates


def build_optimizer(module: nn.Module, optimization: Optimization, encoder: nn.Module | None = None) -> Optimizer:
    """An optimizer of all parameters that require a gradient, each once.

    The parameter groups have names. `no_decay`: norms, biases, embeddings and other vectors. `muon`, with Muon: the other
    matrices, except those with the shape of an embedding, which are output layers over its vocabulary. `decay`: the rest.
    With `layer_decay`, those of the encoder's layers are groups of their own, such as `decay.layer_3`.

    Args:
        module: has the parameters.
        optimization: optimizer and its settings.
        encoder: to whose layers `layer_decay` applies.

    Raises:
        UserError: nothing can be trained, Muon finds no whole matrix, or the class that is named cannot serve.
    """
    groups = _parameter_groups(module, optimization.optimizer == "muon")
    if not any(groups.values()):
        raise UserError(
            "nothing to train: all parameters are frozen: set encoder.freeze to embeddings, a number of layers or null"
        )
    if "." in optimization.optimizer:
        return _named_optimizer(groups, optimization, encoder)
    adamw = {"lr": optimization.learning_rate, "betas": optimization.betas, "eps": optimization.eps}
    others = _by_layer(_decay_groups(groups, optimization, adamw), optimization.layer_decay, encoder)
    if optimization.optimizer == "adamw":
        optimizer: Optimizer = AdamW(others, fused=True)
        # Lightning refuses to clip gradients for an optimizer that could unscale them itself. Let it unscale them first.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]  # set without a declaration
        return optimizer
    if not groups["muon"]:
        raise UserError("optimization: muon finds no whole matrix (there is none, or FSDP has cut them): set adamw")
    matched = optimization.muon_learning_rate is None
    muon = {
        "name": "muon",
        "params": groups["muon"],
        "lr": optimization.learning_rate if matched else optimization.muon_learning_rate,
        "weight_decay": optimization.weight_decay,
        "match_adamw": matched,
    }
    matrices = Muon(_by_layer([muon], optimization.layer_decay, encoder))
    return Combined([matrices, *([AdamW(others, fused=True)] if others else [])])


def _by_layer(groups: list[dict[str, Any]], decay: float, encoder: nn.Module | None) -> list[dict[str, Any]]:
    """Divide parameter groups by the layers of the encoder, and lower their rates from each layer to the one below."""
    if decay == 1 or encoder is None:
        return groups
    depths, top = parameter_depths(encoder), len(layers_of(encoder)) + 1
    divided = []
    for group in groups:
        found: dict[int, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            found.setdefault(depths.get(parameter, top), []).append(parameter)
        for depth, parameters in sorted(found.items(), reverse=True):
            place = "" if depth == top else f".layer_{depth}" if depth else ".embeddings"
            rate = group["lr"] * decay ** (top - depth)
            divided.append(group | {"name": group["name"] + place, "params": parameters, "lr": rate})
    return divided


def _parameter_groups(module: nn.Module, muon: bool) -> dict[str, list[Tensor]]:
    """The parameters that require a gradient, by the name of their group."""
    groups: dict[str, list[Tensor]] = {"muon": [], "decay": [], "no_decay": []}
    embeddings = {p for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    vocabularies = {p.shape for p in embeddings if p.shape[0] != p.shape[-1]}
    seen: set[Tensor] = set()
    for owner in module.modules():
        norm = "norm" in type(owner).__name__.lower()
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            vector = (parameter.ndim < 2 or 1 in parameter.shape) and "weight" not in name
            if norm or "bias" in name or parameter in embeddings or vector:
                groups["no_decay"].append(parameter)
            elif muon and parameter.ndim == 2 and parameter.shape not in vocabularies:
                groups["muon"].append(parameter)
            else:
                groups["decay"].append(parameter)
    return groups


def _decay_groups(
    parameters: dict[str, list[Tensor]], optimization: Optimization, shared: dict[str, Any]
) -> list[dict[str, Any]]:
    decay = {"decay": optimization.weight_decay, "no_decay": 0.0}
    return [
        {"name": name, "params": parameters[name], "weight_decay": decay[name], **shared}
        for name in decay
        if parameters[name]
    ]


def _named_optimizer(
    groups: dict[str, list[Tensor]], optimization: Optimization, encoder: nn.Module | None
) -> Optimizer:
    """An optimizer of the class that the settings name, with our learning rate, weight decay and groups."""
    kind = _loaded(optimization.optimizer, Optimizer, "optimizer")
    rate = {"lr": optimization.learning_rate}
    arguments = rate | (optimization.optimizer_args or {})
    divided = _by_layer(_decay_groups(groups, optimization, rate), optimization.layer_decay, encoder)
    return _created(kind, "optimizer", optimization.optimizer, divided, **arguments)


def _loaded(path: str, base: type, what: str) -> Any:
    """The class of that path among those already loaded: settings from elsewhere never import anything."""
    for kind in subclasses([base]):
        places = {kind.__module__, kind.__module__.rpartition(".")[0]}  # torch.optim.adam.Adam is torch.optim.Adam
        if path in {f"{place}.{kind.__qualname__}" for place in places}:
            return kind
    raise UserError(
        f"optimization: {what} {path} is not the path of a known {base.__name__}: write it like "
        f"{'torch.optim.SGD' if base is Optimizer else 'torch.optim.lr_scheduler.StepLR'}, or, if the class is yours, "
        "name its file with --import FILE.py"
    )


def _created(kind: Any, what: str, path: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return kind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimization: {path} does not take these {what}_args: {error}") from error


class Combined(Optimizer):
    """Several optimizers over different parameters as one, so that schedules and checkpoints see one optimizer.

    Args:
        optimizers: their parameter groups, in this order, are those of the whole.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.parts = list(optimizers)
        super().__init__([group for part in self.parts for group in part.param_groups], defaults={})
        self._share()

    def _share(self) -> None:
        """Make the parts use the groups and the state of the whole, which loading a checkpoint replaces."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state
            if isinstance(part, Combined):
                part._share()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"parts": self.parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
