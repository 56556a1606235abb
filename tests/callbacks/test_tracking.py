"""The offline W&B run, read back with wandb's own reader."""

import json
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts


def records(path: Path):
    """All records of an offline run."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record


def test_an_offline_run_holds_configuration_metrics_and_samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = write_texts(tmp_path)
    arguments = ["--wandb.mode=offline", "--wandb.group=mine", "--run=a"]
    assert run("fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(texts), *tiny_encoder(), *arguments) == 0
    [path] = (tmp_path / "runs" / "a" / "wandb").glob("offline-run-*/*.wandb")
    state = json.loads((tmp_path / "runs" / "a" / "run.json").read_text())
    history: dict[str, list] = {}
    config, group, run_id = {}, "", ""
    for record in records(path):
        if record.HasField("run"):
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            group, run_id = record.run.run_group, record.run.run_id
        for item in record.history.item:
            name = item.key or ".".join(item.nested_key)
            history.setdefault(name, []).append(json.loads(item.value_json))
    assert (group, run_id) == ("mine", state["wandb_id"])
    expected = yaml.safe_load((tmp_path / "runs" / "a" / "config.yaml").read_text())
    assert config["model"]["init_args"]["masking_rate"] == expected["model"]["init_args"]["masking_rate"]
    assert config["data"]["init_args"]["corpus"]["init_args"]["train"] == texts
    for name in ("train/loss", "val/loss", "train/tokens_per_second", "train/mfu", "train/tokens", "train/flops"):
        assert history[name], name
    table = history["samples"][-1]
    assert table["_type"] == "table-file"
    [file] = path.parent.glob(f"files/{table['path']}")
    assert json.loads(file.read_text())["columns"] == ["text", "hidden", "fillings"]


def test_no_network_is_no_failure(tmp_path, monkeypatch, capfd):
    """Somebody is logged in, but nothing answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    texts = write_texts(tmp_path)
    arguments = ["--wandb.mode=auto", "--run=a", "--trainer.max_steps=2"]
    assert run("fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(texts), *tiny_encoder(), *arguments) == 0
    assert "kept offline" in capfd.readouterr().err
    assert list((tmp_path / "runs" / "a" / "wandb").glob("offline-run-*"))


@pytest.mark.parametrize("mode", ["disabled"])
def test_disabled_leaves_nothing(mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = write_texts(tmp_path)
    arguments = [f"--wandb.mode={mode}", "--run=a", "--trainer.max_steps=2"]
    assert run("fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(texts), *tiny_encoder(), *arguments) == 0
    assert not (tmp_path / "runs" / "a" / "wandb").exists()
