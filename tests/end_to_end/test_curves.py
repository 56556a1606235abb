"""Checkpoints that a run keeps, their evaluations, and the curves that follow."""

import json
from pathlib import Path

import pytest
import torch

from ssl_nlp.comparison import compare_runs, find_runs
from ssl_nlp.comparison.report import render_page
from ssl_nlp.comparison.score_curves import AGAINST, score_curve
from ssl_nlp.runs.checkpoint import digest
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts
from tests.end_to_end.test_resume import Stop
from tests.test_tracking import records

pytestmark = pytest.mark.slow

SUITE = {"name": "mine", "data": {"letters": {"task": "language_modelling", "test": "letters.txt"}}}
KEY = "mine/letters.language_modelling/bits_per_byte"


def test_scores_of_kept_checkpoints_make_a_curve(tmp_path, monkeypatch, capfd):
    texts = write_texts(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("letters.txt").write_text("the dog sees a cat\nthe cat hears a dog\n")
    Path("mine.yaml").write_text(json.dumps(SUITE))
    config = [
        "fit",
        "--config",
        str(CONFIGS / "causal_lm.yaml"),
        *small(texts),
        *tiny_encoder(),
        "--wandb.mode=offline",
    ]
    logged = ["--trainer.log_every_n_steps=1", "--trainer.max_steps=5", "--trainer.precision=32-true"]
    assert run(*config, *logged, "--keep_every=2", "--run=kept") == 0
    checkpoints = tmp_path / "runs" / "kept" / "checkpoints"
    kept = sorted(path.name for path in checkpoints.glob("step-*.ckpt"))
    assert kept == ["step-2.ckpt", "step-4.ckpt"]
    assert [torch.load(checkpoints / name, weights_only=True)["global_step"] for name in kept] == [2, 4]

    assert run("evaluate", "kept", "--every", "--config", "mine.yaml") == 0
    assert "kept, step-2: " in capfd.readouterr().out
    found = [json.loads((checkpoints / f"step-{step}.evaluation.json").read_text()) for step in (2, 4)]
    found.append(json.loads((tmp_path / "runs" / "kept" / "evaluation.json").read_text()))
    for name, record in zip([*kept, "last.ckpt"], found, strict=True):
        assert record["checkpoint"] == {"file": f"checkpoints/{name}", "digest": digest(checkpoints / name)}
    for cost in ("tokens", "flops", "seconds"):
        spent = [record["cost"][cost] for record in found]
        assert 0 < spent[0] < spent[1] < spent[2]

    [read] = find_runs(["kept"])
    curve = score_curve(read, KEY, "tokens")
    scores = [
        r["suites"]["mine"]["evaluators"]["letters.language_modelling"]["metrics"]["bits_per_byte"] for r in found
    ]
    assert curve == [(record["cost"]["tokens"], score) for record, score in zip(found, scores, strict=True)]
    page = render_page(compare_runs([read], "mine"))
    assert "Scores during training" in page
    assert all(f"during training against {what}" in page for what in AGAINST.values())
    history = [record for path in Path("runs/kept/wandb").glob("offline-*/*.wandb") for record in records(path)]
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in history
    ]
    points = sorted((row for row in rows if "curve/step" in row), key=lambda row: row["curve/step"])
    assert [row["curve/step"] for row in points] == [2, 4]
    costs = {"tokens": "tokens", "tokens_read": "tokens_read", "flops": "flops", "processor_seconds": "seconds"}
    for row, record in zip(points, found[:2], strict=True):
        assert {name: row[f"curve/{name}"] for name in costs} == {
            name: record["cost"][key] for name, key in costs.items()
        }

    assert run("evaluate", "runs/kept/checkpoints/last.ckpt", "--every", "--config", "mine.yaml") == 2
    assert "last.ckpt is not a run, and --every evaluates the checkpoints that a run has kept" in capfd.readouterr().err
    for path in checkpoints.glob("step-*.ckpt"):
        path.unlink()
    assert run("evaluate", "kept", "--every", "--config", "mine.yaml") == 2
    assert "kept has kept no checkpoints: train a run with ssl-nlp fit --keep_every STEPS" in capfd.readouterr().err
    assert run(*config, *logged, "--keep_every=0", "--run=none") == 2
    assert "keep_every must be 1 or more steps, not 0" in capfd.readouterr().err


def test_a_run_that_was_killed_before_it_kept_a_checkpoint_keeps_it_when_it_resumes(tmp_path, monkeypatch):
    texts = write_texts(tmp_path)
    monkeypatch.chdir(tmp_path)
    stops = f"--trainer.callbacks+={Stop.__module__}.Stop"
    config = [
        "fit",
        "--config",
        str(CONFIGS / "causal_lm.yaml"),
        *small(texts),
        *tiny_encoder(),
        "--wandb.mode=disabled",
    ]
    command = [*config, stops, "--trainer.max_steps=6", "--keep_every=4", "--run=it"]
    monkeypatch.setenv("STOP_AT", "3")
    assert run(*command) == 143
    kept = Path("runs/it/checkpoints/step-4.ckpt")
    kept.unlink()
    monkeypatch.delenv("STOP_AT")
    assert run(*command) == 0
    assert torch.load(kept, weights_only=True)["global_step"] == 4
