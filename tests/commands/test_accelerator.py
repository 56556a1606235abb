"""Commands without a trainer compute on a GPU, one model at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import backend_registration

from ssl_nlp.commands import accelerator
from tests.end_to_end.cli import ROOT


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch knows no other device",
)
def test_commands_find_the_same_on_another_device(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.commands.on_another_device", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("4 methods, ")


def test_a_gpu_is_used_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert accelerator.accelerator() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert accelerator.accelerator() == torch.device("cuda", 0)
    assert not torch.backends.cudnn.allow_tf32


def test_a_model_leaves_the_accelerator_after_use_and_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "accelerator", lambda: torch.device("meta"))
    model = torch.nn.Linear(2, 2)
    moves = []
    monkeypatch.setattr(model, "to", lambda device: moves.append(str(device)))
    with accelerator.accelerated(model):
        assert moves == ["meta"]
    assert moves == ["meta", "cpu"]
    with pytest.raises(ZeroDivisionError), accelerator.accelerated(model):
        raise ZeroDivisionError
    assert moves == ["meta", "cpu"] * 2
