"""Small files of records in every format, and how tests read them."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from ssl_nlp.corpora import Document
from ssl_nlp.corpora.readers import DocumentUnit, Fields, Format, read_file
from ssl_nlp.errors import UserError

RECORDS = [
    ("One, two.", "a"),
    ('She said "no".', "b"),
    ("Grüße – 你好", "a"),
    ("tail", "b"),
]
TEXTS = [text for text, _ in RECORDS]


def as_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps({"label": y, "text": x}) + "\n" for x, y in RECORDS), encoding="utf-8")


def as_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("label", "text"), *[(y, x) for x, y in RECORDS]])


def as_tsv(path: Path) -> None:
    path.write_text("".join(f"{y}\t{x}\n" for x, y in [("text", "label"), *RECORDS]), encoding="utf-8")


def as_parquet(path: Path) -> None:
    parquet.write_table(pyarrow.table({"label": [y for _, y in RECORDS], "text": TEXTS, "n": [1, 2, 3, 4]}), path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "jsonl": as_jsonl,
    "csv": as_csv,
    "tsv": as_tsv,
    "parquet": as_parquet,
}


def compress(path: Path) -> Path:
    compressed = path.with_name(path.name + ".gz")
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return compressed


def read(
    path: Path, format: Format | None = None, unit: DocumentUnit = "file", text: int | str = "text", **more: Any
) -> list[Document]:
    return list(read_file(path, format, unit, Fields(text, **more)))


def fails(path: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message
