from pathlib import Path

import pytest
import yaml

from ssl_nlp.cli import default_run_name, plan_fit
from ssl_nlp.errors import UserError
from ssl_nlp.run import Run, differences

CONFIG = "seed_everything: 0\ntrainer: {max_steps: 5}\n"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_new_run_begins_and_an_unfinished_one_resumes():
    run = Run("a")
    assert run.resume_from(CONFIG) is None
    run.begin(CONFIG).release()
    assert run.resume_from(CONFIG) is None  # killed before its first checkpoint
    run.checkpoints.mkdir()
    run.last_checkpoint.touch()
    assert run.resume_from(CONFIG) == run.last_checkpoint


def test_a_finished_run_is_refused():
    run = Run("a")
    run.begin(CONFIG).release()
    run.finish()
    with pytest.raises(UserError, match="runs/a is finished"):
        run.resume_from(CONFIG)


def test_another_configuration_is_refused_by_its_difference():
    run = Run("a")
    run.begin(CONFIG).release()
    with pytest.raises(UserError, match=r"trainer.max_steps: 5 -> 6"):
        run.resume_from(CONFIG.replace("5", "6"))


def test_two_processes_cannot_train_one_run():
    lock = Run("a").begin(CONFIG)
    with pytest.raises(UserError, match="being trained by another process"):
        Run("a").begin(CONFIG)
    lock.release()
    Run("a").begin(CONFIG).release()


def test_a_folder_of_somebody_else_is_left_alone():
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is no run"):
        Run("a").resume_from(CONFIG)


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_names_that_are_paths_are_refused(name):
    with pytest.raises(UserError, match="is not a name"):
        Run(name)


def test_the_wandb_id_stays():
    run = Run("a")
    run.begin(CONFIG).release()
    first = run.read_state()["wandb_id"]
    run.begin(CONFIG).release()
    assert run.read_state()["wandb_id"] == first


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
    config = str(Path(__file__).parents[1] / "configs" / "vae.yaml")
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
