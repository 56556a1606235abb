"""The table of commands: help, dispatch and the message about an unknown command follow from it."""

import io
import os
import signal
import subprocess
import sys
from importlib import import_module

import pytest
import torch

from ssl_nlp.__main__ import COMMANDS, help_text, main
from ssl_nlp.cache import cache_dir
from ssl_nlp.commands import demo
from tests.end_to_end.cli import ROOT, run


def test_the_overview_names_every_command_with_an_example_and_the_caches():
    text = help_text()
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert f"ssl-nlp {name} " in command.help
    assert str(cache_dir()) in text
    assert all(len(line) <= 124 for line in text.splitlines()[:-1])


def test_the_overview_the_help_and_the_readme_agree_how_long_the_demo_takes():
    assert "; ten minutes: " in COMMANDS["demo"].help
    assert "in about ten minutes." in demo.HELP
    assert "and the demo ten, on two cores" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_gets_its_arguments_and_imports(name, monkeypatch):
    module, _, function = COMMANDS[name].function.partition(".")
    given = []
    monkeypatch.setattr(import_module(f"ssl_nlp.commands.{module}"), function, lambda *both: given.append(both))
    main([name, "--a", "--import=json", "b"])
    assert given == [(["--a", "b"], ["json"])]


def test_an_unknown_command_is_refused_with_those_there_are(capsys):
    assert run("fti") == 2
    assert capsys.readouterr().err == f"ssl-nlp: there is no command 'fti': use one of {', '.join(COMMANDS)}\n"


@pytest.mark.parametrize(
    ("kind", "message", "begin"),
    [
        (
            torch.OutOfMemoryError,
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB.",
            "CUDA out of memory: ",
        ),
        (torch.AcceleratorError, "CUDA error: out of memory\nAn asynchronous", "CUDA error: out of memory: "),
    ],
)
def test_a_full_gpu_is_one_line_with_fixes(capsys, monkeypatch, kind, message, begin):
    def fail(*both):
        raise kind(message)

    module, _, function = COMMANDS["score"].function.partition(".")
    monkeypatch.setattr(import_module(f"ssl_nlp.commands.{module}"), function, fail)
    assert run("score") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ssl-nlp: {begin}use smaller batches ")
    assert "--data.batch_size" in line and "CUDA_VISIBLE_DEVICES= " in line


def test_a_reader_that_has_enough_ends_a_command_silently():
    code = """
from ssl_nlp.commands.parser import run_function
from ssl_nlp.terminal import say
def count():
    "Print numbers."
    for number in range(1_000_000):
        say(str(number))
run_function(count, "count", [])
"""
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_the_overview_needs_none_of_the_large_libraries():
    show = (
        "import sys, ssl_nlp.__main__ as m; m.main(['--help']); print({'torch', 'lightning', 'yaml'} & {*sys.modules})"
    )
    shown = subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True)
    assert shown.stdout.endswith("set()\n")


def test_libraries_show_progress_bars_in_a_terminal_only(monkeypatch):
    for terminal, expected in ((True, None), (False, "1")):
        monkeypatch.setenv("TQDM_DISABLE", "0")  # so that it is restored
        del os.environ["TQDM_DISABLE"]
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        main(["--version"])
        assert os.environ.get("TQDM_DISABLE") == expected
