"""Configurations and runs that somebody else sent do not run code, read, write or send anything of their own."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ssl_nlp.commands.suite_options import wandb_settings
from ssl_nlp.errors import UserError
from ssl_nlp.runs.run import Run as RunDirectory
from ssl_nlp.tracking import WandbSettings, wandb_mode
from tests.commands.attacks import ATTACKS, LATER, PROOF, TOUCH, refused
from tests.end_to_end.cli import run, write_texts
from tests.end_to_end.test_errors import fit

pytestmark = [pytest.mark.usefixtures("payload"), pytest.mark.slow]


# ------------------------------------------------------------------------------------------------------- configurations

CALL = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": "os.system"}}
MADE = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": TOUCH}}
CONFIGURED = {
    "method": {"model": LATER},
    "method by name": {"model": "payload.Encoder"},
    "encoder": {"model": {"init_args": {"encoder": TOUCH}}},
    "encoder in a run": {"model": {"init_args": {"encoder": ATTACKS["a module in a run"]}}},
    "views": {"model": {"class_path": "ssl_nlp.methods.SimCLR", "init_args": {"views": [LATER]}}},
    "data": {"data": LATER},
    "corpus": {"data": {"init_args": {"corpus": TOUCH}}},
    "callback": {"trainer": {"callbacks": [LATER]}},
    "command as a callback": {"trainer": {"callbacks": [TOUCH]}},
    "function that a callback calls": {"trainer": {"callbacks": [CALL]}},
    "object that a callback calls": {"trainer": {"callbacks": [MADE]}},
    "logger": {"trainer": {"logger": TOUCH}},
    "profiler": {"trainer": {"profiler": LATER}},
    "strategy": {"trainer": {"strategy": LATER}},
    "plugin": {"trainer": {"plugins": [TOUCH]}},
    "accelerator": {"trainer": {"accelerator": LATER}},
    "weights_only": {"weights_only": False},
    "a pickle": {"ckpt_path": "pickle.ckpt"},
}


@pytest.fixture
def pickle() -> Path:
    """A checkpoint that leaves a proof when it is read by `pickle`."""

    class Attack:
        def __reduce__(self):
            return PROOF.touch, ()

    torch.save({"ssl_nlp": Attack(), "state_dict": {}}, "pickle.ckpt")
    return Path("pickle.ckpt")


@pytest.mark.parametrize("place", CONFIGURED)
def test_a_configuration_names_known_classes_only(place, pickle, capfd):
    """Whoever reads `--config` of somebody else's knows what is run: this package, Lightning, and their own `--import`."""
    Path("sent.yaml").write_text(json.dumps(CONFIGURED[place]))
    before = sorted(Path("runs").rglob("*"))
    write_texts(Path())
    line = refused(capfd, *fit("masked_lm", "--config=sent.yaml", "--run=mine"))
    assert any(name in line for name in ("is not a known class", "weights_only", "pickle.ckpt"))
    assert sorted(Path("runs").rglob("*")) == before


# -------------------------------------------------------------------------------------------------- runs that were sent


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run."""
    folder = tmp_path_factory.mktemp("trained")
    write_texts(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run(*fit("masked_lm", "--run=mine")) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def sent(trained: Path) -> Path:
    """Somebody else's run, for the attack to be written into."""
    shutil.copytree(trained, ".", dirs_exist_ok=True)
    Path("runs/mine").rename("runs/theirs")
    return Path("runs/theirs")


def reconfigure(run: Path, **changes: Any) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_configuration_of_a_run_decides_about_numbers_only(command, sent, pickle, capfd):
    """Its trainer would write elsewhere, import modules, and read another checkpoint with pickle: none of it happens."""
    profiler = {"class_path": "lightning.pytorch.profilers.AdvancedProfiler", "init_args": {"dirpath": "PROOF"}}
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "PROOF"}}
    trainer = {"profiler": profiler, "logger": logger, "callbacks": [LATER], "default_root_dir": "PROOF"}
    trainer |= {"plugins": [TOUCH], "strategy": LATER, "limit_val_batches": 1}
    reconfigure(sent, trainer=trainer, ckpt_path="pickle.ckpt", weights_only=False, wandb={"mode": "online"})
    before = {path for path in Path().rglob("*") if "cache" not in str(path)}
    assert run(command, "--run=theirs") == 0, capfd.readouterr().err
    written = {path for path in Path().rglob("*") if "cache" not in str(path)} - before
    assert written == ({sent / "embeddings.npy"} if command == "predict" else set())


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_pickle_in_a_run_is_not_read(command, sent, pickle, capfd):
    reconfigure(sent, weights_only=False)
    for name in ("best.ckpt", "last.ckpt"):
        shutil.copy(pickle, sent / "checkpoints" / name)
    told = refused(capfd, command, "--run", "theirs")
    assert re.search(r"best.ckpt holds [\w.]+, which could run code, so it is not read", told)
    assert run("fit", "--config", str(sent / "config.yaml"), "--trainer.max_steps=30") == 2


