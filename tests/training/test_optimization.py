"""Schedules against closed forms, and settings that contradict each other."""

import itertools
import math
from typing import Any, Literal

import pytest
from jsonargparse import ArgumentParser
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ssl_nlp.errors import UserError
from ssl_nlp.training.optimization import Optimization, learning_rate_factor
from ssl_nlp.training.optimizers import build_optimizers, build_schedule, follow
from ssl_nlp.training.players import Player

Schedule = Literal["cosine", "linear", "warmup_stable_decay", "constant"]
SCHEDULES: list[Schedule] = ["cosine", "linear", "warmup_stable_decay", "constant"]


# ------------------------------------------------------------------------------------------------------------ schedule


def factors(total: int = 1000, **settings: Any) -> list[float]:
    return [learning_rate_factor(step, total, Optimization(**settings)) for step in range(total + 1)]


@pytest.mark.parametrize(
    ("settings", "points"),
    [
        ({"schedule": "cosine", "final": 0.1}, {100: 1.0, 550: 0.55, 1000: 0.1, 325: 0.55 + 0.45 * math.sqrt(0.5)}),
        ({"schedule": "linear", "final": 0.0}, {100: 1.0, 550: 0.5, 999: 1 / 900, 1000: 0.0}),
        ({"schedule": "linear", "final": 0.5}, {100: 1.0, 550: 0.75, 1000: 0.5}),
        (
            {"schedule": "warmup_stable_decay", "decay": 0.2, "final": 0.1},
            {100: 1.0, 800: 1.0, 850: 0.55, 1000: 0.1},
        ),
        ({"schedule": "constant", "final": 0.1}, {100: 1.0, 550: 1.0, 1000: 1.0}),
    ],
)
@pytest.mark.parametrize("warmup", [100, 0.1])
def test_closed_form_points(settings: dict[str, Any], points: dict[int, float], warmup: int | float) -> None:
    curve = factors(warmup=warmup, **settings)
    assert curve[0] == 1 / 100
    assert curve[49] == 1 / 2
    assert curve[99] == 1
    for step, expected in points.items():
        assert curve[step] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "warmup", "total"), list(itertools.product(SCHEDULES, [0, 7, 500, 0.0, 0.3, 0.5], [1, 2, 10, 501]))
)
def test_rises_then_falls_and_stays_in_bounds(schedule: Schedule, warmup: int | float, total: int) -> None:
    curve = factors(total, schedule=schedule, warmup=warmup, decay=0.5, final=0.05)
    peak = curve.index(max(curve))
    assert all(a <= b for a, b in itertools.pairwise(curve[: peak + 1]))
    assert all(a >= b for a, b in itertools.pairwise(curve[peak:]))
    assert all(0 < factor <= 1 for factor in curve)
    if warmup < total:
        assert max(curve) == 1
        late = learning_rate_factor(10 * total, total, Optimization(schedule=schedule, warmup=warmup, final=0.05))
        assert late == pytest.approx(1 if schedule == "constant" else 0.05)


@pytest.mark.parametrize("total", [math.inf, -1])
def test_an_endless_run_can_only_be_constant(total: float) -> None:
    assert learning_rate_factor(4, total, Optimization(schedule="constant", warmup=10)) == 0.5
    assert learning_rate_factor(10**9, total, Optimization(schedule="constant", warmup=10)) == 1
    for schedule in SCHEDULES[:-1]:
        with pytest.raises(UserError, match=f"schedule {schedule} needs the number of steps: set trainer.max_steps"):
            learning_rate_factor(0, total, Optimization(schedule=schedule, warmup=10))
    with pytest.raises(UserError, match=r"warmup 0.05 as a share of all steps needs .* set trainer.max_steps"):
        learning_rate_factor(0, total, Optimization(schedule="constant"))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_training_that_becomes_longer_takes_its_next_step_at_the_rate_of_the_longer_schedule(name: Schedule) -> None:
    settings = Optimization(learning_rate=0.1, schedule=name, warmup=2)

    def after(steps: int, total: int) -> tuple[Optimizer, LRScheduler]:
        module = nn.Linear(2, 2)
        players = {"": Player(module, settings)}
        optimizer = build_optimizers(players)
        schedule = build_schedule(optimizer, players, total)
        for _ in range(steps):
            optimizer.step()
            schedule.step()
        return optimizer, schedule

    saved = [part.state_dict() for part in after(10, 10)]
    longer = after(0, 30)
    for part, state in zip(longer, saved, strict=True):
        part.load_state_dict(state)
    follow(longer[1])
    expected = after(10, 30)[0]
    assert [g["lr"] for g in longer[0].param_groups] == [g["lr"] for g in expected.param_groups]


# ------------------------------------------------------------------------------------------------------------ settings


def test_all_contradictions_are_reported_in_one_line() -> None:
    with pytest.raises(UserError) as error:
        Optimization(
            learning_rate=0,
            muon_learning_rate=-1,
            weight_decay=-0.1,
            betas=(0.9, 1.0),
            eps=0,
            warmup=1.5,
            decay=0,
            final=2,
        )
    message = str(error.value)
    assert "\n" not in message
    for name in (
        "; muon_learning_rate must be positive, or null, not -1;",
        "optimization: learning_rate must be positive, not 0;",
        "weight_decay",
        "betas",
        "eps",
        "warmup 1.5",
        "; decay must be",
        "; final must be",
    ):
        assert name in message, name
    assert message.count(";") == 7


def test_what_is_no_number_or_no_known_word_is_refused() -> None:
    names = ("learning_rate", "muon_learning_rate", "weight_decay", "eps", "warmup", "decay", "final")
    with pytest.raises(UserError) as error:
        Optimization(optimizer="sgd", schedule="step", **dict.fromkeys(names, math.nan))
    optimizer, schedule, *others = str(error.value).removeprefix("optimization: ").split("; ")
    assert optimizer.startswith("optimizer 'sgd' is unknown") and schedule.startswith("schedule 'step' is unknown")
    for name, problem in zip(names, others, strict=True):
        assert problem.startswith(f"{name} must be ") and problem.endswith(", not nan")


def test_warmup_and_decay_must_fit_into_the_run() -> None:
    with pytest.raises(UserError, match="^optimization: warmup 0.5 and decay 0.6 together exceed all steps$"):
        Optimization(schedule="warmup_stable_decay", warmup=0.5, decay=0.6)
    Optimization(schedule="warmup_stable_decay", warmup=0.5, decay=0.5)
    Optimization(schedule="linear", warmup=0.5, decay=0.6)


@pytest.mark.parametrize(("text", "expected"), [("200", 200), ("0.05", 0.05), ("1.0", 1.0), ("0", 0)])
def test_the_command_line_tells_steps_from_shares(text: str, expected: int | float) -> None:
    parser = ArgumentParser()
    parser.add_argument("--optimization", type=Optimization)
    warmup = parser.parse_args([f"--optimization.warmup={text}"]).optimization.warmup
    assert warmup == expected
    assert type(warmup) is type(expected)
