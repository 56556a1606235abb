"""`ssl-nlp compare --budget`: each training gets the steps that cost the same."""

import json
from pathlib import Path

import pytest
import yaml

from ssl_nlp.commands import budget as budgets
from ssl_nlp.commands.budget import Budget, parse_budget, steps_within
from ssl_nlp.commands.fit import plan_fit
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.cost import cost
from ssl_nlp.runs.metrics_csv import read_numbers
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts

COSTS = {
    "cheap": {"tokens": 100.0, "flops": 2e6, "seconds": 0.5},
    "dear": {"tokens": 50.0, "flops": 8e6, "seconds": 4.0},
    "counts": {"tokens": 70.0, "flops": 0.0, "seconds": 0.25},
}


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """The steps of trainings that cost `COSTS`, and which of them were measured for it."""
    monkeypatch.chdir(tmp_path)

    def steps(budget, names, max_steps=100):
        measured = []
        monkeypatch.setattr(budgets, "rehearse", lambda fit, imports: measured.append(fit[0]) or COSTS[fit[0]])
        plans = {name: {"model": name, "trainer": {"max_steps": max_steps}} for name in names}
        return steps_within(parse_budget(budget), {name: [name] for name in names}, plans, "mine", []), measured

    return steps


def test_steps_cost_the_amount_and_are_measured_once(steps):
    assert steps("flops=4e8", ["cheap", "dear"]) == ({"cheap": 200, "dear": 50}, ["cheap", "dear"])
    assert steps("seconds=1000", ["cheap", "dear", "counts"]) == (
        {"cheap": 2000, "dear": 250, "counts": 4000},
        ["counts"],
    )
    assert steps("tokens=1", ["cheap"], max_steps=7) == ({"cheap": 1}, [])  # at least one, whatever it was before


def test_without_an_amount_it_is_that_of_the_cheapest(steps):
    assert steps("flops", ["cheap", "dear"])[0] == {"cheap": 100, "dear": 25}
    assert steps("tokens", ["cheap", "dear"])[0] == {"cheap": 50, "dear": 100}
    with pytest.raises(UserError, match=r"cheap has no trainer\.max_steps: set it, or give an amount"):
        steps("tokens", ["cheap", "dear"], max_steps=-1)


def test_what_costs_nothing_is_refused(steps):
    with pytest.raises(UserError, match="counts costs no FLOPs: leave it out, or choose another --budget"):
        steps("flops=1e9", ["cheap", "counts"])


@pytest.mark.parametrize("text", ["steps=5", "flops=", "flops=many", "tokens=0", "tokens=-1", "seconds=inf", "5"])
def test_other_budgets_are_refused(text):
    with pytest.raises(UserError, match=f"--budget {text}: use tokens, flops or seconds"):
        parse_budget(text)


def test_kind_and_amount_are_read():
    assert parse_budget("flops=2e12") == Budget("flops", 2e12)
    assert parse_budget("seconds") == Budget("seconds", None)


@pytest.mark.slow
def test_a_training_costs_what_its_rehearsal_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit = ["--config", str(CONFIGS / "simclr.yaml"), *small(write_texts(tmp_path)), *tiny_encoder()]
    plans = {"simclr": yaml.safe_load(plan_fit(fit))}
    found = steps_within(Budget("tokens", 3000.0), {"simclr": fit}, plans, "mine", [])
    [measured] = json.loads(Path("runs/mine-budget.json").read_text()).values()
    assert not Path("runs").joinpath("simclr-seed0").exists()
    assert run("fit", *fit, f"--trainer.max_steps={found['simclr']}", "--run", "whole") == 0
    spent = cost(0, 0, read_numbers(Path("runs/whole/metrics.csv")))
    assert spent["tokens"] == pytest.approx(3000, rel=0.05)
    assert spent["flops"] == pytest.approx(found["simclr"] * measured["flops"], rel=0.05)
    assert spent["seconds"] > 0


@pytest.mark.slow
def test_a_budget_is_for_what_is_trained(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run("compare", "mine", "--budget", "flops=1e9") == 2
    assert "--budget flops=1e9 is for trainings of --seeds" in capfd.readouterr().err
