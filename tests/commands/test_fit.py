"""What a run of `fit` shows in a log file, and how often a checkpoint is read."""

import io
import json
import re
from collections import Counter
from functools import partial
from pathlib import Path

import torch

from ssl_nlp.commands import lightning_cli, run_callbacks
from ssl_nlp.runs import checkpoint
from ssl_nlp.runs import run as run_module
from ssl_nlp.training.callbacks import ProgressLines
from tests.end_to_end.cli import run, small, tiny_encoder, write_texts


def test_the_log_of_a_run_shows_its_progress(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for module in (lightning_cli, run_callbacks):
        monkeypatch.setattr(module, "ProgressLines", partial(ProgressLines, seconds=0.0))
    command = ["fit", "--config", "masked_lm", *small(write_texts(tmp_path)), *tiny_encoder()]
    assert run(*command, "--run=a", "--trainer.max_steps=4") == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if re.match(r"step \d+ of 4 ", line)]
    assert len(lines) == 4
    assert re.fullmatch(r"step 3 of 4 \(75%\)  train/loss [\d.]+  [\d,]+ tokens/s  \d+ s left", lines[2])
    assert run(*command, "--run=b", "--trainer.max_steps=2", "--trainer.enable_progress_bar=false") == 0
    assert "step 1 of 2" not in capfd.readouterr().out
    for command, name in (("validate", "validation"), ("test", "test"), ("predict", "prediction")):
        assert run(command, "--run=a") == 0
        assert re.search(rf"^{name} batch 1 of \d+$", capfd.readouterr().out, flags=re.MULTILINE)


def test_a_checkpoint_is_checked_once_and_its_weights_are_read_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["fit", "--config", "masked_lm", *small(write_texts(tmp_path)), *tiny_encoder()]
    command += ["--run=a", "--trainer.max_steps=4"]
    assert run(*command) == 0
    state = Path("runs/a/run.json")
    state.write_text(json.dumps(json.loads(state.read_text()) | {"finished": False}))
    seen: Counter[str] = Counter()
    load, is_complete = torch.load, checkpoint.is_complete

    def counted_load(path, **settings):
        if not isinstance(path, io.BytesIO):  # an argument of the method, which is tried before the training
            seen["mapped" if settings.get("mmap") else "read"] += 1
        return load(path, **settings)

    def counted_check(path):
        seen["checked"] += 1
        return is_complete(path)

    monkeypatch.setattr(torch, "load", counted_load)
    for module in (checkpoint, run_module):
        monkeypatch.setattr(module, "is_complete", counted_check)
    assert run("validate", "--run=a") == 0
    assert seen == {"checked": 1, "mapped": 1, "read": 1}
    seen.clear()
    assert run(*command) == 0  # resumes
    assert seen == {"checked": 1, "mapped": 1, "read": 1}
