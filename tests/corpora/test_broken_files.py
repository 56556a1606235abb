"""Files that are broken, or unusual, are refused with their place or read as they are meant."""

import gc
import gzip
import os
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from ssl_nlp.corpora import Document
from ssl_nlp.corpora.readers import Fields, read_file
from tests.corpora.files import WRITERS, as_parquet, fails, read


@pytest.mark.parametrize("content", ["", "\n \n"])
@pytest.mark.parametrize("unit", ["file", "line", "paragraph"])
def test_empty_text_file(tmp_path: Path, content: str, unit: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content)
    assert "is empty" in fails(path, unit=unit)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt.gz"])
def test_empty_file_of_records(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    assert "is empty" in fails(path)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.tsv"])
def test_bytes_that_are_not_utf8(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    start = "text\nGrüße\n".encode()
    path.write_bytes(start + b"ab\xe9cd\n")
    settings = {"unit": "line"} if name == "a.txt" else {}
    if name == "a.jsonl":
        start = b'{"text": "x"}\n'
        path.write_bytes(start + b"ab\xe9cd\n")
    message = fails(path, **settings)
    assert "not UTF-8" in message
    assert f"0xe9 at offset {len(start) + 2};" in message


@pytest.mark.parametrize("field", ["text", "label"])
@pytest.mark.parametrize("format", WRITERS)
def test_missing_field_names_those_that_exist(tmp_path: Path, format: str, field: str) -> None:
    path = tmp_path / f"data.{format}"
    WRITERS[format](path)
    message = fails(path, **{field: "body"})
    assert "no field `body`" in message
    assert "label, text" in message


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": "b\n', "line 2 is not JSON"),
        ("a.jsonl", '{"text": "a"}\n"b"\n', "line 2 is not a JSON object"),
        ("a.jsonl", '{"text": "a"}\n{"text": "\\ud800"}\n', "line 2: half of a surrogate pair"),
        ("a.csv", 'text,label\na,1\n"b,2\n', "line 3 is not CSV"),
        ("a.csv", "label,text\n1,a\n2\n", "line 3 has 1 fields instead of 2"),
        ("a.tsv", "label\ttext\n1\ta\n2\n", "line 3 has 1 fields instead of 2"),
        (
            "a.csv",
            "text,label\nI ate pie, ice cream, and cookies,food\n",
            "line 2 has 4 fields instead of 2: put texts with",
        ),
        ("a.csv", "text,label,id\na,b\n", "line 2 has 2 fields instead of 3"),
        (
            "a.csv",
            "text\nI ate pie, ice cream\n",
            "line 2 has 2 fields instead of 1: put texts with a comma into double",
        ),
        ("a.csv", "text,label\ra,1\rb,2\r", "holds a lone CR"),
        ("a.csv", "text,text\na,b\n", "has 2 fields `text`: rename all but one"),
        ("a.tsv", "text\tlabel\na\tb\tc\n", "line 2 has 3 fields instead of 2: repair it, or remove the line"),
        ("a.tsv", "text\na\tb\n", "line 2 has 2 fields instead of 1"),
        ("a.csv", "\n", "is empty"),
        ("a.csv", ",\na,b\n", "has no field `text`"),
        ("a.csv", "text,label\n", "is empty"),
        ("a.txt", "one\0two\n", "is not text: it holds a NUL byte at offset 3"),
        ("a.csv", "text\none\0two\n", "is not text: it holds a NUL byte at offset 8"),
        ("a.jsonl", '{"text": "a", "text": "b"}\n', "the field `text` is there twice"),
        ("a.parquet", "PAR1 and no more", "not a complete parquet"),
        ("a.parquet", "", "not a complete parquet"),
        ("a.txt.gz", "no gzip", "not a complete gzip"),
        ("a.jsonl.gz", "no gzip", "not a complete gzip"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert complaint in fails(path)


def test_json_that_is_nested_too_deeply(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("[" * 100_000)
    gc.collect()
    gc.disable()  # garbage of other tests, collected where the stack is full, would fail to close itself
    try:
        assert "line 1 cannot be read as JSON" in fails(path)
    finally:
        gc.enable()


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_row_without_header_keeps_what_it_holds(tmp_path: Path, ending: str) -> None:
    """A comma that is not quoted is refused; a tab cannot be part of a text, so that rows of TSV may differ in length."""
    path = tmp_path / f"a.{ending}"
    path.write_text("a dog,1\npie, ice cream,0\n".replace(",", "," if ending == "csv" else "\t"))
    if ending == "csv":
        assert "line 2 has 3 fields instead of 2" in fails(path, text=0, label=1)
    else:
        assert read(path, text=0, label=1) == [Document("a dog", "1"), Document("pie", " ice cream")]
        path.write_text("a dog\t1\na cat\n")
        assert "line 2 has 1 fields and no field `1`" in fails(path, text=0, label=1)
    path.write_text("a dog\npie,\tcake\n")  # one column
    assert "line 2 has 2 fields instead of 1" in fails(path, text=0)


def test_blank_fields_behind_the_last_column_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na dog,1,,\n")  # as spreadsheets write them
    assert read(path, label="label") == [Document("a dog", "1")]


def test_a_label_may_be_missing_but_not_on_every_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two", "label": "b"}\n')
    assert read(path, label="label") == [Document("one"), Document("two", "b")]
    message = fails(path, label="lable")
    assert "has no field `lable`" in message
    assert "text, label" in message


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("3", "3"),
        ("1.0", "1"),
        ("0.5", "0.5"),
        ("true", "True"),
        ("null", None),
        ("NaN", None),
        ('" "', None),
        ('"a"', "a"),
    ],
)
def test_labels_are_plain_values(tmp_path: Path, value: str, label: str | None) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "one", "label": {value}}}\n')
    assert read(path, label="label") == [Document("one", label)]
    path.write_text('{"text": "one", "label": {"a": 1}}\n')
    assert "field `label` holds dict, not a label" in fails(path, label="label")


