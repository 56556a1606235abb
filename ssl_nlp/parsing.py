"""Parsers of the command line, whose errors are single lines."""

import ast
import json
import re

from jsonargparse import ArgumentParser

from ssl_nlp.errors import UserError

COMPLAINTS = {  # of jsonargparse about a value, and what they come to
    r"Expected a typing\.Literal\[(.*?)\]": r"take one of \1",
    r"Expected a dot import path string: (.*)": r"there is no class \1: ssl-nlp fit --help lists them",
    r"(?:Problem with given class_path '.*?': )?Importing '(.*?)' is not allowed.*": (
        r"\1 is not a known class: if it is yours, name its file with --import FILE.py"
    ),
    r"Expected an? <class '(\w+)'>": r"take a value of type \1",
    r"Option (.*) is not accepted": r"there is no option \1: ssl-nlp fit --help lists them",
}


class CommandParser(ArgumentParser):
    """Argument parser of a command of our own."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
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


def shorten(message: str) -> str:
    """One line of a parser's complaint: the option and what is wrong with it, without all the types that were tried."""
    line = " ".join(message.split())
    if found := re.match(r'Parser key "([^"]+)": (.*)', line):
        option, tried = found.groups()
        tried, _, given = tried.partition(" Given value type: ")
        complaints = re.split(r" - (?=Expected an? |Option |[\w.]+: )", tried.split("Errors: - ")[-1])
        complaints = [text for text in complaints if text != "Expected a <class 'NoneType'>"]
        for pattern, plain in COMPLAINTS.items():
            complaints = [re.sub(pattern, plain, text) for text in complaints]
        inner = [text for text in complaints if re.match(r"[\w.]+: ", text)]  # of an option within this one
        line = f"{option}.{inner[0]}" if inner else f"{option}: {' or '.join(dict.fromkeys(complaints))}"
        value = given.partition(" Given value: ")[2]
        if value and not value.startswith("NestedArg(") and "take " in line and "Got value" not in line:
            line += f". Got value: {value}"
    return line if len(line) < 500 else line[:240] + " ... " + line[-240:]
