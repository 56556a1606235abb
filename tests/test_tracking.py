"""The offline W&B run, read back record by record."""

import json
import struct
from pathlib import Path

import pytest
import wandb
import yaml

from ssl_nlp import tracking
from ssl_nlp.tracking import WandbSettings, log_comparison
from tests.end_to_end.cli import CONFIGS, run, run_process, small, tiny_encoder, write_texts


def records(path: Path):
    """All records of an offline run: protocol buffers in LevelDB's log format after a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no header fits into the rest of a block
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last of its parts
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


@pytest.mark.parametrize(
    ("method", "columns"),
    [("masked_lm", ["text", "hidden", "fillings"]), ("vae", ["text", "reconstruction", "from_prior"])],
)
def test_an_offline_run_holds_configuration_metrics_and_samples(method, columns, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = write_texts(tmp_path)
    arguments = ["--wandb.mode=offline", "--wandb.group=mine", "--run=a"]
    assert run("fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts), *tiny_encoder(), *arguments) == 0
    wandb.teardown()  # its service writes the end of the file when it ends, as it does with every process
    [path] = (tmp_path / "runs" / "a" / "wandb").glob("offline-run-*/*.wandb")
    state = json.loads((tmp_path / "runs" / "a" / "run.json").read_text())
    history: dict[str, list] = {}
    config, group, run_id = {}, "", ""
    written = [*records(path)]
    for record in written:
        if record.HasField("run"):
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            group, run_id = record.run.run_group, record.run.run_id
        for item in record.history.item:
            name = item.key or ".".join(item.nested_key)
            history.setdefault(name, []).append(json.loads(item.value_json))
    assert (group, run_id) == ("mine", state["wandb_id"])
    expected = yaml.safe_load((tmp_path / "runs" / "a" / "config.yaml").read_text())
    assert config["model"]["init_args"] == expected["model"]["init_args"]
    assert config["data"]["init_args"]["corpus"]["init_args"]["train"] == texts
    rows = [{item.key or ".".join(item.nested_key) for item in record.history.item} for record in written]
    validations = [row for row in rows if "val/loss" in row]
    assert validations and all({"train/tokens", "train/flops"} <= row for row in validations)
    axes = {r.metric.name or r.metric.glob_name: r.metric.step_metric for r in written if r.HasField("metric")}
    assert (axes["val/loss"], axes["*"]) == ("train/tokens", "trainer/global_step")
    for name in ("train/loss", "val/loss", "train/tokens_per_second", "train/mfu", "train/tokens", "train/flops"):
        assert history[name], name
    assert history["samples._type"][-1] == "table-file"
    [file] = path.parent.glob(f"files/{history['samples.path'][-1]}")
    assert json.loads(file.read_text())["columns"] == columns


@pytest.mark.slow
def test_no_network_is_no_failure(tmp_path, monkeypatch):
    """Somebody is logged in, but nothing answers."""
    monkeypatch.delenv("WANDB_MODE")
    texts = write_texts(tmp_path)
    config = ["fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(texts), *tiny_encoder()]
    account = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    arguments = ["--wandb.mode=auto", "--run=a", "--trainer.max_steps=2"]
    result = run_process(*config, *arguments, cwd=tmp_path, **account)
    assert result.returncode == 0, result.stderr
    assert "kept offline" in result.stderr
    assert list((tmp_path / "runs" / "a" / "wandb").glob("offline-run-*"))


def test_a_home_that_cannot_be_written_is_left_alone(tmp_path, monkeypatch):
    """Tables are staged in the home directory, which would end the run at its first validation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/dev/null/nobody")
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", f"/dev/null/nobody/{name}")
    texts = write_texts(tmp_path)
    arguments = ["--wandb.mode=offline", "--run=a", "--trainer.max_steps=2"]
    assert run("fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(texts), *tiny_encoder(), *arguments) == 0
    assert list((tmp_path / "runs" / "a" / "wandb").glob("offline-run-*/files/media/table/*.json"))


@pytest.mark.parametrize("error", [wandb.errors.UsageError, wandb.errors.CommError])
def test_what_the_server_says_against_a_run_is_said_and_the_run_kept_offline(error, tmp_path, monkeypatch, capfd):
    """The server is there, and does not know the entity."""
    begin = wandb.init

    def init(mode, **arguments):
        if mode == "online":
            raise error("entity 'nobody' not found (404)")
        return begin(mode=mode, **arguments)

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(tracking, "_unreachable", lambda url: None)
    log_comparison(WandbSettings(mode="online"), "mine", ["method"], [["a"]], [], [], tmp_path)
    said = capfd.readouterr().err
    assert "refused the run, which is kept offline: entity 'nobody' not found (404)" in said
    assert "reached" not in said
    assert list(tmp_path.glob("wandb/offline-run-*"))
    wandb.teardown()


def test_a_key_that_cannot_be_one_is_said(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    wandb.teardown()
    log_comparison(WandbSettings(), "mine", ["method"], [["a"]], [], [], tmp_path)
    assert "API key must have 40+ characters" in capfd.readouterr().err
    assert list(tmp_path.glob("wandb/offline-run-*"))
    wandb.teardown()


@pytest.mark.parametrize("mode", ["disabled"])
def test_disabled_leaves_nothing(mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = write_texts(tmp_path)
    arguments = [f"--wandb.mode={mode}", "--run=a", "--trainer.max_steps=2"]
    assert run("fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(texts), *tiny_encoder(), *arguments) == 0
    assert not (tmp_path / "runs" / "a" / "wandb").exists()
