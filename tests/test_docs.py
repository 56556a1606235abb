"""The options that the documentation mentions exist."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.cli import CONFIGS, ROOT, run

pytestmark = pytest.mark.slow

BLOCKS = [
    block
    for path in sorted((ROOT / "docs").glob("*.md"))
    for block in re.findall(r"```bash\n(.*?)```", path.read_text(), flags=re.DOTALL)
]
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
FITS = [line for line in LINES if re.search("ssl[-_]nlp fit", line) and "--import" not in line]  # see test_examples


@pytest.mark.parametrize("command", FITS)
def test_every_option_of_fit_exists(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("runs/OLD").mkdir(parents=True)
    shutil.copy(CONFIGS / "masked_lm.yaml", "runs/OLD/config.yaml")
    arguments = shlex.split(re.split("ssl[-_]nlp ", command)[1], comments=True)
    assert run(*arguments, "--print_config") == 0, capsys.readouterr().err
    assert yaml.safe_load(capsys.readouterr().out)["model"]["class_path"]
