"""Names, terminals and spreadsheets are safe from text of any origin."""

import csv
from pathlib import Path

import pytest
import torch
from rich.table import Table
from rich.text import Text

from ssl_nlp.comparison import Comparison, Estimate, Row
from ssl_nlp.comparison.table import write_csv
from ssl_nlp.data import Tokenizer
from ssl_nlp.methods import CausalLM, MaskedLM
from ssl_nlp.names import as_name, check_name
from ssl_nlp.terminal import SafeConsole, console, printable, say
from tests.commands.attacks import refused, saved, tiny
from tests.end_to_end.cli import run, write_texts
from tests.end_to_end.test_errors import fit

pytestmark = [pytest.mark.usefixtures("payload"), pytest.mark.slow]


NAMES = [
    "",
    " ",
    ".",
    "..",
    "a/b",
    "a b",
    "a\n",
    "\x1b[31m",
    "$(touch PROOF)",
    "-a",
    ".a",
    "a.",
    "a\u202e",
    "a\0",
    "x" * 300,
    "语" * 90,
]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_name_is_refused_in_one_line(name, capfd):
    write_texts(Path())
    line = refused(capfd, *fit("masked_lm", f"--run={name}"))
    assert "is not a valid name" in line or "is too long for a name" in line
    assert line.isprintable()
    assert refused(capfd, "validate", f"--run={name}").isprintable()


@pytest.mark.parametrize("name", ["a", "lr-0.1_b", "v1.2", "实验一", "हिन्दी", "über", "مرحبا", "7"])
def test_names_of_any_script(name):
    check_name(name, "--run")
    assert as_name(f"{name} {name}") == f"{name}-{name}"


@pytest.mark.parametrize("command", [["embed", "--checkpoint"], ["evaluate"], ["compare"], ["validate", "--config"]])
def test_paths_that_no_file_system_takes(command, capfd):
    end = ["--output=a.npy", "--input=payload.py"] if command[0] == "embed" else []
    assert refused(capfd, *command, "x" * 300 + ".ckpt", *end).isprintable()


@pytest.mark.parametrize(
    ("option", "value"),
    [("project", "a/b"), ("project", ""), ("project", "x" * 129), ("entity", "a:b"), ("group", "x" * 129)],
)
def test_what_wandb_does_not_take_is_said_before_training(option, value, capfd):
    write_texts(Path())
    assert f"wandb.{option}" in refused(capfd, *fit("masked_lm", f"--wandb.{option}={value}"))


ESCAPES = "a\x1b]0;title\x07\x1b[2J\rb\x9b31m\u202ec\n\td\ud800"
SAFE = "a\\x1b]0;title\\x07\\x1b[2J\\rb\\x9b31m\\u202ec\n\td\\ud800"


def test_a_terminal_obeys_nobody_else(capfd):
    assert printable(ESCAPES) == SAFE
    assert printable("naïve 语 हि \u200d 👩‍🚀") == "naïve 语 हि \u200d 👩‍🚀"
    say(ESCAPES)
    assert capfd.readouterr().out == SAFE + "\n"
    table = Table(title="t")
    table.add_column(Text("\x1b[31mname"))
    table.add_row(Text("\x1b]8;;http://there\x07row"))
    console(80).print(table)
    SafeConsole(force_terminal=True, color_system="standard").print(Text("\x1b[2Jred", style="red"))
    shown = capfd.readouterr().out
    assert "\\x1b[31mname" in shown and "\\x1b]8;;http://ther" in shown
    assert shown.splitlines()[-1] == "\x1b[31m\\x1b[2Jred\x1b[0m"  # the colour is ours


def test_what_a_checkpoint_writes_is_shown_without_escapes(tokenizer, monkeypatch, capfd):
    torch.save(saved(CausalLM(tiny()), tokenizer), "clm.ckpt")
    torch.save(saved(MaskedLM(tiny()), tokenizer), "mlm.ckpt")
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: "\x1b[2Jone\ntwo")
    monkeypatch.setattr(Tokenizer, "token", lambda self, token_id: "\x1b[2J")
    assert run("generate", "--checkpoint=clm.ckpt", "--prompt=a", "--max_new_tokens=8") == 0
    assert "a\\x1b[2Jone\ntwo\n" in capfd.readouterr().out
    assert run("fill-mask", "--checkpoint=mlm.ckpt", "--text=\x1b[31m [MASK]") == 0
    shown = capfd.readouterr().out
    assert "\\x1b[31m [MASK]" in shown
    assert "\x1b" not in shown


def test_no_cell_of_a_comparison_is_a_formula(tmp_path):
    formula = '=HYPERLINK("http://there","see")'
    for label in (formula, "+1", "-1", "@SUM(1)", "\t=1", "\r=1"):
        row = Row(label, (), True, {label: Estimate(-0.5, None, None, 1)})
        write_csv(Comparison("docs", 1, [], [row], [], {}), tmp_path / "comparison.csv")
        with (tmp_path / "comparison.csv").open(newline="") as file:
            [line] = csv.DictReader(file)
        assert (line["row"], line["number"], line["mean"]) == (f"'{label}", f"'{label}", "-0.5")
