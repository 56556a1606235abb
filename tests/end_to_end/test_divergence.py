"""A run whose loss or weights are no longer finite stops, and keeps what it has saved."""

from pathlib import Path

import pytest
import torch

from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts
from tests.end_to_end.test_configs import METHODS

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_stops_with_a_line_and_keeps_its_last_good_checkpoint(method, tmp_path, capfd):
    """A step of 1e20 after three normal ones: the weights are finite, and the loss is not."""
    texts = write_texts(tmp_path)
    command = ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts), *tiny_encoder(method), "--run=it"]
    command += ["--checkpoint_every=2", "--trainer.precision=32-true", "--trainer.callbacks+=tests.end_to_end.cli.Blow"]
    assert run(*command) == 1
    [line] = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ssl-nlp: ")]
    assert "the training has diverged" in line
    assert '"finished": false' in Path("runs/it/run.json").read_text()
    saved = torch.load("runs/it/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert all(weight.isfinite().all() for weight in saved["state_dict"].values())
    assert not Path("runs/it/checkpoints/best.ckpt").exists()
