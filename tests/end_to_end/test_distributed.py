"""Two processes that talk over gloo, as two GPUs would over NCCL."""

import json

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from ssl_nlp.methods import Method
from ssl_nlp.runs.metrics_csv import read_metrics
from ssl_nlp.training import FullySharded
from tests.end_to_end.cli import CONFIGS, run_process, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--data.batch_size=2"]


def fit(name: str, texts: str, *more: str) -> list[str]:
    config = ["fit", "--config", str(CONFIGS / "causal_lm.yaml"), *small(texts), *tiny_encoder()]
    unit = ["--data.unit=sentence", "--trainer.precision=32-true", "--trainer.val_check_interval=10"]
    unit += ["--model.optimization.optimizer=adamw", "--trainer.gradient_clip_val=null"]
    return [*config, *unit, "--run", name, *more]


def final(tmp_path, name: str) -> tuple[float, torch.Tensor]:
    """Last validation loss of a run, and all its weights."""
    loss = float(read_metrics(tmp_path / "runs" / name / "metrics.csv")[-1]["val/loss"])
    method = Method.load_from_checkpoint(tmp_path / "runs" / name / "checkpoints" / "last.ckpt")
    return loss, torch.cat([p.detach().flatten() for p in method.parameters()])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run in one process with twice the batch."""
    path = tmp_path_factory.mktemp("distributed")
    texts = write_texts(path)
    result = run_process(*fit("one", texts), cwd=path)
    assert result.returncode == 0, result.stderr
    return path, texts


def test_two_processes_equal_one_with_twice_the_batch(alone):
    path, texts = alone
    overlay = ["--config", str(CONFIGS / "trainer" / "ddp.yaml")]
    short = ["--trainer.max_steps=20", "--trainer.limit_val_batches=4"]
    own = [
        "--import=tests.end_to_end.cli",
        "--trainer.callbacks+=tests.end_to_end.cli.KillAt",
    ]  # the other one needs it too
    own += ["--trainer.callbacks+=ssl_nlp.training.callbacks.Rehearsal", "--trainer.callbacks.file=costs.json"]
    result = run_process(*fit("two", texts, *overlay, *short, *TWO, *own), cwd=path)
    assert result.returncode == 0, result.stderr
    assert "sync_dist" not in result.stderr
    one, two = read_metrics(path / "runs/one/metrics.csv"), read_metrics(path / "runs/two/metrics.csv")
    assert [row["train/tokens"] for row in one] == [row["train/tokens"] for row in two]
    for a, b in zip(one, two, strict=True):
        assert float(a["train/loss"]) == pytest.approx(float(b["train/loss"]), abs=1e-5)
    assert torch.allclose(final(path, "one")[1], final(path, "two")[1], atol=1e-5)
    costs = json.loads((path / "costs.json").read_text())  # of a step, in both processes
    assert costs["tokens"] == pytest.approx(float(two[-1]["train/tokens"]) / 20, rel=0.1)
    assert costs["flops"] == pytest.approx(float(two[-1]["train/flops"]) / 20, rel=0.1)


def test_the_overlay_divides_among_as_many_processes_as_there_are(monkeypatch):
    meshes = []
    monkeypatch.setattr(
        ModelParallelStrategy,
        "setup_environment",
        lambda self: meshes.append((self._data_parallel_size, self._tensor_parallel_size)),
    )
    strategy = FullySharded()
    strategy.parallel_devices, strategy.num_nodes = [torch.device("cpu")] * 4, 3
    strategy.setup_environment()
    assert meshes == [(12, 1)]


def test_a_sharded_run_that_is_partly_frozen_equals_one_process_which_loads_its_checkpoint(alone):
    path, texts = alone
    frozen = ["--model.encoder.freeze=1", "--model.optimization.layer_decay=0.8"]
    overlay = ["--config", str(CONFIGS / "trainer" / "fsdp.yaml")]
    short = ["--trainer.max_steps=20", "--trainer.limit_val_batches=4"]
    result = run_process(*fit("sharded", texts, *overlay, *short, *frozen, *TWO), cwd=path)
    assert result.returncode == 0, result.stderr
    loss, weights = final(path, "sharded")
    assert loss < float(read_metrics(path / "runs/sharded/metrics.csv")[0]["train/loss"])
    assert weights.isfinite().all()
    reference = run_process(*fit("adamw", texts, *short, *frozen, "--trainer.val_check_interval=10"), cwd=path)
    assert reference.returncode == 0, reference.stderr
    assert torch.allclose(weights, final(path, "adamw")[1], atol=1e-5)
