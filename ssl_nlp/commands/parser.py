"""Parsers of the command line, whose errors are single lines."""

import ast
import inspect
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from difflib import SequenceMatcher
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from jsonargparse import ArgumentParser

from ssl_nlp.errors import UserError

COMPLAINTS = {  # of jsonargparse about a value, and what they come to
    r"Expected a typing\.Literal\[(.*?)\]": r"take one of \1",
    r"Expected a dot import path string: (.*)": r"there is no class \1: ssl-nlp fit --help lists them",
    r"(?:Problem with given class_path '.*?': )?Importing '(.*?)' is not allowed.*": (
        r"\1 is not a known class: if it is yours, name its file with --import FILE.py"
    ),
    r"Expected an? <class '(\w+)'>": r"take a value of type \1",
    r"Option (.*) is not accepted": r"there is no option \1",
}
IDLE = r"^Expected a <class 'NoneType'>$|^(- )?Expected a path but |^$"  # complaints about what nobody meant
LIKE = 0.6  # names that share less are not meant


class CommandParser(ArgumentParser):
    """Argument parser of a command of our own."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **settings)

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        options = {action.dest: action.option_strings[-1] for action in self._actions if action.option_strings}
        if found := re.match("unrecognized arguments: (--[^ =]+)", message):
            meant = nearest(found[1], options.values())
            hint = f"did you mean {meant}? " if meant else ""
            raise UserError(f"there is no option {found[1]}: {hint}{self.prog} --help lists all") from ex
        if found := re.match("unrecognized arguments: (.*)", message):
            raise UserError(f"{found[1]} is one argument too many: {self.prog} --help lists all") from ex
        if found := re.match("the following arguments are required: (.*)", message):
            missing = ", ".join(options.get(name, name) for name in found[1].split(", "))
            raise UserError(f"{missing} missing: {self.prog} --help explains the arguments") from ex
        raise UserError(shorten(message)) from ex


def as_yaml(argument: str) -> str:
    """`--NAME=VALUE` with the value in YAML, where it is written in Python: `None` is `null`.

    jsonargparse reads the value of an option of a nested class, and hands it to the parser of that class as Python prints
    it. Then null would be the text "None" there, and a line end in a list of texts would be a backslash and an n.
    """
    name, equals, value = argument.partition("=")
    if not equals or not (value == "None" or value.startswith(("[", "{"))):
        return argument
    try:
        return f"{name}={json.dumps(ast.literal_eval(value))}"
    except (ValueError, SyntaxError, TypeError):  # not Python: what the user wrote
        return argument


def check_writable(given: str, path: Path) -> None:
    """Refuse a file that cannot be created, before the work that it is to hold.

    Args:
        given: what the user gave, as in `--output FILE`.
        path: the file.

    Raises:
        UserError: it says what was given, and where it cannot be.
    """
    there = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise UserError(f"{given} cannot be written in {there} ({error.strerror}): name another folder") from error


# ------------------------------------------------------------------------------------------------------ names of options


def nullable(hint: Any) -> bool:
    """Whether an argument of this type may be null."""
    return hint is Any or hint is NoneType or any(nullable(part) for part in get_args(hint) if hint is not part)


def options_of(kind: type, option: str, bases: tuple[type, ...] = ()) -> Iterator[str]:
    """The names of all options below a class: its arguments, and those of the classes that these may be.

    Args:
        kind: the class.
        option: how the class itself is set, such as `--model`.
        bases: of the classes whose subclasses a configuration chooses from.
    """
    for name, hint in get_type_hints(kind.__init__).items():  # type: ignore[misc]
        if name == "return":
            continue
        yield f"{option}.{name}"
        for choice in _choices(hint, bases):
            yield from options_of(choice, f"{option}.{name}", bases)


def _choices(hint: Any, bases: tuple[type, ...]) -> list[type]:
    if inspect.isclass(hint) and issubclass(hint, bases):
        return [hint, *(below for kind in hint.__subclasses__() for below in _choices(kind, bases))]
    if inspect.isclass(hint) and is_dataclass(hint):
        return [hint]
    return [kind for part in get_args(hint) for kind in _choices(part, bases)]


def unknown_option(message: str, arguments: Sequence[str]) -> str | None:
    """The option that a message calls unknown, as it was typed or stands in a configuration; None if there is none."""
    if found := re.search(r"(?:(\S+): )?there is no option '([\w.-]+)'", message):
        place, name = found.groups()
    elif found := re.search(r"(?:(\S+): )?unrecognized arguments: (--[\w.-]+)", message):
        place, name = found[1], found[2].removeprefix("--")
    else:
        return None
    typed = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    fallback = f"--{place}.{name}" if place else f"--{name}"
    if f"--{name}" in typed:
        return f"--{name}"
    return next((option for option in typed if option.endswith(f".{name}")), fallback)


def nearest(option: str, known: Iterable[str]) -> str | None:
    """The option whose name, and then whose place, is most like this one; None if none is like it.

    Of another part of the configuration than this one is said to be, only an option of the very same name.
    """
    parts = ("--model.", "--data.", "--trainer.", "--wandb.")
    place = next((part for part in parts if option.startswith(part)), "")

    def likeness(one: str, other: str) -> float:
        return SequenceMatcher(None, one, other).ratio()

    leaf = option.rpartition(".")[2].lstrip("-")
    scored = [(likeness(leaf, other.rpartition(".")[2].lstrip("-")), likeness(option, other), other) for other in known]
    scored = [score for score in scored if score[0] == 1 or score[2].startswith(place)]
    best = max(scored, default=(0.0, 0.0, ""))
    return best[2] if best[0] > LIKE else None


# ------------------------------------------------------------------------------------------------------------- complaints


def shorten(message: str) -> str:
    """One line of a parser's complaint: the option and what is wrong with it, without all the types that were tried."""
    line = " ".join(message.split())
    if line.startswith("the following arguments are required: fit."):
        return "fit needs a configuration: ssl-nlp fit --config masked_lm, for one"
    if found := re.match("unrecognized arguments: (?!--)(.*)", line):
        return f"{found[1]} is one argument too many: --help lists all"
    if found := re.match("the following arguments are required: (.*)", line):
        return f"{found[1]} missing: --help explains the arguments"
    if found := re.match(r'Parser key "([^"]+)": (.*)', line):
        option, tried = found.groups()
        tried, _, given = tried.partition(" Given value type: ")
        complaints = re.split(r" - (?=Expected an? |Option |[\w.]+: )", tried.split("Errors: - ")[-1])
        complaints = [text.removeprefix("- ") for text in complaints if not re.search(IDLE, text)]
        for pattern, plain in COMPLAINTS.items():
            complaints = [re.sub(pattern, plain, text) for text in complaints]
        inner = [text for text in complaints if re.match(r"[\w.]+: ", text)]  # of an option within this one
        line = f"{option}.{inner[0]}" if inner else f"{option}: {' or '.join(dict.fromkeys(complaints))}"
        if (
            (nested := re.search(r"NestedArg\(key='([\w.]+)\.(\w+)'", given))
            and inner
            and inner[0].startswith(f"{nested[2]}:")
        ):
            line = f"{option}.{nested[1]}.{inner[0]}"
        line = line.replace(" or take ", " or ")
        value = given.partition(" Given value: ")[2]
        if value and not value.startswith("NestedArg(") and "take " in line and "Got value" not in line:
            line += f". Got value: {value}"
    return line if len(line) < 500 else line[:240] + " ... " + line[-240:]
