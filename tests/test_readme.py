"""What the README tells people to type exists."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from ssl_nlp.__main__ import TRAINER, USE, help_text
from ssl_nlp.cache import cache_dir

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_things_that_exist(command):
    program, *arguments = shlex.split(command, comments=True)
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        return
    assert program == "ssl-nlp"
    assert arguments[0] in TRAINER | USE
    for flag, value in itertools.pairwise(arguments):
        if flag == "--config":
            assert (ROOT / value).is_file()


def test_the_overview_names_every_command_and_the_caches():
    text = help_text()
    assert all(name in text for name in TRAINER | USE)
    assert str(cache_dir()) in text
