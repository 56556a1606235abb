"""Plain text whose lines belong to the lines of another file, as translations come."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from ssl_nlp.corpora.base import Document
from ssl_nlp.corpora.lines import read_lines
from ssl_nlp.errors import UserError


def file_of_pairs(path: Path, ending: int | str | None) -> Path | None:
    """The file beside `path` with another ending, as `train.de.gz` beside `train.en.gz`; None if it is not an ending."""
    name = path.name.removesuffix(".gz")
    if not isinstance(ending, str) or not ending.startswith(".") or ending in (".", Path(name).suffix):
        return None
    return path.with_name(Path(name).stem + ending + path.name[len(name) :])


def read_parallel(path: Path, ending: int | str, unit: str) -> Iterator[Document]:
    """The lines of a file, each with the line of the other file as its pair. Where both are blank, they are left out.

    Raises:
        UserError: documents are not lines, there is no such file, or a line has no partner.
    """
    pairs = file_of_pairs(path, ending)
    if pairs is None:
        raise UserError(
            f"{path} is plain text, which has no field `{ending}`: set `pair` to the ending of the file whose lines belong "
            "to its lines, such as .de, or leave it out, or set `format`"
        )
    if unit != "line":
        raise UserError(f"the pairs of {path} are the lines of {pairs}: set `unit` to line")
    lines = zip_longest(read_lines(path), read_lines(pairs))
    for number, (text, pair) in enumerate(lines, start=1):
        if text is None or pair is None:
            short, long = (path, pairs) if text is None else (pairs, path)
            raise UserError(f"{short} has {number - 1} lines, and {long} has more: give each line its partner")
        if text.isspace() and pair.isspace():
            continue
        if text.isspace() or pair.isspace():
            blank, other = (path, pairs) if text.isspace() else (pairs, path)
            raise UserError(f"line {number} is blank in {blank}, but not in {other}: fill it, or remove both")
        yield Document(text.rstrip("\n"), pair=pair.rstrip("\n"))
