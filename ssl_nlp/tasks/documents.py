"""Documents that a task predicts something for, and their form in files for people to read."""

import json
from dataclasses import replace
from typing import Any

from ssl_nlp.corpora import Document
from ssl_nlp.errors import UserError

Text = str | tuple[str, str] | list[str]
"""A text, or two that belong together."""

LONGEST = 200  # characters of a text among samples


def document_of(text: Text, number: int) -> Document:
    """The document of a text or of a pair.

    Args:
        text: what the user gave.
        number: its place, for messages.

    Raises:
        UserError: it is neither.
    """
    if isinstance(text, str):
        return Document(text)
    if isinstance(text, list | tuple) and len(text) == 2 and all(isinstance(part, str) for part in text):
        return Document(text[0], pair=text[1])
    raise UserError(f"text {number} is {text!r:.60}: give a text, or a pair of texts")


def pair_of_line(line: str, number: int, what: str = "two texts") -> Document:
    """The document of a line with a tab between its text and its pair.

    Args:
        line: without its end.
        number: of the line, for messages.
        what: the line should hold.

    Raises:
        UserError: it has no tab, or several.
    """
    if line.count("\t") != 1:
        raise UserError(f"line {number} is not a pair of texts: write {what} with one tab between them")
    text, pair = line.split("\t")
    return Document(text, pair=pair)


def plain(document: Document) -> dict[str, Any]:
    """A document as plain data: `text`, and `pair` and `label` where it has them."""
    given = {"text": document.text, "pair": document.pair, "label": document.label}
    return {name: value for name, value in given.items() if value is not None}


def cut(document: Document) -> Document:
    """A document with texts short enough to be read in a list of samples."""
    pair = None if document.pair is None else document.pair[:LONGEST]
    return replace(document, text=document.text[:LONGEST], pair=pair)


def shown(value: Any) -> str:
    """A value of a record as one line of text; probabilities with two digits, the highest first."""
    if isinstance(value, dict):
        numbers = sorted(value.items(), key=lambda item: -float(item[1]))
        return ", ".join(f"{name} {number:.2f}" for name, number in numbers[:5])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
