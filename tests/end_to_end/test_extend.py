"""A finished run is trained longer on request only, says what becomes of its schedule, and may be killed on the way."""

import json
from pathlib import Path

import pytest
import yaml

from ssl_nlp.runs.metrics_csv import read_metrics
from ssl_nlp.training.optimization import Optimization, learning_rate_factor
from tests.end_to_end.cli import CONFIGS, OF_THE_MACHINE, run, small, tiny_encoder, write_texts
from tests.end_to_end.test_resume import Stop

pytestmark = pytest.mark.slow

STOPS = f"--trainer.callbacks+={Stop.__module__}.Stop"


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A corpus in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_texts(tmp_path)


def fit(texts: str, name: str, *more: str) -> list[str]:
    command = [
        "fit",
        "--config",
        str(CONFIGS / "causal_lm.yaml"),
        *small(texts),
        *tiny_encoder(),
        "--checkpoint_every=5",
    ]
    rates = [
        "--model.optimization.optimizer=adamw",
        "--model.optimization.learning_rate=0.002",
        "--trainer.log_every_n_steps=1",
    ]
    return [*command, *rates, "--model.optimization.warmup=0", STOPS, f"--run={name}", *more]


def rows(name: str) -> list[dict[str, str]]:
    table = read_metrics(Path(f"runs/{name}/metrics.csv"))
    return [{key: cell for key, cell in row.items() if key not in OF_THE_MACHINE} for row in table]


def test_a_finished_run_goes_on_as_a_longer_one_and_survives_a_kill_on_the_way(texts, monkeypatch, capfd):
    for name in ("alone", "killed"):
        assert run(*fit(texts, name, "--trainer.max_steps=8")) == 0
    before = rows("alone")
    wandb_id = json.loads(Path("runs/alone/run.json").read_text())["wandb_id"]
    capfd.readouterr()
    longer = ["--extend", "--trainer.max_steps=16"]
    assert run(*fit(texts, "alone", *longer)) == 0
    out = capfd.readouterr().out
    assert "runs/alone resumes at step 8\n" in out
    rates = [0.002 * learning_rate_factor(8, total, Optimization(warmup=0)) for total in (8, 16)]
    change = f"rises from {rates[0]:.2g} to {rates[1]:.2g} at step 8"
    assert f"cosine over 8 steps becomes cosine over 16 steps: the learning rate {change}\n" in out
    after = rows("alone")
    assert after[:8] == before[:8]
    next_rate = 0.002 * learning_rate_factor(9, 16, Optimization(warmup=0))
    assert float(after[8]["train/learning_rate/decay"]) == pytest.approx(next_rate, rel=1e-6)
    assert int(after[-1]["step"]) == 16
    assert yaml.safe_load(Path("runs/alone/config.yaml").read_text())["trainer"]["max_steps"] == 16
    state = json.loads(Path("runs/alone/run.json").read_text())
    assert (state["wandb_id"], state["finished"], state["extended"]) == (wandb_id, True, [8])

    for stop, where in (("8", 9), ("12", 13)):  # before the first new checkpoint, and after it
        monkeypatch.setenv("STOP_AT", stop)
        assert run(*fit(texts, "killed", *longer)) == 143
        assert not json.loads(Path("runs/killed/run.json").read_text())["finished"]
        assert f"was saved at step {where}" in capfd.readouterr().err
    monkeypatch.delenv("STOP_AT")
    assert run(*fit(texts, "killed", *longer)) == 0
    assert "becomes" not in capfd.readouterr().out  # it has become
    assert rows("killed") == after
    assert json.loads(Path("runs/killed/run.json").read_text())["extended"] == [8]


def test_epochs_are_extended_too_and_a_schedule_by_its_path_goes_on(texts, capfd):
    options = ["--trainer.limit_train_batches=4", "--trainer.max_steps=-1"]
    options += ["--model.optimization.schedule=torch.optim.lr_scheduler.StepLR"]
    options += ['--model.optimization.schedule_args={"step_size": 3}']
    assert run(*fit(texts, "a", *options, "--trainer.max_epochs=1")) == 0
    capfd.readouterr()
    assert run("fit", "--config=runs/a/config.yaml", "--extend", "--trainer.max_epochs=2") == 0
    assert "StepLR goes on as before: the learning rate stays at 0.0002 at step 4\n" in capfd.readouterr().out
    assert [row["step"] for row in rows("a")] == [str(step) for step in range(1, 9)]


def test_only_the_length_may_change_and_only_on_request(texts, capfd):
    assert run(*fit(texts, "a", "--trainer.max_steps=4")) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("runs/a").rglob("*")}
    mistakes = {
        "runs/a is finished: choose another --run, or delete the folder to train it again; to train it longer, give "
        "--extend and a larger trainer.max_steps (or trainer.max_epochs)": ["--trainer.max_steps=4"],
        "runs/a is finished, and this configuration does not train it longer: give a larger --trainer.max_steps": [
            "--trainer.max_steps=4",
            "--extend",
        ],
        "(trainer.max_steps: 4 -> 8): choose another --run, or give --extend to train this one longer": [
            "--trainer.max_steps=8"
        ],
        "(trainer.max_steps: 4 -> 2): --extend needs a longer training, not a shorter one": [
            "--trainer.max_steps=2",
            "--extend",
        ],
        "(data.init_args.batch_size: 4 -> 8): leave them out, because --extend changes the length of the training": [
            "--trainer.max_steps=8",
            "--extend",
            "--data.batch_size=8",
        ],
        "there is no run b to train longer: leave --extend out, or name another --run": ["--extend", "--run=b"],
    }
    for message, options in mistakes.items():
        capfd.readouterr()
        command = [word for word in fit(texts, "a") if word != "--run=a" or "--run=b" not in options]
        assert run(*command, *options) == 2
        assert message in capfd.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in Path("runs/a").rglob("*")}
    assert not Path("runs/b").exists()
