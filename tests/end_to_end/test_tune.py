"""`ssl-nlp tune`: from configurations to the report, with real trainings in this process."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from ssl_nlp.commands import train_runs, tune
from ssl_nlp.commands.fit import fit
from ssl_nlp.errors import UserError
from ssl_nlp.runs.metrics_csv import read_numbers
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts
from tests.end_to_end.suites import write_suites

pytestmark = pytest.mark.slow

SPACE = """
all:
  model.optimization.learning_rate: {low: 0.0001, high: 0.01, log: true}
  model.temperature: [0.1, 0.2]
MaskedLM:
  model.masking_rate: {low: 0.1, high: 0.9}
"""
COMMAND = ["tune", "masked_lm.yaml", "--trials=2", "--budget=9steps", "--space=space.yaml", "--config=mine.yaml"]
SCORE = "eval_valid/mine/animals.knn/accuracy"
COMMAND += ["--evaluator=animals.knn", "--output=mine"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)
    write_suites(tmp_path)
    shutil.copy(CONFIGS / "masked_lm.yaml", tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    answers = "answers: {task: generation, test: scored.tsv, valid: 0.3, text: 0, pair: 1}"
    (tmp_path / "answers.yaml").write_text(f"name: answers\ndata:\n  {answers}\n")
    return tmp_path


def in_this_process(arguments, output=None, enough=lambda: False):
    """In place of `run_fit`: a process of its own would import everything again."""
    try:
        fit(arguments)
    except UserError as error:
        output.write(f"ssl-nlp: {error}\n".encode())
        return error.status
    return 0


def test_the_best_settings_by_validation_are_compared_on_test_items(folder, monkeypatch, capsys):
    monkeypatch.setattr(train_runs, "run_fit", in_this_process)
    shared = [*small("texts.txt"), *tiny_encoder()]
    assert run(*COMMAND, "--seeds=1", "--", *shared) == 0
    said = capsys.readouterr().out
    assert "has no model.temperature" in said
    assert "[2/2] masked_lm, trial 1" in said
    tuning = json.loads(Path("runs/tuning/mine/tuning.json").read_text())
    trials = tuning["methods"]["masked_lm"]["trials"]
    assert [state in ("complete", "pruned") for state, _ in trials] == [True, True]
    for number in range(2):
        rows = read_numbers(Path(f"runs/tuning/mine/trials/masked_lm-{number:03}/metrics.csv"))
        scored = {row["step"]: row[SCORE] for row in rows if SCORE in row}
        assert [*scored] == [1, 3, 9]
        assert trials[number][1] in scored.values()
    best = yaml.safe_load(Path("runs/tuning/mine/masked_lm.yaml").read_text())
    number = max(range(2), key=lambda number: [trials[number][0] == "complete", trials[number][1], -number])
    of_trial = Path(f"runs/tuning/mine/masked_lm-trial00{number}.yaml")  # so that another best trial has other runs
    assert of_trial.read_text() == Path("runs/tuning/mine/masked_lm.yaml").read_text()
    kept = yaml.safe_load(Path(f"runs/mine-{of_trial.stem}-seed0/config.yaml").read_text())
    assert kept["model"] == best["model"] and kept["trainer"]["max_steps"] == 9
    assert kept["trainer"]["callbacks"] is None  # nothing of the search is left
    with Path("mine/comparison.csv").open() as file:
        rows = {(row["row"], row["number"]): row for row in csv.DictReader(file)}
    assert 0 <= float(rows["MaskedLM", "mine/animals.knn/accuracy"]["validation"]) <= 1
    page = Path("mine/report.html").read_text()
    assert 'id="tuning"' in page and "the best of 2 trials of 9steps" in page

    before = Path("runs/tuning/mine/tuning.json").read_bytes()  # once more: nothing is trained again
    monkeypatch.setattr(train_runs, "run_fit", None)
    assert run(*COMMAND, "--seeds=0", "--", *shared) == 0
    assert Path("runs/tuning/mine/tuning.json").read_bytes() == before
    assert run(*COMMAND, "--seeds=0", "--seed=1", "--", *shared) == 2
    assert "was begun with other settings (seed: 0 -> 1)" in capsys.readouterr().err


@pytest.mark.parametrize(("budget", "given"), [("9steps", []), ("flops=2e12", ["--budget=flops=2e12"])])
def test_reported_runs_have_the_budget_too(budget, given, folder, monkeypatch):
    """The best settings of two methods may make their steps dearer by different shares."""
    compared = []
    monkeypatch.setattr(tune, "_methods", lambda *others: [])
    monkeypatch.setattr(tune, "_search", lambda *others: [Path("best.yaml")])
    monkeypatch.setattr(tune, "compare", lambda arguments, imports: compared.extend(arguments))
    assert run(*COMMAND, f"--budget={budget}") == 0
    assert compared[0] == "best.yaml"
    assert [argument for argument in compared if argument.startswith("--budget")] == given


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--budget=8steps"], "--budget 8steps: a trial takes 9 steps or more"),
        (["--budget=lots"], "--budget lots: use a number of steps, such as 900steps"),
        (["--trials=0"], "--trials must be 1 or more"),
        (
            ["--space", "tuning/methods", "--evaluator=animals.geometry"],
            "mine: the evaluator 'animals.geometry' has no validation items: use one of",
        ),
        (["--space=nothing.yaml"], "there is no file nothing.yaml"),
        (["--output=texts.txt"], "--output texts.txt is a file: name a folder"),
        (
            ["--config=answers.yaml", "--evaluator=answers.generation"],
            "masked_lm: MaskedLM writes no text from another, so the evaluator cannot score its trials",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(arguments, complaint, folder, capsys):
    assert run(*COMMAND, *arguments, "--", *small("texts.txt"), *tiny_encoder()) == 2
    assert complaint in capsys.readouterr().err
    assert not Path("runs").exists()
