"""A stream of parts from the command line: its report, its ways, its resume to the bit, its errors."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from ssl_nlp.runs.metrics_csv import read_metrics
from tests.data.parted import CLASSES, write
from tests.end_to_end.cli import OF_THE_MACHINE, run

pytestmark = pytest.mark.slow

ELASTIC = "--trainer.callbacks+=ssl_nlp.training.callbacks.ElasticWeights"
OWN = "--trainer.callbacks+=ssl_nlp.training.callbacks.WeightsPerPart"


class Stop(Callback):
    """Sends SIGTERM to the process in the step, or in the validation after it, that STOP_AT or STOP_AFTER names."""

    def on_train_batch_start(self, trainer: Trainer, *args: object) -> None:
        if trainer.global_step == int(os.environ.get("STOP_AT", -1)):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_batch_start(self, trainer: Trainer, *args: object) -> None:
        if trainer.global_step == int(os.environ.get("STOP_AFTER", -1)):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.tsv", 40)
    write(tmp_path / "valid.tsv", 8, seed=1)


def stream(name: str, *more: str) -> list[str]:
    return [
        *("fit", "--config", "tasks/continual", "--run", name),
        *(
            "--data.corpus",
            "ssl_nlp.corpora.TextFiles",
            "--data.corpus.train=train.tsv",
            "--data.corpus.valid=valid.tsv",
        ),
        *("--data.corpus.test=null", "--data.corpus.label=intent", "--data.corpus.part=domain", "--data.parts=null"),
        *("--data.tokenizer.vocab_size=400", "--data.length=24", "--data.batch_size=8", "--data.steps_per_part=16"),
        *("--model.encoder.size=null", "--model.encoder.dim=32", "--model.encoder.layers=1", "--model.encoder.heads=2"),
        *("--model.optimization.learning_rate=0.01", "--trainer.log_every_n_steps=4", "--trainer.precision=32-true"),
        *("--wandb.mode=disabled", "--checkpoint_every=5"),
        *more,
    ]


def record(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"runs/{name}/continual.json").read_text())
    return found


def test_plain_training_forgets_and_replay_forgets_less(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*stream("plain")) == 0
    assert "no training" in capsys.readouterr().out
    assert run(*stream("replay", "--data.replay=0.25")) == 0
    plain, replay = record("plain"), record("replay")
    assert plain["parts"] == list(CLASSES)
    assert [len(row) for row in plain["matrix"]] == [3, 3, 3]
    assert plain["metrics"]["forgetting"] > 0.4
    assert replay["metrics"]["forgetting"] < plain["metrics"]["forgetting"] / 2
    rows = [row for row in read_metrics(Path("runs/plain/metrics.csv")) if row["continual/average"]]
    assert [row["step"] for row in rows] == ["16", "32", "48"]
    assert float(rows[-1]["continual/forgetting"]) == pytest.approx(plain["metrics"]["forgetting"])
    assert float(rows[-1]["val/accuracy/food"]) == pytest.approx(plain["matrix"][-1][1])
    rates = {row["step"]: row["train/learning_rate/decay"] for row in read_metrics(Path("runs/plain/metrics.csv"))}
    assert rates["4"] == rates["20"] == rates["36"]  # the schedule begins anew
    assert run("validate", "--run", "plain") == 0
    assert "accuracy/travel" in capsys.readouterr().out


def test_joint_training_learns_all_parts_in_as_many_steps() -> None:
    assert run(*stream("joint", "--data.joint=true", "--data.epochs_per_part=4", "--data.steps_per_part=null")) == 0
    joint = record("joint")
    assert len(joint["matrix"]) == 1 and joint["metrics"].keys() == {"average"}
    assert joint["metrics"]["average"] > 0.8
    assert read_metrics(Path("runs/joint/metrics.csv"))[-1]["step"] == "120"


def test_a_part_with_weights_of_its_own_is_never_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*stream("own", OWN)) == 0
    own = record("own")
    assert own["metrics"]["forgetting"] == 0
    assert own["metrics"]["forward_transfer"] == 0  # a part that is still to come has the start
    assert own["metrics"]["average"] > 0.5
    assert run("validate", "--run", "own", "--ckpt_path", "runs/own/checkpoints/last.ckpt") == 0
    found = json.loads(Path("runs/own/validation.json").read_text())
    assert found["metrics"]["accuracy"] == pytest.approx(own["metrics"]["average"])  # parts of equal size
    capsys.readouterr()
    assert run("predict", "--run", "own", "--input", "valid.tsv") == 2
    assert "predict does not know the parts of texts" in capsys.readouterr().err


def test_a_lora_and_a_head_for_each_part_leave_the_encoder_as_it_was() -> None:
    lora = ["--model.encoder.adapter=ssl_nlp.encoders.adapters.LoRA", "--model.encoder.adapter.rank=4"]
    assert run(*stream("lora", OWN, *lora)) == 0
    assert record("lora")["metrics"]["forgetting"] == 0
    saved = torch.load("runs/lora/checkpoints/last.ckpt", weights_only=True)
    kept = saved["callbacks"]["WeightsPerPart"]["kept"]
    assert len(kept) == 3
    assert all("lora_" in name or name.startswith("head.") for name in kept[0])
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


@pytest.mark.parametrize("more", [("--data.replay=0.1", ELASTIC), (OWN, "--trainer.accumulate_grad_batches=2")])
@pytest.mark.parametrize("place", [("STOP_AT", "21"), ("STOP_AFTER", "32"), ("STOP_AFTER", "48")])
def test_a_run_that_is_stopped_ends_with_the_same_bits(
    more: tuple[str, ...], place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a part, in the validation after a part, and in the last one."""
    stops = "--trainer.callbacks+=tests.end_to_end.test_continual.Stop"
    assert run(*stream("alone", *more, stops)) == 0
    monkeypatch.setenv(*place)
    assert run(*stream("stopped", *more, stops)) == 143
    monkeypatch.delenv(place[0])
    assert run(*stream("stopped", *more, stops)) == 0
    assert record("alone") == record("stopped")
    tables = [
        [
            {k: v for k, v in row.items() if k not in OF_THE_MACHINE}
            for row in read_metrics(Path(f"runs/{n}/metrics.csv"))
        ]
        for n in ("alone", "stopped")
    ]
    assert tables[0] == tables[1]
    weights = [torch.load(f"runs/{n}/checkpoints/last.ckpt", weights_only=True) for n in ("alone", "stopped")]
    for name, tensor in weights[0]["state_dict"].items():
        assert torch.equal(tensor, weights[1]["state_dict"][name])


def test_a_stream_that_cannot_be_measured_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {
        "max_steps 20 ends before the last of the 48 steps": ["--trainer.max_steps=20"],
        "max_epochs 2: the parts come once": ["--trainer.max_epochs=2"],
        "limit_val_batches 2 would leave out parts": ["--trainer.limit_val_batches=2"],
        "has a part: name the field": ["--data.corpus.part=null"],
        "has no field `subject`": ["--data.corpus.part=subject"],
        "ElasticWeights: the data do not come in parts": [
            "--data=ssl_nlp.data.TextDataModule",
            "--trainer.max_epochs=1",
            ELASTIC,
        ],
    }
    for message, more in wrong.items():
        assert run(*stream("wrong", *more)) == 2
        lines = capsys.readouterr().err.strip().split("\n")
        assert message in lines[-1], lines
        assert not Path("runs/wrong").exists()