def test_labels_of_parquet_files(tmp_path: Path) -> None:
    """A column of whole numbers is one of fractions where a number is missing; the classes are the same."""
    path = tmp_path / "a.parquet"
    columns = {"text": pyarrow.array(["one", "two"], pyarrow.large_string()), "label": [1.0, None], "day": [None, None]}
    parquet.write_table(pyarrow.table(columns | {"kind": pyarrow.array(["a", "b"]).dictionary_encode()}), path)
    assert read(path, label="label") == [Document("one", "1"), Document("two")]
    assert read(path, text="kind", label="kind") == [Document("a", "a"), Document("b", "b")]
    assert "field `label` holds float, not text" in fails(path, text="label")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.tsv"])
def test_utf16(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    path.write_bytes("text\n".encode(encoding))
    assert "iconv -f UTF-16" in fails(path) if encoding == "utf-16" else "NUL byte at offset" in fails(path)


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    """As `wc -l` counts; the text keeps every other character that Unicode counts as the end of a line."""
    path = tmp_path / "a.txt"
    lines = ["form\ffeed", "one\u2028two", "next\u0085line", "lone\rCR", "\x0b", "\x1c"]
    path.write_text("\n".join([*lines, "end"]) + "\n", newline="")
    assert [d.text for d in read(path, unit="line")] == [
        "form\ffeed",
        "one\u2028two",
        "next\u0085line",
        "lone\rCR",
        "end",
    ]


def test_half_a_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    whole = gzip.compress(os.urandom(10_000).hex().encode())
    path.write_bytes(whole[: len(whole) // 2])
    assert "not a complete gzip" in fails(path)


def test_half_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    as_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "not a complete parquet" in fails(path)


def test_a_large_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n" * 100_000 + b"\xff\n")  # the error lies far beyond the text that is read
    documents = read_file(path, None, "line", Fields("text"))
    assert next(documents) == Document("one")
