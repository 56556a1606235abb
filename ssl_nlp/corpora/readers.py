"""Files to documents: one reader for each format, which says what is wrong with a file and where."""

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from ssl_nlp.corpora.base import Document
from ssl_nlp.errors import UserError

Format = Literal["text", "jsonl", "csv", "tsv", "parquet"]
Unit = Literal["file", "line", "paragraph"]
Field = int | str

ENDINGS: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


def read_file(path: Path, format: Format | None, unit: Unit, text: Field, label: Field | None) -> Iterator[Document]:
    """The documents of one file, lazily, in their order.

    Args:
        path: the file; a last ending `.gz` says that it is compressed.
        format: None takes it from the ending.
        unit: what a document is in plain text. In all other formats it is a record.
        text, label: name of the field that holds each; in csv and tsv also its number, counted from 0, which says that
            the file has no header.

    Raises:
        UserError: an unknown ending, an empty or unreadable file, bytes that are not UTF-8, a broken or missing record
            or field.
    """
    name = path.name.lower().removesuffix(".gz")
    known = format or ENDINGS.get(Path(name).suffix)
    if known is None:
        raise UserError(f"{path}: unknown ending; set `format` to one of {', '.join(get_args(Format))}")
    readers: dict[Format, Callable[[], Iterator[Document]]] = {
        "text": lambda: read_text(path, unit),
        "jsonl": lambda: read_jsonl(path, text, label),
        "csv": lambda: read_table(path, csv_rows(path), text, label),
        "tsv": lambda: read_table(path, tsv_rows(path), text, label),
        "parquet": lambda: read_parquet(path, text, label),
    }
    empty = True
    for document in readers[known]():
        empty = False
        yield document
    if empty:
        raise UserError(f"{path} is empty: fill it, or name only files that hold text")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed when it ends with `.gz`.

    Raises:
        UserError: here or while the bytes are read, when the file cannot be read or is no complete gzip file.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]  # a GzipFile is all that we need of a BinaryIO
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is no complete gzip file ({error}): compress or copy it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, each ending as on Unix. A byte order mark is dropped."""
    offset = 0
    with opened(path) as file:
        for line in file:
            try:
                decoded = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path} is not UTF-8: byte 0x{line[error.start]:02x} at offset {offset + error.start}; "
                    "convert it (iconv -t UTF-8) or leave it out"
                ) from error
            if not offset:
                decoded = decoded.removeprefix(codecs.BOM_UTF8.decode())
            offset += len(line)
            yield decoded[:-2] + "\n" if decoded.endswith("\r\n") else decoded


def read_text(path: Path, unit: Unit) -> Iterator[Document]:
    """Plain text: the file as it is, or its lines that are not blank, or its runs of such lines."""
    if unit == "file":
        text = "".join(read_lines(path))
        if text and not text.isspace():
            yield Document(text)
        return
    paragraph: list[str] = []
    for line in read_lines(path):
        blank = line.isspace()
        if not blank:
            paragraph.append(line)
        if paragraph and (blank or unit == "line"):
            yield Document("".join(paragraph).rstrip("\n"))
            paragraph = []
    if paragraph:
        yield Document("".join(paragraph).rstrip("\n"))


def read_jsonl(path: Path, text: Field, label: Field | None) -> Iterator[Document]:
    """One JSON object a line. A text that is null is left out, a label may be missing or any plain value."""
    for number, line in enumerate(read_lines(path), start=1):
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is not JSON: {error.msg} at character {error.pos + 1}") from error
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number} is no JSON object: write {{{json.dumps(text)}: ...}} on each line")
        for field in (text, label):
            if field is not None and field not in record:
                raise missing_field(f"{path}, line {number}", field, record)
        document = to_document(f"{path}, line {number}", text, record[text], None if label is None else record[label])
        if "\\ud" in line.lower():  # JSON can escape half a character, UTF-8 cannot hold it
            try:
                document.text.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{path}, line {number}: half of a surrogate pair in `{text}`: repair it") from error
        yield document


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of the line on which a row ends, and its fields; quoted fields may hold commas, quotes and line ends."""
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than a long document
    rows = csv.reader(read_lines(path), strict=True)
    try:
        for row in rows:
            if row:
                yield rows.line_num, row
    except csv.Error as error:
        raise UserError(
            f"{path}, line {rows.line_num} is not CSV ({error}): double the quotes inside of quoted fields, or save it "
            "as .tsv, where quotes mean nothing"
        ) from error


def tsv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of the line and its fields. Quotes are text, and a field ends at a tab or at the end of the line."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.isspace():
            yield number, line.rstrip("\n").split("\t")


def read_table(
    path: Path, rows: Iterator[tuple[int, list[str]]], text: Field, label: Field | None
) -> Iterator[Document]:
    """Rows below a header, or without one when `text` is the number of its column."""
    names: list[str] | range | None = None
    for number, row in rows:
        if names is None:
            names = range(len(row)) if isinstance(text, int) else row
            for field in (text, label):
                if field is not None and field not in names:
                    raise missing_field(str(path), field, names)
            columns = [names.index(text), None if label is None else names.index(label)]  # type: ignore[arg-type]
            if not isinstance(text, int):
                continue
        values = [None if column is None else row[column] if column < len(row) else "" for column in columns]
        if "" in values and len(row) < len(names):
            raise UserError(f"{path}, line {number} has {len(row)} fields instead of {len(names)}: mend or remove it")
        yield Document(values[0] or "", values[1])


def read_parquet(path: Path, text: Field, label: Field | None) -> Iterator[Document]:
    """One record a row, read in batches."""
    import pyarrow
    from pyarrow import parquet

    with opened(path) as file:
        try:
            # Parquet is read from its end, which a compressed stream has to be unpacked for.
            table = parquet.ParquetFile(io.BytesIO(file.read()) if path.suffix.lower() == ".gz" else file)
            for field in (text, label):
                if field is not None and field not in table.schema_arrow.names:
                    raise missing_field(str(path), field, table.schema_arrow.names)
            columns = [str(field) for field in (text, label) if field is not None]
            for batch in table.iter_batches(batch_size=1000, columns=columns):
                for record in batch.to_pylist():
                    yield to_document(str(path), text, record[text], None if label is None else record[label])
        except pyarrow.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} is no complete parquet file ({reason}): write or copy it again") from error


def to_document(place: str, field: Field, text: object, label: object) -> Document:
    """A document from the values of a record. A text that is None becomes a blank one."""
    if text is not None and not isinstance(text, str):
        raise UserError(f"{place}: field `{field}` holds {type(text).__name__}, not text: name another one in `text`")
    return Document(text or "", None if label is None else str(label))


def missing_field(place: str, field: Field, names: object) -> UserError:
    """The error for a field that `place` does not have, naming those it has."""
    existing = ", ".join(str(name) for name in names)  # type: ignore[attr-defined]
    return UserError(f"{place} has no field `{field}`; set `text` and `label` to some of: {existing}")
