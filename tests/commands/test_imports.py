"""`--import`: classes of the user's own, from their own files."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from ssl_nlp.methods import Method
from tests.commands.attacks import refused
from tests.end_to_end.cli import run, write_texts
from tests.end_to_end.test_errors import fit

pytestmark = pytest.mark.usefixtures("payload")


OWN = '''
from pathlib import Path

from beside import RATE
from ssl_nlp.methods import MaskedLM

class Mine(MaskedLM):
    """A masked language model with an argument more."""

    def __init__(self, hidden: float = RATE, **others) -> None:
        super().__init__(**others)
        self.hidden = hidden
'''


def test_a_class_of_ones_own_from_the_working_directory(monkeypatch, capfd):
    """Trained, resumed and used in a folder that is not a package, as the console script runs it."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(Path.cwd()))])
    for name in ("beside", "mine_in_file"):  # what is there after the test is forgotten
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.delitem(sys.modules, name)
    write_texts(Path())
    Path("beside.py").write_text("RATE = 0.4\n")
    Path("mine_in_file.py").write_text(OWN)
    command = [*fit("masked_lm", "--run=own"), "--model=mine_in_file.Mine"]
    assert "mine_in_file.Mine is not a known class: if it is yours, name its file with --import" in refused(
        capfd, *command
    )
    assert run(*command, "--import=mine_in_file.py") == 0
    checkpoint = "--checkpoint=runs/own/checkpoints/last.ckpt"
    assert Method.load_from_checkpoint(checkpoint.partition("=")[2]).hidden == 0.4
    capfd.readouterr()
    # Another process has not imported it: what the class was is forgotten.
    del sys.modules["mine_in_file"]
    monkeypatch.setattr("ssl_nlp.runs.checkpoint.subclasses", lambda bases: iter(()))
    assert "--import FILE.py" in refused(capfd, "fill-mask", checkpoint, "--text=[MASK]")
    assert run("fill-mask", "--import", "mine_in_file.py", checkpoint, "--text=[MASK]") == 0
    assert run("validate", "--import", "mine_in_file", "--run=own") == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--import"], "--import needs a value"),
        (["--import=there.py"], "there is no such file"),
        (["--import=there_is_no_such_module"], "ModuleNotFoundError"),
        (["--import=json.py"], "there is already a module json: rename the file"),
        (["--import=my-file.py"], "cannot be the name of a module"),
        (["--import=wrong.py"], "--import wrong.py fails: ZeroDivisionError: division by zero (line 2)"),
        (["--import=half.py"], "SyntaxError"),
        (["--import=ends.py"], "--import ends.py fails: SystemExit: 0 (line 1)"),
        (["--import=./text.txt"], "--import text.txt is not a .py file"),
    ],
)
def test_mistakes_of_import(given, said, capfd):
    Path("json.py").touch()
    Path("my-file.py").touch()
    Path("wrong.py").write_text("# a comment\n1 / 0\n")
    Path("half.py").write_text("class\n")
    Path("ends.py").write_text("raise SystemExit(0)\n")
    Path("text.txt").touch()
    assert said in refused(capfd, "generate", "--checkpoint=a.ckpt", *given)
    assert not {"wrong", "half", "ends"} & sys.modules.keys()
