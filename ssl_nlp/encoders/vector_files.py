"""Files of word vectors, as word2vec, GloVe, fastText and gensim write them, in text or in binary.

A file may come from anybody. It is read as words and numbers and nothing else, a line or vector at a time, and only the
vectors of wanted words are kept.
"""

import codecs
import mmap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ssl_nlp.errors import UserError

Vector = npt.NDArray[np.float32]

LONGEST_WORD = 1000  # bytes
WIDEST = 2**16
LONGEST_LINE = LONGEST_WORD + 32 * WIDEST


def read_vectors(path: Path, wanted: Collection[str]) -> tuple[dict[str, Vector], int]:
    """The vectors (E,) of those wanted words that the file has, and E; where it has a word twice, the first counts.

    Raises:
        UserError: the file cannot be read, or is broken.
    """
    found: dict[str, Vector] = {}
    try:
        with path.open("rb") as file:
            number, width = _shape(file)
            for word, vector in _vectors(file, number, width, wanted):
                found.setdefault(word, vector)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is not a file of word vectors: {error}") from error
    if broken := [word for word, vector in found.items() if not np.isfinite(vector).all()]:
        raise UserError(f"{path} is not a file of word vectors: the vector of {broken[0][:40]!r} is not finite")
    return found, width


def _shape(file: BinaryIO) -> tuple[int | None, int]:
    """The number of vectors, if the file says it (GloVe's do not), and their width; the file then stands at the first.

    Raises:
        ValueError: the file is something else.
    """
    begin = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
    file.seek(begin)
    head = file.readline(LONGEST_LINE)
    parts = head.split()
    number: int | None = None
    if len(parts) == 2 and all(part.isdigit() and len(part) < 12 for part in parts):
        number, width = map(int, parts)
    else:
        width = len(parts) - 1
        file.seek(begin)
    if not 1 <= width <= WIDEST or (number is None and _numbers(head, width) is None):
        raise ValueError("its first line is neither two whole numbers nor a word with its numbers")
    return number, width


def _vectors(file: BinaryIO, number: int | None, width: int, wanted: Collection[str]) -> Iterator[tuple[str, Vector]]:
    """The wanted words and their vectors, in the order of the file.

    Raises:
        ValueError: the file is something else.
    """
    start = file.tell()
    first = file.readline(LONGEST_LINE)
    file.seek(start)
    if number and _numbers(first, width) is None:
        yield from _binary(file, number, width, wanted)
        return
    place = 0
    for line in iter(lambda: file.readline(LONGEST_LINE), b""):
        parts = line.rsplit(maxsplit=width)
        place += bool(parts)
        if parts and (word := parts[0].decode("utf-8", "replace")) in wanted:
            vector = _numbers(line, width)
            if vector is None:
                raise ValueError(f"vector {place} is not {width} numbers after a word")
            yield word, vector
    if number is not None and place != number:
        raise ValueError(f"it has {place} vectors, and its first line promises {number}")


def _numbers(line: bytes, width: int) -> Vector | None:
    """The vector (E,) of a line of text; None if the line is something else."""
    parts = line.rsplit(maxsplit=width)
    if len(parts) != width + 1:
        return None
    try:
        with np.errstate(over="ignore"):  # to infinity
            return np.array([float(part) for part in parts[1:]]).astype(np.float32)
    except ValueError:
        return None


def _binary(file: BinaryIO, number: int, width: int, wanted: Collection[str]) -> Iterator[tuple[str, Vector]]:
    """The wanted words among `number` words, each with a space and 4 E bytes after it, and perhaps a line's end."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place, size = file.tell(), 4 * width
        for index in range(number):
            end = content.find(b" ", place, place + LONGEST_WORD)
            if end < 0 or end + 1 + size > len(content):
                raise ValueError(f"it ends within vector {index + 1} of {number}")
            word = content[place:end].lstrip(b"\n").decode("utf-8", "replace")
            place = end + 1 + size
            if word in wanted:
                yield word, np.frombuffer(content[end + 1 : place], dtype="<f4").astype(np.float32)
        if content[place : place + 2].strip():
            raise ValueError(f"it goes on after vector {number}, the last one that its first line promises")
