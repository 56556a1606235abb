"""Equal budgets for `compare`: the steps of each training that cost the same tokens read, FLOPs or processor seconds."""

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from filelock import FileLock

from ssl_nlp import __version__, durable, terminal
from ssl_nlp.commands.imports import as_options
from ssl_nlp.commands.tuning_space import as_arguments
from ssl_nlp.comparison.costs import COSTS
from ssl_nlp.errors import UserError
from ssl_nlp.runs.ancestry import Ancestor, reads_known, spent_by, spoken
from ssl_nlp.runs.run import RUNS

Kind = Literal["tokens", "flops", "seconds"]
Counted = Literal["tokens_read", "flops", "seconds"]
STEPS = 25  # of a rehearsal
COUNTING = 3  # the number of the way in which costs are counted: those of another way are not put beside


@dataclass(frozen=True)
class Budget:
    """The cost that each training may have.

    Attributes:
        kind: tokens (each counted as often as a network reads it), FLOPs or processor seconds.
        amount: how many; None for those of the cheapest training.
    """

    kind: Kind
    amount: float | None

    @property
    def counted(self) -> Counted:
        """The cost that is counted, by its key in `COSTS`."""
        return "tokens_read" if self.kind == "tokens" else self.kind


def parse_budget(text: str) -> Budget:
    """A budget from KIND or KIND=AMOUNT, such as `flops=2e12`.

    Raises:
        UserError: it is something else.
    """
    kind, equals, number = text.partition("=")
    try:
        amount = float(number) if equals else None
    except ValueError:
        amount = math.nan
    if kind not in get_args(Kind) or (amount is not None and not 0 < amount < math.inf):
        raise UserError(f"--budget {text}: use tokens, flops or seconds, with an amount or without, such as flops=2e12")
    return Budget(kind, amount)  # type: ignore[arg-type]  # checked above to be a Kind


def steps_within(
    budget: Budget,
    fits: Mapping[str, Sequence[str]],
    plans: Mapping[str, dict[str, Any]],
    name: str,
    imports: Sequence[str],
) -> dict[str, int]:
    """The number of steps of each training that costs the budget, rounded; at least one.

    What the ancestors of its weights cost is taken off the budget, as far as it is known.

    The cost of a step is measured once, in a rehearsal of a few steps, and kept in `runs/NAME-budget.json`: trainings that
    are resumed, or get more seeds later, have equal steps. Another version of this package or of torch measures again.

    Args:
        budget: what each may cost.
        fits, plans: the arguments of each `fit`, and its complete configuration.
        name: of the comparison.
        imports: the values of `--import`.

    Raises:
        UserError: a training costs nothing of the kind, or seconds that are not counted; its ancestors leave too little;
            no amount is given and one has no `max_steps`; or a rehearsal fails.
    """
    if budget.kind == "seconds":
        _refuse_workers(plans)
    counted, cost = budget.counted, COSTS[budget.counted]
    rehearsed = _rehearsed(counted, fits, plans, RUNS.absolute() / f"{name}-budget.json", imports)
    costs = {stem: step[counted] for stem, step in rehearsed.items()}
    if free := [stem for stem, each in costs.items() if not each]:
        raise UserError(f"{free[0]} costs no {cost.name}: leave it out, or choose another --budget")
    before = {stem: _before(stem, counted, step.get("ancestry", [])) for stem, step in rehearsed.items()}
    amount = _least(costs, before, plans) if budget.amount is None else budget.amount
    for stem, spent in before.items():
        if spent and amount - spent < costs[stem]:
            raise UserError(
                f"--budget: {stem} starts from weights that cost {spent / cost.unit:,.3g} {cost.title}, which leaves "
                f"less than a step of {amount / cost.unit:,.3g}: give a larger amount, or leave {stem} out"
            )
    steps = {stem: max(round((amount - before[stem]) / each), 1) for stem, each in costs.items()}
    for stem, number in steps.items():
        more = f", its ancestors {before[stem] / cost.unit:,.3g}" if before[stem] else ""
        terminal.say(f"{stem}: {number:,} steps cost {number * costs[stem] / cost.unit:,.3g} {cost.title}{more}")
    return steps


