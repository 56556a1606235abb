"""`ssl-nlp compare`: what it trains, evaluates, writes and refuses."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from ssl_nlp.comparison import compare_runs, find_runs
from tests.end_to_end.cli import CONFIGS, ROOT, run, small, tiny_encoder, write_texts
from tests.end_to_end.suites import write_suites

pytestmark = pytest.mark.slow

SEEDS = ["--seeds", "2", "masked_lm.yaml", "--output", "mine", "--config", "mine.yaml"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first of two seeds of one configuration, and another method."""
    folder = tmp_path_factory.mktemp("trained")
    write_texts(folder)
    write_suites(folder)
    shutil.copy(CONFIGS / "masked_lm.yaml", folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, method in (("mine-masked_lm-seed0", "masked_lm"), ("causal", "causal_lm")):
            config = "masked_lm.yaml" if method == "masked_lm" else str(CONFIGS / "causal_lm.yaml")
            assert run("fit", "--config", config, "--wandb.group=mine", *shared(), "--run", name) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the working directory; child processes find the package."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def shared() -> list[str]:
    return [*small("texts.txt"), *tiny_encoder()]


def test_seeds_are_trained_where_missing_and_tie(folder, capfd):
    before = (folder / "runs" / "mine-masked_lm-seed0" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert run("compare", *SEEDS, "--", *shared()) == 0
    shown = capfd.readouterr().out
    assert "[1/1] mine-masked_lm-seed1" in shown
    with (folder / "mine" / "comparison.csv").open() as file:
        seeds = {row["row"]: row["seeds"] for row in csv.DictReader(file) if row["baseline"] == "0"}
    assert seeds == {"MaskedLM": "0 1"}
    assert (folder / "runs" / "mine-masked_lm-seed0" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    config = yaml.safe_load((folder / "runs" / "mine-masked_lm-seed1" / "config.yaml").read_text())
    assert (config["seed_everything"], config["wandb"]["group"]) == (1, "mine")
    # Once more with another method: nothing is trained, what was not evaluated is.
    runs = ["mine-masked_lm-seed0", "runs/mine-masked_lm-seed1", "causal"]
    assert run("compare", *runs, "--config", "mine.yaml", "--output", "mine") == 0
    assert "evaluating causal\n" in capfd.readouterr().out
    rows = list(csv.DictReader((folder / "mine" / "comparison.csv").open()))
    assert {row["row"] for row in rows if row["baseline"] == "0"} == {"MaskedLM", "CausalLM"}
    # As rows of their own, the two seeds are equally good.
    for path in (folder / "runs").glob("mine-*/config.yaml"):
        config = yaml.safe_load(path.read_text())
        config["model"]["init_args"]["masking_rate"] += config["seed_everything"]
        path.write_text(yaml.safe_dump(config))
    found = compare_runs(find_runs(["mine-masked_lm-seed0", "mine-masked_lm-seed1"]), "mine")
    verdicts = [verdict for row in found.rows if not row.baseline for verdict in row.ties.values()]
    assert len(verdicts) >= 12
    assert all(verdict.tie for verdict in verdicts)


@pytest.mark.parametrize(("budget", "column"), [("tokens=15000", "tokens_read"), ("flops=1.2e9", "flops")])
def test_trainings_with_a_budget_cost_the_same(folder, budget, column, capfd):
    """Of two methods, one of which reads each text twice; by what the table says, not by what a rehearsal promised."""
    shutil.copy(CONFIGS / "simclr.yaml", folder)
    trained = ["--seeds", "1", "--budget", budget, "masked_lm.yaml", "simclr.yaml", "--output", "equal"]
    assert run("compare", *trained, "--config", "mine.yaml", "--", *shared(), "--wandb.mode=disabled") == 0
    with (folder / "equal" / "comparison.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["number"] == f"cost/{column}" and row["baseline"] == "0"]
    spent = {row["row"]: float(row["mean"]) for row in rows}
    amount = float(budget.partition("=")[2])
    assert spent == pytest.approx({"MaskedLM": amount, "SimCLR": amount}, rel=0.02)
    said = " ".join(capfd.readouterr().out.split())
    assert f"Training was equal in {'tokens read' if column == 'tokens_read' else 'FLOPs'} alone" in said


def test_lost_items_are_asked_for_again_and_a_link_is_a_run(folder, tmp_path_factory, capfd):
    place = tmp_path_factory.mktemp("elsewhere") / "there"
    (folder / "runs" / "causal").rename(place)
    (folder / "runs" / "causal").symlink_to(place)
    command = ["compare", "causal", "--config", "mine.yaml", "--output", "mine"]
    assert run(*command) == 0
    assert "evaluating causal\n" in capfd.readouterr().out
    assert run(*command) == 0
    assert "evaluating" not in capfd.readouterr().out
    (place / "evaluation_items.npz").unlink()
    assert run(*command) == 0
    assert "evaluating causal\n" in capfd.readouterr().out
    (place / "evaluation_items.npz").unlink()
    (place / "checkpoints" / "last.ckpt").unlink()  # to save space: the scores are there, the items behind them are not
    assert run(*command) == 0
    assert "causal: evaluation_items.npz lacks items" in " ".join(capfd.readouterr().out.split())


def test_trainings_run_what_import_names(folder, monkeypatch):
    """Training runs in separate processes, which have not imported the file."""
    (folder / "mine_for_seeds.py").write_text("")
    commands = []
    monkeypatch.setattr("ssl_nlp.commands.train_runs.run_fit", lambda arguments: bool(commands.append(arguments)) or 1)
    assert run("compare", "--import", "mine_for_seeds.py", *SEEDS, "--output=imported", "--", *shared()) == 2
    assert len(commands) == 2
    assert all(command[0] == "--import=mine_for_seeds.py" for command in commands)


def test_a_training_that_fails_is_named_and_the_others_go_on(folder, monkeypatch, capfd):
    (folder / "runs" / "mine-masked_lm-seed0" / "run.json").write_text('{"wandb_id": "a", "finished": false}')
    commands = []

    def fail(arguments):
        commands.append(arguments)
        return 1 if "--run=mine-masked_lm-seed0" in arguments else 0

    monkeypatch.setattr("ssl_nlp.commands.train_runs.run_fit", fail)
    assert run("compare", *SEEDS, "--", *shared()) == 2
    assert [command[-1] for command in commands] == ["--run=mine-masked_lm-seed0", "--run=mine-masked_lm-seed1"]
    assert "training failed: mine-masked_lm-seed0 (exit status 1)" in capfd.readouterr().err


def test_a_configuration_that_is_refused_is_not_tried_with_other_seeds(folder, monkeypatch, capfd):
    commands = []
    monkeypatch.setattr("ssl_nlp.commands.train_runs.run_fit", lambda arguments: commands.append(arguments) or 2)
    assert run("compare", *SEEDS, "--output=refused", "--", *shared()) == 2
    assert [command[-1] for command in commands] == ["--run=refused-masked_lm-seed0"]
    assert "training failed: refused-masked_lm-seed0 (exit status 2): fix" in capfd.readouterr().err


MISTAKES = {
    "no such run": (["nothing"], "there is no run nothing"),
    "unknown suite": (["causal", "--suite", "everything"], "causal has no results on the suite everything"),
    "two suites": (["causal", "--suite", "docs", "--config", "mine.yaml"], "name one"),
    "output is something else": (["causal", "--output", "runs"], "does not hold a comparison"),
    "output is a file": (["causal", "--output", "mine.yaml"], "is a file"),
    "broken evaluation": (["broken"], "is not an evaluation"),
    "fit arguments without seeds": (["causal", "--", "--trainer.max_steps=1"], "without --seeds"),
    "no such configuration": (["--seeds", "1", "missing.yaml"], "missing.yaml"),
    "no number": (["--seeds", "many", "masked_lm.yaml"], "seeds must be of type int"),
    "no seed": (["--seeds", "0", "masked_lm.yaml"], "--seeds must be 1 or more, not 0"),
    "twice the same": (["--seeds", "1", "masked_lm.yaml", "masked_lm.yaml"], "two configurations are called masked_lm"),
    "another configuration": (
        ["--seeds", "1", "masked_lm.yaml", "--output", "mine", "--", *shared(), "--model.masking_rate=0.5"],
        "started with another configuration",
    ),
    "nothing at all": ([], "compare needs RUN"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, folder, capfd):
    shutil.copytree(folder / "runs" / "causal", folder / "runs" / "broken")
    (folder / "runs" / "broken" / "evaluation.json").write_text("no")
    arguments, culprit = MISTAKES[mistake]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run("compare", *arguments) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if line]
    assert culprit in line
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_sweeps(path, folder, monkeypatch):
    """Run the first run of each sweep with the arguments and the environment that the W&B agent gives it."""
    sweep = yaml.safe_load(path.read_text())
    assert sweep["method"] == "grid"
    (folder / "configs").symlink_to(CONFIGS)
    values = {name: {"value": parameter["values"][-1]} for name, parameter in sweep["parameters"].items()}
    command = []
    for part in sweep["command"]:
        command += create_sweep_command_args({"args": values})["args"] if part == "${args}" else [part]
    assert command[:2] == ["ssl-nlp", "fit"]
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    assert run(*command[1:], *shared()) == 0
    [state] = (folder / "runs").glob("*-abc/run.json")
    kept = json.loads(state.read_text())
    assert (kept["wandb_id"], kept["finished"]) == ("abc", True)
    config = yaml.safe_load(state.with_name("config.yaml").read_text())
    assert config["seed_everything"] == sweep["parameters"]["seed_everything"]["values"][-1]
