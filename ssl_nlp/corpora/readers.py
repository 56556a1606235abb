"""Files to documents: one reader for each format, whose errors name the problem and its place."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ssl_nlp.corpora.base import Document, Label
from ssl_nlp.corpora.conll import read_conll, tagged
from ssl_nlp.corpora.lines import opened, read_lines
from ssl_nlp.corpora.parallel import read_parallel
from ssl_nlp.corpora.squad import answer_spans, read_squad
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

Format = Literal["text", "jsonl", "csv", "tsv", "parquet", "conll", "squad"]
DocumentUnit = Literal["file", "line", "paragraph"]
Field = int | str
LABELLED = 2  # the version of the rules by which labelled documents are read and kept, for the keys of caches

ENDINGS: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".conll": "conll",
    ".conllu": "conll",
    ".json": "squad",
}


@dataclass(frozen=True)
class Fields:
    """The fields of a record that make a document.

    They are given by name; in csv, tsv and conll by number, counted from 0, which says that the file has no header. With
    a separator, a label is text that holds several labels.
    """

    text: Field
    label: Field | None = None
    pair: Field | None = None
    separator: str | None = None
    part: Field | None = None

    @property
    def given(self) -> list[Field]:
        """The fields that are read."""
        return [field for field in (self.text, self.label, self.pair, self.part) if field is not None]

    def fingerprint(self) -> dict[str, Any]:
        """The fields as plain data, for the keys of caches."""
        new = ("separator", "part")  # later fields, which change no key where they are not given
        fields = {name: value for name, value in asdict(self).items() if name not in new or value is not None}
        return fields if self.label is None else fields | {"rules": LABELLED}

    def check(self, place: str, existing: Iterable[Field], given: Iterable[Field] | None = None) -> None:
        """Refuse a field that is not among those that exist at `place`, or is there twice.

        Args:
            existing: the names of all fields.
            given: the fields to look for; default: all that are read.

        Raises:
            UserError: it names the field and, if the field is missing, those that exist.
        """
        existing = list(existing)
        for field in self.given if given is None else given:
            if field not in existing:
                names = ", ".join(map(str, existing))
                raise UserError(
                    f"{place} has no field `{field}`; set `text`, `label`, `pair` and `part` to some of: {names}"
                )
            if existing.count(field) > 1:
                raise UserError(f"{place} has {existing.count(field)} fields `{field}`: rename all but one")

    def document(self, place: str, record: Mapping[Any, Any]) -> Document:
        """The document of a record that has these fields, the label excepted. A text that is None becomes a blank one.

        A list of words with a list of tags is a sentence (`tagged`), and a label may be answers (`answer_spans`) or a list
        of classes. Any other label is kept as text, whole numbers without a fraction (1.0 is 1: columns of numbers become
        fractions where one is missing). None, NaN and blank text count as no label, and no words as a blank text.

        Raises:
            UserError: a text or its pair is not a string, a label is not a plain value, or a text lacks its pair.
        """
        value = None if self.label is None else record.get(self.label)
        label: Label | None
        if _is_list(record[self.text], str):
            tags = self._names(place, value) if isinstance(value, list) else None
            sentence = tagged(place, record[self.text], tags)
            text, label = sentence.text, self._label(place, value) if tags is None else sentence.label
        else:
            text = self._string(place, "text", record[self.text])
            label = answer_spans(place, text, value) if _is_answers(value) else self._label(place, value)
        pair = None if self.pair is None else self._string(place, "pair", record[self.pair])
        if pair is not None and text.strip() and not pair.strip():
            raise UserError(
                f"{place}: field `{self.pair}` is blank beside {text[:40]!r}: fill it, or remove the record"
            )
        return Document(text, label, pair, part=None if self.part is None else self._part(place, record[self.part]))

    def _string(self, place: str, role: str, value: object) -> str:
        if value is not None and not isinstance(value, str):
            field, kind = getattr(self, role), type(value).__name__
            raise UserError(f"{place}: field `{field}` holds {kind}, not text: name another one in `{role}`")
        return value or ""

    def _part(self, place: str, value: object) -> str | None:
        if value is not None and not isinstance(value, str | int):
            kind = type(value).__name__
            raise UserError(f"{place}: field `{self.part}` holds {kind}, not a part: name another one in `part`")
        part = "" if value is None else str(value).strip()
        return part or None

    def _names(self, place: str, names: list[Any]) -> list[str]:
        """Tags or classes as text."""
        for number, name in enumerate(names, start=1):
            if not isinstance(name, str | int):
                shown = "null" if name is None else type(name).__name__
                raise UserError(
                    f"{place}: entry {number} of the list in field `{self.label}` is {shown}, not a tag or class: correct "
                    "it, or name another field in `label`"
                )
        return [str(name) for name in names]

    def _label(self, place: str, value: Any) -> str | tuple[str, ...] | None:
        if isinstance(value, list):
            return tuple(self._names(place, value))
        if isinstance(value, tuple | dict | set | bytes):
            kind = type(value).__name__
            raise UserError(f"{place}: field `{self.label}` holds {kind}, not a label: name another one in `label`")
        if isinstance(value, float):
            value = None if math.isnan(value) else int(value) if value.is_integer() else value
        label = "" if value is None else str(value)
        if self.separator is not None and value is not None:
            return tuple(part.strip() for part in label.split(self.separator) if part.strip())
        return label if label.strip() else None


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(element, kind) for element in value)


def _is_answers(value: Any) -> bool:
    records = value if isinstance(value, list) else [value]
    return all(isinstance(record, dict) and {"text", "answer_start"} <= record.keys() for record in records)


def read_file(path: Path, format: Format | None, unit: DocumentUnit, fields: Fields) -> Iterator[Document]:
    """The documents of one file, lazily, in their order.

    Args:
        path: the file; it is compressed if its name ends with `.gz`.
        format: None takes it from the ending.
        unit: what a document is in plain text. In all other formats it is a record.
        fields: the fields of a record that make a document. Plain text has none: its pairs are the lines of another file
            (`read_parallel`). Those of SQuAD's format are known.

    Raises:
        UserError: an unknown ending, an empty or unreadable file, bytes that are not UTF-8, a broken or missing record
            or field.
    """
    readers: dict[Format, Callable[[], Iterator[Document]]] = {
        "text": lambda: read_text(path, unit) if fields.pair is None else read_parallel(path, fields.pair, unit),
        "jsonl": lambda: read_jsonl(path, fields),
        "csv": lambda: read_table(path, csv_rows(path), fields, ragged=False),
        "tsv": lambda: read_table(path, tsv_rows(path), fields, ragged=True),
        "parquet": lambda: read_parquet(path, fields),
        "conll": lambda: read_conll(path, fields.text, fields.label),
        "squad": lambda: read_squad(path),
    }
    empty = True
    for document in readers[_format_of(path, format)]():
        empty = False
        yield document
    if empty:
        raise UserError(f"{path} is empty: fill it, or name only files that hold text")


def field_names(path: Path, format: Format | None) -> list[str]:
    """The names of a file's fields, by its header or its first JSON record; empty if they have no names.

    Raises:
        UserError: as `read_file`, but a broken record is left for that to report.
    """
    known = _format_of(path, format)
    if known in ("csv", "tsv"):
        return next((row for _, row in (csv_rows if known == "csv" else tsv_rows)(path)), [])
    if known == "parquet":
        with _parquet(path) as file:
            return list(file.schema_arrow.names)
    if known == "jsonl":
        try:
            record = json.loads(next((line for line in read_lines(path) if not line.isspace()), "{}"))
        except (RecursionError, ValueError):
            return []
        return list(record) if isinstance(record, dict) else []
    return []


def _format_of(path: Path, format: Format | None) -> Format:
    name = path.name.lower().removesuffix(".gz")
    known = format or ENDINGS.get(Path(name).suffix)
    if known is None:
        raise UserError(f"{path}: unknown ending; set `format` to one of {', '.join(get_args(Format))}")
    return known


def read_text(path: Path, unit: DocumentUnit) -> Iterator[Document]:
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


def read_jsonl(path: Path, fields: Fields) -> Iterator[Document]:
    """One JSON object a line. A text that is null is left out.

    A label may be missing or any plain value; a field for it that no line has is refused at the end of the file.
    """
    required = [field for field in (fields.text, fields.pair, fields.part) if field is not None]
    labelled, names = fields.label is None, dict[str, None]()
    for number, line in enumerate(read_lines(path), start=1):
        if line.isspace():
            continue
        place = f"{path}, line {number}"
        try:
            record = json.loads(line, object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            raise UserError(f"{place} is not JSON: {error.msg} at character {error.pos + 1}") from error
        except (RecursionError, ValueError) as error:
            raise UserError(f"{place} cannot be read as JSON ({error}): repair it") from error
        if not isinstance(record, dict):
            raise UserError(f"{place} is not a JSON object: write {{{json.dumps(fields.text)}: ...}} on each line")
        fields.check(place, record, required)
        document = fields.document(place, record)
        if "\\ud" in line.lower():  # JSON can escape half a character, UTF-8 cannot hold it
            for field, value in ((fields.text, document.text), (fields.pair, document.pair or "")):
                try:
                    value.encode()
                except UnicodeEncodeError as error:
                    raise UserError(f"{place}: half of a surrogate pair in `{field}`: repair it") from error
        labelled = labelled or fields.label in record
        if not labelled:
            names |= dict.fromkeys(record)
        yield document
    if not labelled and names:
        fields.check(str(path), names)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated fields, of which only one would be read."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field `{next(name for name in names if names.count(name) > 1)}` is there twice")
    return record


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of the line on which a row ends, and its fields; quoted fields may hold commas, quotes and line ends."""
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than a long document
    rows = csv.reader(read_lines(path), strict=True)
    try:
        for row in rows:
            if row:
                yield rows.line_num, row
    except csv.Error as error:
        if "new-line" in str(error):
            raise UserError(f"{path}, line {rows.line_num} holds a lone CR: end lines with LF or CR LF") from error
        raise UserError(
            f"{path}, line {rows.line_num} is not CSV ({error}): double the quotes inside of quoted fields, or save it "
            "as .tsv, where quotes mean nothing"
        ) from error


