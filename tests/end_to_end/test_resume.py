import signal

import pytest

from ssl_nlp.callbacks.metrics_csv import read_metrics
from tests.end_to_end.cli import CONFIGS, run_process, small, tiny_encoder, write_texts

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
    assert "goes on at step 12" in resumed.stdout
    wall_clock = ("train/tokens_per_second", "train/mfu")
    tables = [
        [
            {k: v for k, v in row.items() if k not in wall_clock}
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
