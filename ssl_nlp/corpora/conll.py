"""Words with tags to documents: CoNLL files, and records that list words and tags."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from ssl_nlp.corpora.base import Document
from ssl_nlp.corpora.lines import read_lines
from ssl_nlp.errors import UserError

DOCUMENT_START = "-DOCSTART-"
_UNSPACED = re.compile(  # Chinese, kana, their punctuation and full-width forms
    r"[\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff9f\uffe0-\uffe6\U00020000-\U0003ffff]"
)
_RANGE = re.compile(r"\d+[-.]\d+")  # the id of a multiword token or of an empty node

Row = tuple[int, list[str]]
"""The number of a line, and its columns."""


def tagged(place: str, words: Sequence[str], tags: Sequence[str] | None) -> Document:
    """The document of a sentence whose words have tags, or have none.

    The text is the words joined by blanks. Words of one character each, some of them Chinese or Japanese, are joined
    without blanks, as these languages are written; `ssl_nlp.data.marks.words_of_tags` finds both again.

    Raises:
        UserError: the numbers of words and tags differ, or a word is empty or holds white space.
    """
    if tags is not None and len(tags) != len(words):
        raise UserError(
            f"{place}: {_counted(len(words), 'word')}, but {_counted(len(tags), 'tag')}: give each word one tag"
        )
    for word in words:
        _check_word(place, word)
    characters = all(len(word) == 1 for word in words) and any(map(_UNSPACED.match, words))
    return Document(("" if characters else " ").join(words), None if tags is None else tuple(tags))


def read_conll(path: Path, text: int | str, label: int | str | None) -> Iterator[Document]:
    """Sentences of a CoNLL file: a word a line, a blank line after each sentence.

    Columns are separated by tabs, or by any white space in a sentence without tabs. Lines of `-DOCSTART-` are left out,
    and so are the comments, multiword tokens and empty nodes of CoNLL-U. A comment is a line that begins with `#` and
    has no tab, in a sentence whose other lines have tabs: a word may begin with `#`, too.

    Args:
        path: the file.
        text: the column of the words, counted from 0, or from the end if negative.
        label: the column of the tags, counted in the same way; None to read no tags.

    Raises:
        UserError: a field is not a column, a line has another number of columns than the first one, or a word has no tag.
    """
    for name, column in (("text", text), ("label", label)):
        if not isinstance(column, int | None):
            raise UserError(
                f"{path}: `{name}: {column}` is not a column of a CoNLL file: give its number, such as `text: 0` for the "
                "first and `label: -1` for the last"
            )
    width: int | None = None
    for rows in _sentences(path):
        words, tags = [], []
        for number, row in rows:
            if width is None:
                width = len(row)
                _check_columns(f"{path}, line {number}", width, int(text), None if label is None else int(label))
            if len(row) != width:
                raise UserError(
                    f"{path}, line {number} has {_counted(len(row), 'column')} instead of {width}: give each word its tag, "
                    "and put a blank line between sentences"
                )
            if width == 10 and text != 0 and _RANGE.fullmatch(row[0]):
                continue
            words.append(row[int(text)])
            _check_word(f"{path}, line {number}", words[-1])
            if label is not None:
                tags.append(row[int(label)])
                if not tags[-1]:
                    raise UserError(f"{path}, line {number}: the word {words[-1]!r} has no tag: give it one")
        if words:
            yield tagged(f"{path}, line {rows[0][0]}", words, None if label is None else tags)


def _check_word(place: str, word: str) -> None:
    if word.split() != [word]:
        remedy = "write it with _ instead" if word.strip() else "remove it with its tag"
        raise UserError(f"{place}: the word {word!r} is blank or holds white space: {remedy}")


def _check_columns(place: str, width: int, text: int, label: int | None) -> None:
    for name, column in (("text", text), ("label", label)):
        if column is not None and not -width <= column < width:
            raise UserError(f"{place} has {width} columns and no column `{name}: {column}`: count columns from 0")
    if label is not None and label % width == text % width:
        raise UserError(
            f"{place} has {width} columns, so that `text: {text}` and `label: {label}` are the same one: give each word a "
            "tag, or name another column"
        )


def _sentences(path: Path) -> Iterator[list[Row]]:
    block: list[tuple[int, str]] = []
    for number, line in enumerate(chain(read_lines(path), ["\n"]), start=1):
        if not line.isspace():
            block.append((number, line.rstrip("\n")))
        elif block:
            tabs = any("\t" in line for _, line in block)
            rows = [
                (number, [column.strip() for column in line.split("\t")] if tabs else line.split())
                for number, line in block
                if not (tabs and line.startswith("#") and "\t" not in line)
            ]
            rows = [(number, row) for number, row in rows if row[0] != DOCUMENT_START]
            block = []
            if rows:
                yield rows


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