def _rehearsed(
    counted: Counted,
    fits: Mapping[str, Sequence[str]],
    plans: Mapping[str, dict[str, Any]],
    path: Path,
    imports: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """The cost of a step of each training, taken from a file, or measured and added to it."""
    known = _measured(path)
    keys = {stem: _key(plan) for stem, plan in plans.items()}
    if again := [stem for stem, key in keys.items() if counted in known.get(key, {})]:
        terminal.say(f"{', '.join(again)}: a step costs what {path} says; delete the file to measure it again")
    for stem, key in keys.items():
        if counted not in known.get(key, {}):  # earlier versions did not count all that there is now
            terminal.say(f"{stem}: measuring what a step costs")
            known = _keep(path, {key: rehearse(fits[stem], imports)})
    return {stem: known[key] for stem, key in keys.items()}


def _before(stem: str, kind: Counted, ancestry: Sequence[Ancestor]) -> float:
    """The known cost of a training's ancestors. Those whose cost is unknown are reported and count as nothing."""
    costs = [spent_by(one, kind) for one in ancestry]
    once = [one for one, number in zip(ancestry, costs, strict=True) if number is not None and not reads_known(one)]
    if once and kind == "tokens_read":
        terminal.say(
            f"Not equal: {stem} starts from {'; '.join(map(spoken, once))}, whose tokens count once each: how often they "
            "were read is not known"
        )
    if unknown := [spoken(one) for one, number in zip(ancestry, costs, strict=True) if number is None]:
        terminal.say(
            f"Not equal: {stem} starts from {'; '.join(unknown)}, whose {COSTS[kind].name} are not known and not counted"
        )
    return sum(number for number in costs if number is not None)


def _least(costs: Mapping[str, float], before: Mapping[str, float], plans: Mapping[str, dict[str, Any]]) -> float:
    """The cost of the cheapest training with the steps of its configuration, and of its ancestors."""
    steps = {stem: plan["trainer"]["max_steps"] for stem, plan in plans.items()}
    if endless := [stem for stem, number in steps.items() if number < 1]:
        raise UserError(
            f"{endless[0]} has no trainer.max_steps: set it, or give an amount, such as --budget flops=2e12"
        )
    return min(before[stem] + steps[stem] * cost for stem, cost in costs.items())


def _refuse_workers(plans: Mapping[str, dict[str, Any]]) -> None:
    """Refuse data workers on CPUs, because their seconds are not counted. On a GPU, wall-clock seconds count."""
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    for stem, plan in plans.items():
        workers = plan["data"]["init_args"].get("workers", 0)
        if workers and (plan["trainer"]["accelerator"] == "cpu" or not gpu):
            raise UserError(
                f"--budget seconds does not count the data workers of {stem}: set --data.workers=0, not {workers}"
            )


def _key(plan: Mapping[str, Any]) -> str:
    """An identifier of a training and of the code that runs it, which does not depend on its length."""
    trainer = {name: value for name, value in plan["trainer"].items() if name not in ("max_steps", "max_epochs")}
    code = {"ssl_nlp": __version__, "torch": str(torch.__version__), "counting": COUNTING}
    return hashlib.sha256(yaml.safe_dump({**plan, "trainer": trainer, "code": code}).encode()).hexdigest()


def _measured(path: Path) -> dict[str, dict[str, Any]]:
    """The costs of a step, and the ancestors, in a file, by the key of the training; none if there is no file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _keep(path: Path, measured: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add costs to a file, which other processes may write too, and return all that it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        known = {**_measured(path), **measured}
        durable.write_text(path, json.dumps(known, indent=1))
    return known


def rehearse(fit: Sequence[str], imports: Sequence[str]) -> dict[str, Any]:
    """Train a few steps in a process of its own, and keep nothing.

    Returns:
        What a step costs on average, by kind, and the `ancestry` of the weights.

    Args:
        fit: the arguments of the `fit`.
        imports: the values of `--import`.

    Raises:
        UserError: the training fails.
    """
    from ssl_nlp.commands import train_runs  # which imports this module

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "costs.json"
        callback = {"class_path": "ssl_nlp.training.callbacks.Rehearsal", "init_args": {"file": str(file)}}
        short = [*as_arguments({"trainer.callbacks+": callback}), f"--trainer.fast_dev_run={STEPS}"]
        if status := train_runs.run_fit([*as_options(imports), *fit, *short]):
            raise UserError(
                f"a training of {STEPS} steps, which measures their cost, failed (exit status {status}): fix what is "
                "reported above, and run the same command again"
            )
        return dict(json.loads(file.read_text(encoding="utf-8")))
