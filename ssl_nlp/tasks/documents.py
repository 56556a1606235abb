"""Documents that a task predicts something for, and their form in files for people to read."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ssl_nlp.corpora import Document
from ssl_nlp.data import TextDataModule
from ssl_nlp.data.encoding import characters_within
from ssl_nlp.data.units import Pairs, Texts
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


def texts_in_rows(documents: Sequence[Document], data: TextDataModule) -> list[list[str]]:
    """The beginnings of N texts that rows hold and, where rows are pairs, of their pairs: one list of N, or two of them.

    Rows of another kind than whole texts and pairs are taken to hold all.
    """
    sides = _sides(documents)
    limits = _limits(sides, data)
    if limits is None:
        return sides
    held = []
    for texts, limit in zip(sides[: len(limits)], limits, strict=True):  # the row of a text holds no pair
        counts = characters_within(data.tokenizer, texts, limit)
        held.append([text[:count] for text, count in zip(texts, counts, strict=True)])
    return held


def share_in_rows(documents: Sequence[Document], data: TextDataModule) -> float | None:
    """The share of the characters of `texts_in_rows` that rows hold; None for rows of which it is not known."""
    sides = _sides(documents)
    if _limits(sides, data) is None:
        return None
    held = texts_in_rows(documents, data)
    whole = sum(len(text) for texts, _ in zip(sides, held, strict=False) for text in texts)
    return sum(len(text) for texts in held for text in texts) / max(whole, 1)


def _sides(documents: Sequence[Document]) -> list[list[str]]:
    """The texts of documents and, if there are any, their pairs."""
    pairs = [document.pair for document in documents if document.pair is not None]
    return [[document.text for document in documents], *([pairs] if pairs else [])]


def _limits(sides: Sequence[Sequence[str]], data: TextDataModule) -> tuple[int, ...] | None:
    """The tokens that rows hold of the texts of each side; None where rows are not made of these as they are."""
    limits = data.maker.text_lengths(data.length)
    whole = type(data.maker).texts in (Texts.texts, Pairs.texts)  # not so in a unit of the user's own
    return limits if whole and limits is not None and len(limits) <= len(sides) else None


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
