"""The wheel contains the configurations, by name, and the demo, and works in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_nlp.commands.shipped import CONFIGS, config_names, find_config, with_paths
from ssl_nlp.errors import UserError
from tests.end_to_end.cli import run, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of this checkout was unpacked, as pip does it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    build = [*pip, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run(build, check=True, cwd=folder)
    [wheel] = folder.glob("*.whl")
    target = folder / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, cwd=folder)
    return target


def test_the_wheel_trains_from_a_shipped_name_in_an_empty_folder(installed, tmp_path):
    texts = write_texts(tmp_path / "texts")
    overlay = ["--config", "trainer/cpu", *small(texts)[:-2], "--config", "trainer/debug", *tiny_encoder()]
    command = [sys.executable, "-m", "ssl_nlp", "fit", "--config", "masked_lm", *overlay]
    subprocess.run(command, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)})
    assert (tmp_path / "runs" / "masked_lm-seed0" / "checkpoints" / "last.ckpt").is_file()


def test_the_wheel_holds_every_configuration_and_the_demo(installed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Python would look there first
    show = "import ssl_nlp.commands.demo, ssl_nlp.commands.shipped as s; "
    show += "print(s.__file__, s.CONFIGS, *s.config_names(), sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    shown = subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True, env=environment)
    file, configs, *names = shown.stdout.splitlines()
    assert Path(file).is_relative_to(installed)
    assert Path(configs) == installed / "ssl_nlp" / "configs"
    assert names == config_names()


def test_a_name_is_a_shipped_configuration_and_a_file_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("masked_lm") == find_config("masked_lm.yaml") == str(CONFIGS / "masked_lm.yaml")
    assert find_config("trainer/debug") == str(CONFIGS / "trainer" / "debug.yaml")
    Path("masked_lm.yaml").write_text("seed_everything: 1\n")
    assert find_config("masked_lm.yaml") == "masked_lm.yaml"
    assert find_config("{seed_everything: 1}") == "{seed_everything: 1}"
    assert with_paths(["-c", "vae", "--run", "vae", "--config=trainer/cpu"]) == [
        "--config",
        str(CONFIGS / "vae.yaml"),
        "--run",
        "vae",
        f"--config={CONFIGS / 'trainer' / 'cpu.yaml'}",
    ]


def test_a_name_of_nothing_is_refused_with_what_there_is(capsys):
    with pytest.raises(
        UserError, match="there is no file mask_lm.*did you mean masked_lm.*ssl-nlp fit --help lists all"
    ):
        find_config("mask_lm")
    with pytest.raises(UserError, match="there is no file"):
        find_config("../pyproject")
    assert run("fit", "--config", "mask_lm") == 2
    assert "there is no file mask_lm" in capsys.readouterr().err