@pytest.mark.parametrize("place", ["model", "data"])
def test_the_classes_of_a_run_are_known_ones(place, sent, capfd):
    reconfigure(sent, **{place: LATER})
    assert "payload.Encoder is not a known class" in refused(capfd, "validate", "--run=theirs")


def test_a_broken_configuration_of_a_run_is_named(sent, capfd):
    for text in ("", "[]", "model: {}\n", "a: [", "model: 1\ndata: 2\nseed_everything: 0\ntrainer: 3\n"):
        (sent / "config.yaml").write_text(text)
        assert "theirs/config.yaml is broken" in refused(capfd, "validate", "--run=theirs")


@pytest.mark.parametrize("name", ["checkpoints", "wandb", "samples.jsonl", "metrics.csv", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("begun", [True, False])
def test_nothing_is_written_through_the_links_of_a_run(name, begun, sent, capfd):
    elsewhere = Path("elsewhere").absolute()
    elsewhere.mkdir()
    link = sent / name
    if link.exists():
        link.rename(elsewhere / link.name)
    link.symlink_to(elsewhere / link.name)
    state = json.loads((sent / "run.json").read_text()) | {"finished": False}
    (sent / "run.json").write_text(json.dumps(state))
    if not begun:
        (sent / "run.json").unlink()
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    line = refused(capfd, "fit", "--config", str(sent / "config.yaml"))
    assert f"{name} is a link to {elsewhere}" in line
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before


def test_links_within_a_run_and_to_all_of_it_are_the_users_own(sent, capfd):
    Path("disk").mkdir()
    sent.rename("disk/theirs")
    sent.symlink_to(Path("disk/theirs").absolute())
    Path("disk/theirs/checkpoints/mine.ckpt").symlink_to("last.ckpt")
    assert "is finished" in refused(capfd, "fit", "--config", str(sent / "config.yaml"))


def test_evaluations_and_embeddings_follow_no_link_of_a_run(sent, capfd):
    (sent / "embeddings.npy").symlink_to(Path("PROOF").absolute())
    assert run("predict", "--run=theirs") == 0
    assert not PROOF.exists() and not (sent / "embeddings.npy").is_symlink()
    (sent / "wandb").symlink_to(Path().absolute())
    capfd.readouterr()
    assert "theirs/wandb is a link" in refused(capfd, "evaluate", "theirs")


@pytest.mark.parametrize("known", ["../../x", "a/b", "x" * 300, 3, ["a"], "a b"])
def test_the_wandb_id_of_a_run_is_one(known, sent):
    (sent / "run.json").write_text(json.dumps({"wandb_id": known, "finished": True}))
    with pytest.raises(UserError, match=r"run.json is broken"):
        RunDirectory("theirs").wandb_id()


def test_a_run_does_not_decide_to_whom_its_numbers_are_sent(sent, monkeypatch, capfd):
    config = sent / "config.yaml"
    monkeypatch.delenv("WANDB_MODE")
    reconfigure(sent, wandb={"mode": "online", "entity": "somebody"})
    for mode in (None, "auto", "online"):
        settings = wandb_settings(config, mode)
        assert (settings.mode, settings.entity) == ("offline", None)
        assert "theirs names the W&B entity somebody: nothing is sent there" in capfd.readouterr().err
    monkeypatch.setenv("WANDB_ENTITY", "somebody")  # the user is of that team
    assert wandb_settings(config, None) == WandbSettings("online", entity="somebody")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(wandb_settings(config, None)) == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode(wandb_settings(config, "online")) == "offline"
    reconfigure(sent, wandb={"mode": "online", "to": "somebody"})
    with pytest.raises(UserError, match=r"config.yaml is broken"):
        wandb_settings(config, None)


def test_a_run_that_was_begun_under_another_name_is_still_one(sent, capfd):
    sent.rename("runs/a run of old")
    assert run("validate", "--run=a run of old") == 0
