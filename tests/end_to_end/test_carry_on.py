"""A run that starts from another one: what it says and records, that it no longer needs the other one, what is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest

from ssl_nlp.methods import Method
from ssl_nlp.runs.metrics_csv import read_metrics
from tests.end_to_end.cli import CONFIGS, ROOT, run, small, tiny_encoder, write_texts
from tests.end_to_end.test_resume import Stop

pytestmark = pytest.mark.slow

OLD = ROOT / "tests" / "runs_0_1"
STOPS = f"--trainer.callbacks+={Stop.__module__}.Stop"
STEPS = "--trainer.max_steps=4"


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A corpus in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_texts(tmp_path)


def fit(method: str, texts: str, *more: str) -> list[str]:
    return ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts), *more]


def old(texts: str, name: str = "old") -> None:
    """Train a causal language model of 4 steps, which reads characters, unlike the configurations of other methods."""
    assert run(*fit("causal_lm", texts, *tiny_encoder(), "--data.tokenizer.kind=char", f"--run={name}", STEPS)) == 0


def start(name: str) -> list[str]:
    return ["--model.encoder=Trained", f"--model.encoder.run={name}"]


def test_a_run_starts_from_another_one_and_needs_it_no_more_not_even_to_resume(texts, monkeypatch, capfd):
    old(texts)
    command = fit("masked_lm", texts, *start("old"), STOPS, "--checkpoint_every=5")
    assert run(*command, "--run=alone") == 0
    tokens = read_metrics(Path("runs/old/metrics.csv"))[-1]["train/tokens"]
    assert f"runs/alone starts from runs/old, step 4, {float(tokens) / 1e6:.2f} M tokens" in capfd.readouterr().out
    [ancestor] = json.loads(Path("runs/alone/run.json").read_text())["ancestry"]
    assert (ancestor["run"], ancestor["method"], ancestor["step"]) == ("old", "CausalLM", 4)
    assert ancestor["tokens"] == float(tokens)
    flops = read_metrics(Path("runs/old/metrics.csv"))[-1]["train/flops"]  # those of Muon included
    assert ancestor["flops"] == pytest.approx(float(flops), rel=1e-6)
    seconds = read_metrics(Path("runs/old/metrics.csv"))[-1]["train/processor_seconds"]
    assert ancestor["seconds"] == pytest.approx(float(seconds), rel=1e-3)
    tokenizer = json.loads(Path("runs/old/run.json").read_text())["tokenizer"]
    monkeypatch.setenv("STOP_AT", "12")
    assert run(*command, "--run=new") == 143
    monkeypatch.delenv("STOP_AT")
    shutil.rmtree("runs/old")
    capfd.readouterr()
    assert run(*command, "--run=new") == 0
    assert "runs/new resumes at step 13\n" in capfd.readouterr().out
    alone, resumed = (read_metrics(Path(f"runs/{name}/metrics.csv")) for name in ("alone", "new"))
    assert [row["val/loss"] for row in alone] == [row["val/loss"] for row in resumed]
    last = [Method.load_from_checkpoint(f"runs/{name}/checkpoints/last.ckpt") for name in ("alone", "new")]
    assert last[0].encoder.ancestry == last[1].encoder.ancestry == (ancestor,)
    assert last[0].tokenizer.fingerprint() == tokenizer
    assert run("validate", "--run=new") == 0


def test_a_task_begins_with_the_decoder_of_a_pretraining_and_resumes_without_it(texts, monkeypatch, capfd):
    assert run(*fit("span_corruption", texts, *tiny_encoder(), "--run=t5", STEPS)) == 0
    pairs = [
        "--data.unit=pair",
        "--data.batch_size=8",
        "--model.decoder_layers=2",
        "--model.decoded=2",
        "--checkpoint_every=5",
    ]
    command = [
        "fit",
        "--config",
        "tasks/sequence_to_sequence",
        *small(texts),
        *start("t5"),
        *pairs,
        STOPS,
        "--run=task",
    ]
    monkeypatch.setenv("STOP_AT", "6")
    capfd.readouterr()
    assert run(*command, "--model.encoder.decoder=true") == 143
    assert "runs/task starts from runs/t5 with its decoder, step 4, " in capfd.readouterr().out
    monkeypatch.delenv("STOP_AT")
    shutil.rmtree("runs/t5")
    assert run(*command, "--model.encoder.decoder=true") == 0
    assert "runs/task resumes at step 7\n" in capfd.readouterr().out


def test_runs_start_from_runs_that_started_from_runs_and_say_so(texts, capfd):
    old(texts)
    overlay = ["--config", str(CONFIGS / "encoder" / "trained.yaml"), "--model.encoder.run=old"]
    assert run(*fit("simclr", texts, *overlay, "--model.encoder.freeze=1", "--run=middle", STEPS)) == 0
    capfd.readouterr()
    path = "runs/middle/checkpoints/best.ckpt"
    assert run(*fit("tsdae", texts, *start(path), "--run=new", STEPS)) == 0
    assert "runs/new starts from runs/middle (best.ckpt), step 4, " in capfd.readouterr().out
    ancestry = json.loads(Path("runs/new/run.json").read_text())["ancestry"]
    assert [(one["run"], one["method"]) for one in ancestry] == [("old", "CausalLM"), ("middle", "SimCLR")]


def test_what_a_run_cannot_start_from_is_one_line_and_leaves_no_run(texts, capfd):
    old(texts)
    Path("runs/empty").mkdir()
    capfd.readouterr()
    mistakes = {
        "there is no run none in": start("none"),
        "runs/empty has no checkpoint: train it first with ssl-nlp fit --run empty": start("empty"),
        "no checkpoint at no.ckpt": start("no.ckpt"),
        "there is no option --model.encoder.dim": [*start("old"), "--model.encoder.dim=32"],
        "model.encoder.run is missing: ": ["--model.encoder=Trained"],
        "data.length 2000 is longer than the encoder's max_length 1024": [*start("old"), "--data.length=2000"],
        f"data.tokenizer.name '{OLD / 'bert'}' is not the tokenizer that the model was trained with": [
            *start("old"),
            f"--data.tokenizer.name={OLD / 'bert'}",
        ],
        "this encoder has 2 layers": [*start("old"), "--model.encoder.freeze=3"],
        "last.ckpt has no decoder that reads the states of its encoder": [
            *start("old"),
            "--model.encoder.decoder=true",
        ],
    }
    for message, options in mistakes.items():
        assert run(*fit("masked_lm", texts, *options, "--run=new")) == 2
        assert message in capfd.readouterr().err
        assert not Path("runs/new").exists()
    published = str(OLD / "masked_lm_pretrained" / "checkpoints" / "last.ckpt")
    assert run(*fit("causal_lm", texts, *start(published), "--run=new")) == 2
    assert re.search("this method needs a causal encoder, and .* is bidirectional", capfd.readouterr().err)
    for source in ("old", "runs/old/checkpoints/best.ckpt"):
        assert run(*fit("masked_lm", texts, *start(source), "--run=old")) == 2
        assert "runs/old cannot start from itself: choose another --run" in capfd.readouterr().err