def tsv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of the line and its fields. Quotes are text, and a field ends at a tab or at the end of the line."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.isspace():
            yield number, line.rstrip("\n").split("\t")


def read_table(path: Path, rows: Iterator[tuple[int, list[str]]], fields: Fields, ragged: bool) -> Iterator[Document]:
    """Rows below a header, or without one when `text` is the number of its column.

    A row has as many fields as the header, or as the first row; more are allowed only where they are blank. A comma in a
    text that is not quoted would otherwise cut the text, and shift what follows it.

    Args:
        ragged: whether rows without header need only have the fields that are read. It is true of TSV, where no text
            holds a separator: the rows of the STS benchmark, for one, have seven or nine fields.
    """
    names: list[str] | range | None = None
    for number, row in rows:
        if names is None:
            names = range(len(row)) if isinstance(fields.text, int) else row
            fields.check(str(path), names)
            columns = {field: names.index(field) for field in fields.given}  # type: ignore[arg-type]  # checked above to be among them
            loose = ragged and isinstance(names, range) and len(names) > 1
            if not isinstance(fields.text, int):
                continue
        if loose and len(row) <= max(columns.values()):
            raise UserError(
                f"{path}, line {number} has {len(row)} fields and no field `{len(row)}`: repair or remove it"
            )
        if not loose and (len(row) < len(names) or any(field.strip() for field in row[len(names) :])):
            remedy = "repair it" if ragged else "put texts with a comma into double quotes"
            raise UserError(
                f"{path}, line {number} has {len(row)} fields instead of {len(names)}: {remedy}, or remove the line"
            )
        record = {field: row[column] for field, column in columns.items()}
        yield fields.document(f"{path}, line {number}", record)


def read_parquet(path: Path, fields: Fields) -> Iterator[Document]:
    """One record a row, read in batches."""
    with _parquet(path) as table:
        fields.check(str(path), table.schema_arrow.names)
        for batch in table.iter_batches(batch_size=1000, columns=fields.given):
            for record in batch.to_pylist():
                yield fields.document(str(path), record)


@contextmanager
def _parquet(path: Path) -> Iterator["ParquetFile"]:
    """A parquet file, whose errors become a `UserError`."""
    import pyarrow
    from pyarrow import parquet

    with opened(path) as file:
        try:
            # Parquet is read from its end, which a compressed stream has to be unpacked for.
            yield parquet.ParquetFile(io.BytesIO(file.read()) if path.suffix.lower() == ".gz" else file)
        except pyarrow.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} is not a complete parquet file ({reason}): write or copy it again") from error
