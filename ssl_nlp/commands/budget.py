"""Equal budgets for `compare`: the steps of each training that cost the same tokens, FLOPs or processor seconds."""

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, get_args

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp import durable, terminal
from ssl_nlp.comparison.costs import COSTS
from ssl_nlp.errors import UserError
from ssl_nlp.runs.run import RUNS

Kind = Literal["tokens", "flops", "seconds"]
BEGINNING = 5  # steps of a rehearsal whose seconds do not count: they prepare the later ones
STEPS = 25  # of a rehearsal
BATCHES = 500  # whose tokens are counted


@dataclass(frozen=True)
class Budget:
    """The cost that each training may have.

    Attributes:
        kind: tokens, FLOPs or processor seconds.
        amount: how many; None for those of the cheapest training.
    """

    kind: Kind
    amount: float | None


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

    What a step costs is measured once, in a rehearsal of a few steps, and kept in `runs/NAME-budget.json`: trainings that
    are resumed, or get more seeds later, have equal steps.

    Args:
        budget: what each may cost.
        fits, plans: the arguments of each `fit`, and its complete configuration.
        name: of the comparison.
        imports: the values of `--import`.

    Raises:
        UserError: a training costs nothing of the kind, or no amount is given and one has no `max_steps`.
    """
    path = RUNS.absolute() / f"{name}-budget.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    keys = {stem: _key(plan) for stem, plan in plans.items()}
    for stem, key in keys.items():
        if key not in known:
            terminal.say(f"{stem}: measuring what a step costs")
            known[key] = rehearse(fits[stem], imports)
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.write_text(path, json.dumps(known, indent=1))
    costs = {stem: known[key][budget.kind] for stem, key in keys.items()}
    if free := [stem for stem, cost in costs.items() if not cost]:
        raise UserError(f"{free[0]} costs no {COSTS[budget.kind].name}: leave it out, or choose another --budget")
    amount = _least(costs, plans) if budget.amount is None else budget.amount
    steps = {stem: max(round(amount / cost), 1) for stem, cost in costs.items()}
    cost = COSTS[budget.kind]
    for stem, number in steps.items():
        terminal.say(f"{stem}: {number:,} steps cost {number * costs[stem] / cost.unit:,.3g} {cost.title}")
    return steps


def _least(costs: Mapping[str, float], plans: Mapping[str, dict[str, Any]]) -> float:
    """The cost of the cheapest training with the steps of its configuration."""
    steps = {stem: plan["trainer"]["max_steps"] for stem, plan in plans.items()}
    if endless := [stem for stem, number in steps.items() if number < 1]:
        raise UserError(
            f"{endless[0]} has no trainer.max_steps: set it, or give an amount, such as --budget flops=2e12"
        )
    return min(steps[stem] * cost for stem, cost in costs.items())


def _key(plan: Mapping[str, Any]) -> str:
    """An identifier of a training that does not depend on its length."""
    trainer = {name: value for name, value in plan["trainer"].items() if name != "max_steps"}
    return hashlib.sha256(yaml.safe_dump({**plan, "trainer": trainer}).encode()).hexdigest()


def rehearse(fit: Sequence[str], imports: Sequence[str]) -> dict[str, float]:
    """Train a few steps, keep nothing, and return what a step costs on average, by kind.

    Args:
        fit: the arguments of the `fit`.
        imports: the values of `--import`.
    """
    from ssl_nlp.commands.lightning_cli import Cli, run_cli
    from ssl_nlp.commands.trainer_settings import lightning_errors
    from ssl_nlp.training.callbacks import Throughput

    spent = Spent(Throughput())

    class Rehearsal(Cli):
        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks += [spent.throughput, spent]  # type: ignore[attr-defined]  # declared without a type by Lightning
            return trainer

    before = sys.argv
    try:
        with lightning_errors():
            cli = run_cli(Rehearsal, "fit", [*fit, f"--trainer.fast_dev_run={STEPS}"], imports)
    finally:
        sys.argv = before
    tokens = [batch.all_tokens for batch in islice(cli.datamodule.train_dataloader(), BATCHES)] + spent.batches
    batches = cli.trainer.accumulate_grad_batches * cli.trainer.world_size
    in_a_step = batches * sum(tokens) / len(tokens)
    counted, beginning = spent.costs[-1], spent.costs[min(BEGINNING, len(spent.costs) - 1) - 1]
    seconds = (counted["seconds"] - beginning["seconds"]) / (counted["tokens"] - beginning["tokens"])
    return {
        "tokens": in_a_step,
        "flops": in_a_step * counted["flops"] / counted["tokens"],
        "seconds": in_a_step * seconds,
    }


class Spent(Callback):
    """Notes the tokens of each batch, and all costs after it."""

    def __init__(self, throughput: Any) -> None:
        self.throughput = throughput
        self.batches: list[int] = []
        self.costs: list[dict[str, float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch.all_tokens)
        self.costs.append(self.throughput.spent(pl_module.device))
