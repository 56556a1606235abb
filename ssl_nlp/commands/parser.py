"""The parser that all commands share: its errors are single lines, and it takes null only where null is meant."""

import argparse
import ast
import json
import os
import re
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, get_args

from jsonargparse import ArgumentParser

from ssl_nlp.commands.complaints import nearest, plain_complaint
from ssl_nlp.errors import UserError

WIDTH, COLUMN = 100, 26  # of the help, of its texts


class CommandParser(ArgumentParser):
    """Argument parser of a command."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        # No abbreviations: `--ckpt` would be lost beside the `--ckpt_path` that `--run` stands for.
        super().__init__(*args, **settings | {"allow_abbrev": False})

    def validate(self, cfg: Any, *more: Any, **settings: Any) -> None:
        """Check a configuration; jsonargparse alone takes null for every argument."""
        super().validate(cfg, *more, **settings)
        for action in self._actions:
            hint, name = getattr(action, "_typehint", None), action.dest
            if hint is not None and not nullable(hint) and action.default is not None and cfg.get(name, ...) is None:
                self.error(f"{name} must not be null: leave it out, or give it a value")

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """The help in plain words: the usage, what the command does, and each option with its default."""
        actions = [action for action in self._actions if hasattr(action, "_typehint")]
        options = {action.option_strings[-1]: action for action in actions if action.option_strings}
        positional = [str(action.metavar) for action in actions if not action.option_strings]
        required = [name for name, a in options.items() if a.default is None and not nullable(a._typehint)]
        needed = [*(f"{name}..." for name in positional), *(f"{name} {_metavar(options[name])}" for name in required)]
        needed += ["[--OPTION=VALUE]..."] if len(required) < len(options) else []
        lines = [f"usage: {self.prog} {' '.join(needed)}", *textwrap.wrap(self.description or "", WIDTH), ""]
        for action in actions:
            value = _metavar(action) if action.default is None else action.default
            start = f"  {action.option_strings[-1]}={value}" if action.option_strings else f"  {action.metavar}"
            text = f"{start:<{COLUMN}}  {str(action.help)[:1].upper()}{str(action.help)[1:]}"
            lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * (COLUMN + 2))
        lines += ["", *textwrap.wrap(self.epilog, WIDTH)] if self.epilog else []
        return "\n".join(lines) + "\n"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        options = {action.dest: action.option_strings[-1] for action in self._actions if action.option_strings}
        if found := re.match("unrecognized arguments: (--[^ =]+)", message):
            meant = nearest(found[1], options.values())
            hint = f"did you mean {meant}? " if meant else ""
            raise UserError(f"there is no option {found[1]}: {hint}{self.prog} --help lists all options") from ex
        if found := re.match("unrecognized arguments: (.*)", message):
            raise UserError(f"unexpected argument {found[1]}: {self.prog} --help lists all options") from ex
        if found := re.match("the following arguments are required: (.*)", message):
            positional = {action.dest: str(action.metavar) for action in self._actions if not action.option_strings}
            missing = ", ".join((positional | options).get(name, name) for name in found[1].split(", "))
            command = self.prog.removeprefix("ssl-nlp ")
            raise UserError(f"{command} needs {missing}: {self.prog} --help explains the arguments") from ex
        raise UserError(plain_complaint(message)) from ex


def _metavar(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def run_function(function: Callable[..., None], name: str, arguments: Sequence[str]) -> None:
    """Run a function as the command `name`: its docstring is the help, its arguments are the options.

    Where the reader of its output closes it, the process ends silently, with 128 + the number of SIGPIPE.
    """
    parser = CommandParser(prog=f"ssl-nlp {name}", description=(function.__doc__ or "").split("\n")[0])
    parser.add_function_arguments(function)
    given = parser.parse_args(list(arguments)).as_dict()
    try:
        function(**given)
    except BrokenPipeError:  # whoever reads the output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        sys.exit(128 + signal.SIGPIPE)


def as_yaml(argument: str) -> str:
    """`--NAME=VALUE` with the value in YAML, where it is written in Python: `None` is `null`.

    jsonargparse reads the value of an option of a nested class, and hands it to the parser of that class as Python prints
    it. There null would become the text "None", and a line end in a list of texts a backslash and an n.
    """
    name, equals, value = argument.partition("=")
    if not equals or not (value == "None" or value.startswith(("[", "{"))):
        return argument
    try:
        return f"{name}={json.dumps(ast.literal_eval(value))}"
    except (ValueError, SyntaxError, TypeError):  # not Python: what the user wrote
        return argument


def check_writable(given: str, path: Path) -> None:
    """Refuse a file that cannot be created, before any work is done for it.

    Args:
        given: what the user typed, such as `--output FILE`.
        path: the file.

    Raises:
        UserError: it cannot be created.
    """
    there = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise UserError(f"{given} cannot be written in {there} ({error.strerror}): name another folder") from error


def nullable(hint: Any) -> bool:
    """Whether an argument of this type may be null."""
    return hint is Any or hint is NoneType or any(nullable(part) for part in get_args(hint) if hint is not part)
