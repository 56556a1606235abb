from pathlib import Path

import pytest
import torch
import yaml

from ssl_nlp.commands.fit import plan_fit
from ssl_nlp.commands.run_name import default_run_name, folder_of_config
from ssl_nlp.errors import UserError
from ssl_nlp.runs.run import Run, differences

CONFIG = "seed_everything: 0\ntrainer: {max_steps: 5}\n"


def begin(run: Run, config: str = CONFIG) -> None:
    """Let a run begin, in a process that then ends."""
    lock = run.lock()
    run.begin(config, wandb_id="id", tokenizer="0123456789abcdef")
    lock.release()


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_new_run_begins_and_an_unfinished_one_resumes():
    run = Run("a")
    assert run.resume_from(CONFIG) is None
    begin(run)
    assert run.resume_from(CONFIG) is None  # killed before its first checkpoint
    run.checkpoints.mkdir()
    torch.save({}, run.last_checkpoint)
    assert run.resume_from(CONFIG) == run.last_checkpoint


def test_the_checkpoint_before_is_taken_where_the_last_one_is_damaged_or_missing():
    run = Run("a")
    begin(run)
    run.checkpoints.mkdir()
    previous = run.checkpoints / "previous.ckpt"
    for path in (run.last_checkpoint, previous):
        torch.save({"weight": torch.ones(1000)}, path)
    content = bytearray(run.last_checkpoint.read_bytes())
    content[len(content) // 2] ^= 1  # one bit of a weight
    run.last_checkpoint.write_bytes(content)
    assert run.resume_from(CONFIG) == previous
    run.last_checkpoint.write_bytes(content[: len(content) // 2])
    assert run.resume_from(CONFIG) == previous
    run.last_checkpoint.unlink()
    assert run.resume_from(CONFIG) == previous
    previous.write_bytes(b"")
    with pytest.raises(UserError, match="runs/a cannot resume because its last.ckpt is damaged"):
        run.resume_from(CONFIG)


def test_a_run_without_its_last_checkpoint_is_not_begun_again_over_its_best_one():
    run = Run("a")
    begin(run)
    run.checkpoints.mkdir()
    (run.checkpoints / "best.ckpt").touch()
    with pytest.raises(UserError, match="runs/a cannot resume because its last.ckpt is missing"):
        run.resume_from(CONFIG)


def test_what_is_used_of_a_training_on_parts_is_the_end_of_its_stream():
    run = Run("a")
    run.checkpoints.mkdir(parents=True)
    best = run.checkpoints / "best.ckpt"
    best.touch()
    run.last_checkpoint.touch()
    assert run.best_checkpoint() == best
    (run.directory / "continual.json").write_text("{}")
    assert run.best_checkpoint() == run.last_checkpoint


def test_a_run_that_was_killed_while_it_began_does_not_exist():
    run = Run("a")
    run.directory.mkdir(parents=True)
    run.config.write_text(CONFIG.replace("5", "6"))  # and run.json was not written yet
    (run.directory / "wandb").mkdir()
    assert run.resume_from(CONFIG) is None
    run.abandon()
    assert not run.directory.exists()


def test_a_folder_gives_its_run_the_name_and_a_renamed_one_goes_on():
    begin(Run("a"), "run: a\n" + CONFIG)
    Run("a").directory.rename(Run("b").directory)
    assert Run("b").resume_from("run: b\n" + CONFIG) is None
    with pytest.raises(UserError, match=r"trainer.max_steps: 5 -> 6"):
        Run("b").resume_from("run: b\n" + CONFIG.replace("5", "6"))
    assert folder_of_config([str(Run("b").config)]) == "b"
    assert folder_of_config(["masked_lm.yaml", "runs/b/config.yaml", "cpu.yaml"]) == "b"
    assert folder_of_config(["b/config.yaml"]) is None


def test_a_finished_run_is_refused():
    run = Run("a")
    begin(run)
    run.finish()
    with pytest.raises(UserError, match="runs/a is finished"):
        run.resume_from(CONFIG)


def test_another_configuration_is_refused_by_its_difference():
    run = Run("a")
    begin(run)
    with pytest.raises(UserError, match=r"trainer.max_steps: 5 -> 6"):
        run.resume_from(CONFIG.replace("5", "6"))


def test_two_processes_cannot_train_one_run():
    lock = Run("a").lock()
    with pytest.raises(UserError, match="being trained by another process"):
        Run("a").lock()
    lock.release()
    Run("a").lock().release()


def test_a_folder_of_somebody_else_is_left_alone():
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a run"):
        Run("a").resume_from(CONFIG)


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_names_that_are_paths_are_refused(name):
    with pytest.raises(UserError, match="is not a valid name"):
        Run(name)


def test_the_wandb_id_stays():
    run = Run("a")
    begin(run)
    assert Run("a").wandb_id() == run.read_state()["wandb_id"] == "id"


def test_differences_name_nested_keys():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == ["a.c: 2 -> 3", "d: None -> 4"]


def test_runs_of_two_files_with_one_method_have_names_of_their_own(tmp_path):
    kind = "ssl_nlp.methods.Autoencoder"
    (tmp_path / "tsdae.yaml").write_text(f"model:\n  class_path: {kind}\n")
    (tmp_path / "small.yaml").write_text("model:\n  init_args: {latent_dim: 8}\ntrainer: {max_steps: 2}\n")
    (tmp_path / "cpu.yaml").write_text("trainer: {accelerator: cpu}\n")
    files = [str(tmp_path / name) for name in ("tsdae.yaml", "small.yaml", "cpu.yaml")]
    assert default_run_name(kind, files, 3) == "tsdae-seed3"
    assert default_run_name("ssl_nlp.methods.MaskedLM", files, 0) == "masked_lm-seed0"
    assert default_run_name(kind, [], 0) == "autoencoder-seed0"


@pytest.mark.parametrize("model", ["MaskedLM", "{class_path: MaskedLM}", "{class_path: ssl_nlp.methods.MaskedLM}"])
def test_a_file_names_its_runs_however_it_spells_the_method(tmp_path, model):
    (tmp_path / "mine.yaml").write_text(f"model: {model}\n")
    (tmp_path / "overlay.yaml").write_text("# nothing yet\n")
    files = [str(tmp_path / name) for name in ("mine.yaml", "overlay.yaml")]
    assert default_run_name("ssl_nlp.methods.MaskedLM", files, 0) == "mine-seed0"


def test_a_configuration_may_stand_in_the_argument_and_a_file_has_to_be_utf8(tmp_path):
    config = str(Path(__file__).parents[2] / "configs" / "vae.yaml")
    planned = yaml.safe_load(plan_fit(["--config", config, "--config", "{trainer: {max_steps: 3}}"]))
    assert (planned["run"], planned["trainer"]["max_steps"]) == ("vae-seed0", 3)
    (tmp_path / "other.yaml").write_bytes("# über\n".encode("latin-1"))
    with pytest.raises(UserError, match="other.yaml is not UTF-8 at byte 2"):
        plan_fit(["--config", config, f"--config={tmp_path / 'other.yaml'}"])


def test_a_broken_state_is_named():
    run = Run("mine")
    run.directory.mkdir(parents=True)
    (run.directory / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json is broken"):
        run.read_state()
