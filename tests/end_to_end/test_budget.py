"""`ssl-nlp compare --budget`: each training gets the steps that cost the same."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ssl_nlp.commands import budget as budgets
from ssl_nlp.commands import train_runs
from ssl_nlp.commands.budget import Budget, parse_budget, steps_within
from ssl_nlp.commands.fit import plan_fit
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.cost import cost
from ssl_nlp.methods import CausalLM
from ssl_nlp.runs.ancestry import published
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.training.callbacks.rehearsal import Rehearsal, seconds_per_token
from ssl_nlp.training.flops import CostPerToken
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts

COSTS = {
    "cheap": {"tokens": 100.0, "tokens_read": 100.0, "flops": 2e6, "seconds": 0.5},
    "dear": {"tokens": 25.0, "tokens_read": 50.0, "flops": 8e6, "seconds": 4.0},
    "counts": {"tokens": 70.0, "tokens_read": 70.0, "flops": 0.0, "seconds": 0.25},
}


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """The steps of trainings that cost `COSTS`, and which of them were measured for it."""
    monkeypatch.chdir(tmp_path)

    def steps(budget, names, max_steps=100, workers=0):
        measured = []
        monkeypatch.setattr(budgets, "rehearse", lambda fit, imports: measured.append(fit[0]) or COSTS[fit[0]])
        trainer, data = {"max_steps": max_steps, "accelerator": "cpu"}, {"init_args": {"workers": workers}}
        plans = {name: {"model": name, "data": data, "trainer": trainer} for name in names}
        return steps_within(parse_budget(budget), {name: [name] for name in names}, plans, "mine", []), measured

    return steps


def test_steps_cost_the_amount_and_are_measured_once(steps):
    assert steps("flops=4e8", ["cheap", "dear"]) == ({"cheap": 200, "dear": 50}, ["cheap", "dear"])
    assert steps("seconds=1000", ["cheap", "dear", "counts"]) == (
        {"cheap": 2000, "dear": 250, "counts": 4000},
        ["counts"],
    )
    assert steps("tokens=1", ["cheap"], max_steps=7) == ({"cheap": 1}, [])  # at least one, whatever it was before


def test_measured_costs_are_kept_beside_those_of_other_processes_and_for_one_version(steps, monkeypatch, capsys):
    file = Path("runs/mine-budget.json")

    def rehearse(fit, imports):
        """Another comparison of this name ends while this one measures."""
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"other": COSTS["dear"]}))
        return COSTS["cheap"]

    plans = {"cheap": {"trainer": {"max_steps": 5}}}
    monkeypatch.setattr(budgets, "rehearse", rehearse)
    steps_within(Budget("tokens", 1.0), {"cheap": []}, plans, "mine", [])
    assert [*json.loads(file.read_text()).values()] == [COSTS["dear"], COSTS["cheap"]]
    assert "delete the file" not in capsys.readouterr().out
    assert steps("tokens=1", ["cheap", "dear"])[1] == ["cheap", "dear"]
    assert steps("tokens=1", ["cheap", "dear"])[1] == []
    assert f"cheap, dear: a step costs what {file.absolute()} says; delete the file" in capsys.readouterr().out
    monkeypatch.setattr(budgets, "__version__", "0.0")
    assert steps("tokens=1", ["cheap", "dear"])[1] == ["cheap", "dear"]


def test_seconds_of_data_workers_are_refused_because_nobody_counts_them(steps):
    assert steps("tokens=100", ["cheap"], workers=2)[0] == {"cheap": 1}
    with pytest.raises(UserError, match="does not count the data workers of cheap: set --data.workers=0, not 2"):
        steps("seconds=100", ["cheap"], workers=2)


@pytest.mark.parametrize(("batches", "left_out"), [(1, 0), (2, 1), (5, 2), (10, 5), (25, 5)])
def test_the_first_batches_do_not_count_where_there_are_others(batches, left_out):
    seconds = [9.0] * left_out + [2.0] * (batches - left_out)
    costs = [{"tokens": 10.0 * number, "seconds": sum(seconds[:number])} for number in range(1, batches + 1)]
    assert seconds_per_token(costs) == pytest.approx(0.2)


def test_epochs_end_no_training_with_a_budget_but_one_that_counts_each_text_once(monkeypatch, capsys):
    epochs = {"masked_lm": 2, "causal_lm": None, "ngram_lm": 1}
    classes = {"masked_lm": "MaskedLM", "causal_lm": "CausalLM", "ngram_lm": "NGramLM"}

    def plan(fits, seeds, imports):
        return {
            name: {"model": {"class_path": f"ssl_nlp.methods.{classes[name]}"}, "trainer": {"max_epochs": epochs[name]}}
            for name in fits
        }

    monkeypatch.setattr(train_runs, "plan", plan)
    monkeypatch.setattr(train_runs, "not_equal", lambda plans: [])
    monkeypatch.setattr(train_runs, "steps_within", lambda budget, fits, *others: dict.fromkeys(fits, 7))
    monkeypatch.setattr(train_runs, "train_planned", lambda fits, *others: fits)
    fits = train_runs.train([*epochs], 1, "mine", [], budget=Budget("tokens", 1.0))
    assert {name: fit[3:] for name, fit in fits.items()} == {
        "masked_lm": ["--trainer.max_steps=7", "--trainer.max_epochs=-1"],
        "causal_lm": ["--trainer.max_steps=7"],
        "ngram_lm": ["--trainer.max_steps=7"],
    }
    assert "ngram_lm: counts each text once" in capsys.readouterr().out


def test_without_an_amount_it_is_that_of_the_cheapest(steps):
    assert steps("flops", ["cheap", "dear"])[0] == {"cheap": 100, "dear": 25}
    assert steps("tokens", ["cheap", "dear"])[0] == {"cheap": 50, "dear": 100}
    with pytest.raises(UserError, match=r"cheap has no trainer\.max_steps: set it, or give an amount"):
        steps("tokens", ["cheap", "dear"], max_steps=-1)


def test_what_ancestors_cost_is_taken_off_the_budget(steps, monkeypatch, capsys):
    run = {
        **published("checkpoints/last.ckpt"),
        "run": "first",
        "step": 9,
        "tokens": 3000.0,
        "tokens_read": 6000.0,
        "flops": 1e8,
    }
    monkeypatch.setitem(COSTS, "later", {**COSTS["cheap"], "ancestry": [run]})
    monkeypatch.setitem(COSTS, "stock", {**COSTS["cheap"], "ancestry": [run, published("bert")]})
    assert steps("tokens=10000", ["cheap", "later"])[0] == {"cheap": 100, "later": 40}
    assert "Not equal" not in capsys.readouterr().out
    assert steps("flops=4e8", ["later", "stock"])[0] == {"later": 150, "stock": 150}
    assert "Not equal: stock starts from bert, tokens unknown, whose FLOPs are not known" in capsys.readouterr().out
    assert steps("seconds=50", ["later"])[0] == {"later": 100}  # whose ancestors' seconds nobody recorded
    monkeypatch.setitem(COSTS, "timed", {**COSTS["cheap"], "ancestry": [run | {"seconds": 20.0}]})
    assert steps("seconds=50", ["timed"])[0] == {"timed": 60}
    assert "Not equal: later starts from runs/first, step 9" in capsys.readouterr().out
    assert steps("tokens", ["later"], max_steps=30)[0] == {"later": 30}  # its own steps, beside what came before
    with pytest.raises(
        UserError, match="later starts from weights that cost .* leaves less than a step of .*: give a larger"
    ):
        steps("tokens=6099", ["cheap", "later"])


def test_tokens_of_ancestors_count_once_where_nobody_counted_how_often_they_were_read(steps, monkeypatch, capsys):
    older = {**published("checkpoints/last.ckpt"), "run": "first", "step": 9, "tokens": 6000.0, "flops": 1e8}
    del older["tokens_read"]
    monkeypatch.setitem(COSTS, "later", {**COSTS["cheap"], "ancestry": [older]})
    assert steps("tokens=10000", ["later"])[0] == {"later": 40}
    assert "whose tokens count once each: how often they were read is not known" in capsys.readouterr().out
    assert steps("flops=4e8", ["later"])[0] == {"later": 150}
    assert "not known" not in capsys.readouterr().out


def test_costs_that_an_earlier_version_measured_without_tokens_read_are_measured_again(steps):
    steps("flops=4e8", ["cheap"])
    file = Path("runs/mine-budget.json")
    [(key, cost)] = json.loads(file.read_text()).items()
    del cost["tokens_read"]
    file.write_text(json.dumps({key: cost}))
    assert steps("flops=4e8", ["cheap"])[1] == []
    assert steps("tokens=400", ["cheap"]) == ({"cheap": 4}, ["cheap"])


def test_a_rehearsal_writes_what_a_step_costs_and_the_ancestors_of_the_encoder(tmp_path, monkeypatch):
    rehearsal = Rehearsal(str(tmp_path / "costs.json"))
    rehearsal._batches, rehearsal._costs = [10, 20], [{"tokens": n, "seconds": 0.2 * n} for n in (10.0, 30.0)]
    rehearsal.optimizer_flops = 90.0
    monkeypatch.setattr("ssl_nlp.training.callbacks.rehearsal.cost_per_token", lambda *args: CostPerToken(7.0, 2.0))
    method = CausalLM(Transformer("tiny"))
    method.encoder.ancestry = (published("bert"),)
    data = SimpleNamespace(train_dataloader=list)
    trainer = SimpleNamespace(
        accumulate_grad_batches=2, world_size=3, is_global_zero=True, datamodule=data, global_step=1
    )
    rehearsal.on_train_end(trainer, method)
    costs = json.loads((tmp_path / "costs.json").read_text())
    assert costs.pop("ancestry") == [published("bert")]
    assert costs == pytest.approx({"tokens": 90, "tokens_read": 180, "flops": 7 * 90 + 90, "seconds": 18})


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
    fit += ["--model.optimization.optimizer=muon", "--trainer.accumulate_grad_batches=2"]
    plans = {"simclr": yaml.safe_load(plan_fit(fit))}
    # Every rank gets the callback: they all read the arguments.
    monkeypatch.setattr(train_runs, "run_fit", lambda arguments: run("fit", *arguments))
    found = steps_within(Budget("tokens", 3000.0), {"simclr": fit}, plans, "mine", [])
    [measured] = json.loads(Path("runs/mine-budget.json").read_text()).values()
    assert not Path("runs").joinpath("simclr-seed0").exists()
    assert run("fit", *fit, f"--trainer.max_steps={found['simclr']}", "--run", "whole") == 0
    spent = cost(0, 0, read_numbers(Path("runs/whole/metrics.csv")))
    assert spent["tokens_read"] == pytest.approx(3000, rel=0.05)
    assert spent["tokens"] < 0.9 * spent["tokens_read"]  # of two views
    assert spent["flops"] == pytest.approx(found["simclr"] * measured["flops"], rel=0.05)
    assert spent["seconds"] > 0


def test_a_rehearsal_that_fails_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_runs, "run_fit", lambda arguments: 2)
    with pytest.raises(UserError, match=r"measures their cost, failed \(exit status 2\): fix what is reported above"):
        budgets.rehearse([], [])


@pytest.mark.slow
def test_a_budget_is_for_what_is_trained(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run("compare", "mine", "--budget", "flops=1e9") == 2
    assert "--budget flops=1e9 is for trainings of --seeds" in capfd.readouterr().err
