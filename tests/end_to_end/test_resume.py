import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from ssl_nlp.errors import UserError
from ssl_nlp.runs.metrics_csv import read_metrics
from tests.end_to_end.cli import CONFIGS, OF_THE_MACHINE, run, run_process, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

METHODS = ["masked_lm", "causal_lm"]


def fit(method: str, name: str, texts: str) -> list[str]:
    config = ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts), *tiny_encoder()]
    settings = ["--trainer.precision=32-true", "--model.encoder.dropout=0.1", "--trainer.accumulate_grad_batches=2"]
    killer = ["--import=tests.end_to_end.cli", "--trainer.callbacks+=tests.end_to_end.cli.KillAt"]
    return [*config, *settings, *killer, "--checkpoint_every=4", "--run", name]


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_ends_with_the_same_bits_as_one_left_alone(method, tmp_path):
    texts = write_texts(tmp_path)
    alone = run_process(*fit(method, "alone", texts), cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    killed = run_process(*fit(method, "killed", texts), cwd=tmp_path, KILL_AT="14")
    assert killed.returncode == -signal.SIGKILL
    resumed = run_process(*fit(method, "killed", texts), cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumes at step 12" in resumed.stdout
    tables = [
        [
            {k: v for k, v in row.items() if k not in OF_THE_MACHINE}
            for row in read_metrics(tmp_path / "runs" / n / "metrics.csv")
        ]
        for n in ("alone", "killed")
    ]
    assert tables[0][-1]["val/loss"]
    assert tables[0][-1] == tables[1][-1]
    assert [row["step"] for row in tables[0]] == [row["step"] for row in tables[1]]
    validations = [[(row["step"], row["val/loss"]) for row in table if row["val/loss"]] for table in tables]
    assert validations[0] == validations[1]


def test_the_same_command_again_is_refused_when_finished_and_nothing_is_touched(tmp_path):
    texts = write_texts(tmp_path)
    command = fit("causal_lm", "once", texts)
    assert run_process(*command, cwd=tmp_path).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "once").rglob("*")}
    again = run_process(*command, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.strip().splitlines()[-1].startswith("ssl-nlp: runs/once is finished")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "once").rglob("*")}


def short(method: str, texts: str, *more: str) -> list[str]:
    """A `fit` of a few steps."""
    return ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts), *tiny_encoder(), *more]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A corpus in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_texts(tmp_path)


class Fail(Callback):
    """Fails before the first batch is done."""

    def on_train_batch_start(self, *args: object) -> None:
        raise UserError("no")


def test_a_training_that_fails_before_its_first_batch_leaves_no_run(texts, capfd):
    command = short("masked_lm", texts, "--run=it", "--wandb.mode=offline")
    assert run(*command, "--trainer.callbacks+=tests.end_to_end.test_resume.Fail") == 2
    assert "ssl-nlp: no" in capfd.readouterr().err
    assert not Path("runs/it").exists()
    assert run(*command, "--trainer.max_steps=2") == 0  # the name is free


def test_a_fast_dev_run_leaves_nothing_and_touches_no_run(texts, capfd):
    command = short("causal_lm", texts, "--run=it")
    assert run(*command, "--trainer.fast_dev_run=true") == 0
    assert not Path("runs").exists()
    assert not Path("lightning_logs").exists()
    assert run(*command, "--trainer.max_steps=2") == 0
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    assert run(*command, "--trainer.max_steps=2", "--trainer.fast_dev_run=true") == 0
    assert before == {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    assert "fast_dev_run: nothing is kept" in capfd.readouterr().out


class Stop(Callback):
    """Sends SIGTERM to the process after the step that the environment variable STOP_AT names."""

    def on_train_batch_start(self, trainer: Trainer, *args: object) -> None:
        if trainer.global_step == int(os.environ.get("STOP_AT", -1)):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_was_moved_and_renamed_goes_on_and_keeps_its_best_checkpoint(texts, tmp_path, monkeypatch, capfd):
    stops = "--trainer.callbacks+=tests.end_to_end.test_resume.Stop"
    command = short("masked_lm", texts, "--trainer.val_check_interval=5", "--checkpoint_every=5", stops)
    assert run(*command, "--run=alone") == 0
    monkeypatch.setenv("STOP_AT", "12")
    assert run(*command, "--run=it") == 143
    checkpoints = Path("elsewhere/runs/new/checkpoints").absolute()
    Path("elsewhere/runs").mkdir(parents=True)
    shutil.move("runs/it", "elsewhere/runs/new")
    # As if the validations so far had been better than any to come.
    for name in ("last.ckpt", "best.ckpt"):
        saved = torch.load(checkpoints / name, weights_only=True)
        saved["callbacks"]["Checkpoints"]["best"] = 0.0
        torch.save(saved, checkpoints / name)
    best = (checkpoints / "best.ckpt").read_bytes()
    monkeypatch.delenv("STOP_AT")
    monkeypatch.chdir("elsewhere")
    capfd.readouterr()
    assert run("fit", "--config", "runs/new/config.yaml") == 0
    assert "runs/new resumes at step 13" in capfd.readouterr().out
    assert (checkpoints / "best.ckpt").read_bytes() == best
    assert json.loads(Path("runs/new/run.json").read_text())["finished"]
    alone, moved = (read_metrics(path / "metrics.csv") for path in (tmp_path / "runs" / "alone", Path("runs/new")))
    assert [row["val/loss"] for row in alone] == [row["val/loss"] for row in moved]


def test_a_checkpoint_that_does_not_fit_is_refused_by_its_difference(texts, capfd):
    assert run(*short("causal_lm", texts, "--run=one", "--trainer.max_steps=4")) == 0
    checkpoint = "--ckpt_path=runs/one/checkpoints/last.ckpt"
    capfd.readouterr()
    mistakes = {
        "holds a CausalLM, not a MaskedLM: name a checkpoint of the same method": short("masked_lm", texts),
        "encoder.embeddings.tok_embeddings.weight is (320, 16) in the checkpoint and (320, 32) in the model": short(
            "causal_lm", texts, "--model.encoder.dim=32"
        ),
    }
    for message, command in mistakes.items():
        assert run(*command, checkpoint, "--run=two") == 2
        assert message in capfd.readouterr().err
        assert not Path("runs/two").exists()


def test_a_run_that_began_from_a_checkpoint_goes_on_from_its_own(texts, monkeypatch, capfd):
    assert run(*short("causal_lm", texts, "--run=one", "--trainer.max_steps=4")) == 0
    stops = "--trainer.callbacks+=tests.end_to_end.test_resume.Stop"
    command = short("causal_lm", texts, "--run=two", "--ckpt_path=runs/one/checkpoints/last.ckpt", stops)
    monkeypatch.setenv("STOP_AT", "12")
    assert run(*command) == 143
    monkeypatch.delenv("STOP_AT")
    capfd.readouterr()
    assert run(*command) == 0
    assert "runs/two resumes at step 13" in capfd.readouterr().out
    assert run(*command) == 2  # and is not trained again when it is finished
