"""Files of every format become the documents that they hold."""

import csv
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from ssl_nlp.corpora import Document
from ssl_nlp.errors import UserError
from tests.corpora.files import RECORDS, TEXTS, WRITERS, compress, fails, read


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("format", WRITERS)
def test_records(tmp_path: Path, format: str, compressed: bool) -> None:
    path = tmp_path / f"data.{format}"
    WRITERS[format](path)
    if compressed:
        path = compress(path)
    assert read(path, label="label") == [Document(*record) for record in RECORDS]
    assert read(path) == [Document(text) for text in TEXTS]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", [".txt", ".text", ".md"])
def test_units_of_plain_text(tmp_path: Path, ending: str, compressed: bool) -> None:
    text = "\n\nOne\ntwo\n \n\nthree  \n\nfour"
    path = tmp_path / f"data{ending}"
    path.write_text(text)
    if compressed:
        path = compress(path)
    assert [d.text for d in read(path, unit="file")] == [text]
    assert [d.text for d in read(path, unit="line")] == ["One", "two", "three  ", "four"]
    assert [d.text for d in read(path, unit="paragraph")] == ["One\ntwo", "three  ", "four"]


def test_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\r\n\r\nthree".encode())
    assert read(path) == [Document("one\ntwo\n\nthree")]
    assert [d.text for d in read(path, unit="paragraph")] == ["one\ntwo", "three"]


def test_csv_with_long_and_many_lined_fields(tmp_path: Path) -> None:
    texts = ["x" * 200_000, "one\ntwo, three", 'a "quoted" word']
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *[[text] for text in texts]])
    assert [d.text for d in read(path)] == texts


def test_tsv_takes_quotes_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"open\t1\nit\'s "\t0\n')
    assert read(path, label="label") == [Document('"open', "1"), Document("it's \"", "0")]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_files_without_header(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text("0,one\n1,two\n".replace(",", "," if ending == "csv" else "\t"))
    assert read(path, text=1, label=0) == [Document("one", "0"), Document("two", "1")]
    assert "no field `2`" in fails(path, text=2)


def test_values_that_are_missing_or_not_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "label": 3}\n\n{"text": null, "label": null}\n')
    assert read(path, label="label") == [Document("one", "3"), Document("", None)]
    path.write_text('{"text": "one"}\n{"text": [2]}\n')
    assert "line 2: field `text` holds list" in fails(path)


PAIRED = [("a dog", "ein Hund"), ("a cat", "eine Katze"), ("a cow", "eine Kuh")]


def write_pairs(path: Path, pairs: list[tuple[str, str | None]]) -> None:
    columns = {"en": [en for en, _ in pairs], "de": [de for _, de in pairs]}
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"en": en, "de": de}) + "\n" for en, de in pairs))
    else:
        separator = {".csv": ",", ".tsv": "\t"}[path.suffix]
        path.write_text("".join(f"{en}{separator}{de or ''}\n" for en, de in [("en", "de"), *pairs]))


@pytest.mark.parametrize("format", WRITERS)
def test_a_record_may_hold_a_pair(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"data.{format}"
    write_pairs(path, [*PAIRED])
    assert read(path, text="de", pair="en") == [Document(de, pair=en) for en, de in PAIRED]
    message = fails(path, text="en", pair="fr")
    assert "no field `fr`" in message
    assert "en, de" in message


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize("blank", [None, "  "])
def test_a_blank_pair_names_its_record(tmp_path: Path, format: str, blank: str | None) -> None:
    path = tmp_path / f"data.{format}"
    write_pairs(path, [PAIRED[0], ("a cat", blank)])
    message = fails(path, text="en", pair="de")
    assert "field `de` is blank beside 'a cat'" in message
    assert format == "parquet" or f"line {2 if format == 'jsonl' else 3}:" in message
    write_pairs(path, [PAIRED[0], (" ", blank)])  # no text, no document
    assert [d for d in read(path, text="en", pair="de") if d.text.strip()] == [Document("a dog", pair="ein Hund")]


def test_pairs_in_files_without_header_and_in_files_without_fields(tmp_path: Path) -> None:
    table, plain = tmp_path / "a.tsv", tmp_path / "a.txt"
    table.write_text("one\teins\t1\ntwo\tzwei\t2\n")
    assert read(table, text=0, pair=1, label=2) == [Document("one", "1", "eins"), Document("two", "2", "zwei")]
    assert "no field `3`" in fails(table, text=0, pair=3)
    plain.write_text("one\n")
    assert "plain text, which has no field `de`" in fails(plain, pair="de")


def test_a_pair_must_be_whole_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "b": 3}\n')
    assert "field `b` holds int, not text: name another one in `pair`" in fails(path, pair="b")
    path.write_text('{"text": "a", "b": "\\ud800"}\n')
    assert "line 1: half of a surrogate pair in `b`" in fails(path, pair="b")


def test_format_overrides_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "train.en"
    path.write_text("one\ntwo\n")
    assert "set `format`" in fails(path)
    assert [d.text for d in read(path, format="text", unit="line")] == ["one", "two"]


def test_a_record_may_have_several_labels(tmp_path: Path) -> None:
    """A list in JSON lines; text with a separator in all formats, where an empty field is an empty list."""
    (tmp_path / "a.jsonl").write_text('{"text": "one", "label": ["b", "a"]}\n{"text": "two", "label": []}\n')
    assert [document.label for document in read(tmp_path / "a.jsonl", label="label")] == [("b", "a"), ()]
    (tmp_path / "a.tsv").write_text("text\tlabel\none\tb | a\ntwo\t\n")
    found = read(tmp_path / "a.tsv", label="label", separator="|")
    assert [document.label for document in found] == [("b", "a"), ()]


def test_the_part_of_a_record_is_kept_and_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\ttopic\nfirst\tsports\nsecond\t \n")
    assert [document.part for document in read(path, part="topic")] == ["sports", None]
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "first", "year": 1999}\n{"text": "second"}\n')
    with pytest.raises(UserError, match="line 2 has no field `year`"):
        read(path, part="year")
    path.write_text('{"text": "first", "year": [1999]}\n')
    with pytest.raises(UserError, match="field `year` holds list, not a part: name another one in `part`"):
        read(path, part="year")
