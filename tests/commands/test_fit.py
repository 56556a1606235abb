"""What a run of `fit` shows in a log file."""

import re
from functools import partial

from ssl_nlp.commands import lightning_cli
from ssl_nlp.training.callbacks import ProgressLines
from tests.end_to_end.cli import run, small, tiny_encoder, write_texts


def test_the_log_of_a_run_shows_its_progress(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lightning_cli, "ProgressLines", partial(ProgressLines, seconds=0.0))
    command = ["fit", "--config", "masked_lm", *small(write_texts(tmp_path)), *tiny_encoder()]
    assert run(*command, "--run=a", "--trainer.max_steps=4") == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if re.match(r"step \d+ of 4 ", line)]
    assert len(lines) == 4
    assert re.fullmatch(r"step 3 of 4 \(75%\)  train/loss [\d.]+  [\d,]+ tokens/s  \d+ s left", lines[2])
    assert run(*command, "--run=b", "--trainer.max_steps=2", "--trainer.enable_progress_bar=false") == 0
    assert "step 1 of 2" not in capfd.readouterr().out
