import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from ssl_nlp.corpora import SPLITS, Document, TextFiles
from ssl_nlp.corpora.readers import DocumentUnit, Fields, Format, read_file
from ssl_nlp.corpora.text_files import find_files
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
    path.write_text('{"text": "one"}\n{"text": ["two"]}\n')
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
        ("a.jsonl", "[" * 100_000, "line 1 cannot be read as JSON"),
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
    path.write_text('{"text": "one", "label": ["a"]}\n')
    assert "field `label` holds list, not a label" in fails(path, label="label")


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


def text_of(corpus: TextFiles) -> dict[str, list[str]]:
    return {split: [document.text for document in corpus.documents(split)] for split in SPLITS}


def test_globs_lists_and_own_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name, text in [("b.txt", "b"), ("a.txt", "a"), ("deep/er/c.txt", "c"), ("v.jsonl", '{"text": "v"}')]:
        (tmp_path / name).write_text(text)
    (tmp_path / "t.md").write_text("t")
    corpus = TextFiles(train=["*.txt", "deep/**/*.txt", "a.txt"], valid="v.jsonl", test=["t.md"])
    assert text_of(corpus) == {"train": ["a", "b", "c"], "valid": ["v"], "test": ["t"]}


def test_a_file_may_be_named_like_a_glob(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one")
    (tmp_path / "v.txt").write_text("two")
    corpus = TextFiles(str(tmp_path / "a[1].txt"), valid=str(tmp_path / "v.txt"), test=None)
    assert [d.text for d in corpus.documents("train")] == ["one"]


def test_folders_may_be_named_like_a_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data[v2]", "datav", "deep/x[1]"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text(folder)
        (tmp_path / folder / "b[1].md").write_text(f"{folder} b")
    assert [str(path) for path in find_files("data[v2]/*.txt")] == ["data[v2]/a.txt"]
    assert [str(path) for path in find_files("data[v2]/b[1]*")] == ["data[v2]/b[1].md"]
    assert [str(path) for path in find_files("deep/**/x[1]/*.txt")] == ["deep/x[1]/a.txt"]
    assert [str(path) for path in find_files("data[uvw]/*.txt")] == ["datav/a.txt"]  # no folder of this name: a glob
    assert find_files(f"{tmp_path}/data[v2]/*.txt") == [tmp_path / "data[v2]" / "a.txt"]
    with pytest.raises(UserError, match="no file matches"):
        find_files("data[34]/*.txt")


def test_users_splits_do_not_leak(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a\nb\nc\nd\na\n")
    (tmp_path / "valid.txt").write_text("b\ne\n")
    (tmp_path / "test.txt").write_text("e\nc\nf\n")
    train, valid, test = (str(tmp_path / f"{split}.txt") for split in SPLITS)
    assert text_of(TextFiles(train, valid, test, unit="line")) == {
        "train": ["a", "d"],
        "valid": ["b"],
        "test": ["e", "c", "f"],
    }


def test_pairs_do_not_leak(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a\t1\nb\t2\nc\t3\n4\td\n5\t5\n")
    (tmp_path / "valid.tsv").write_text("e\t2\nf\t6\n")
    (tmp_path / "test.tsv").write_text("6\tg\n3\th\nd\ti\n")
    train, valid, test = (str(tmp_path / f"{split}.tsv") for split in SPLITS)
    assert text_of(TextFiles(train, valid, test, text=0, pair=1)) == {
        "train": ["a", "5"],  # b's pair is a pair of valid, c's a text of test, 4's too
        "valid": ["e"],  # f's pair is a text of test
        "test": ["6", "3", "d"],
    }


def test_no_file_matches(tmp_path: Path) -> None:
    corpus = TextFiles(str(tmp_path / "*.txt"))  # building one reads nothing
    for ask in (corpus.fingerprint, lambda: next(corpus.documents("train"))):
        with pytest.raises(UserError, match=r"no file matches .*\*\.txt"):
            ask()
    with pytest.raises(UserError, match=r"name its files, as in"):
        TextFiles(str(tmp_path)).fingerprint()


def test_fingerprint_changes_with_files_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = TextFiles(str(path)).fingerprint()
    assert TextFiles(str(path)).fingerprint() == before
    changed = [TextFiles(str(path), unit="line"), TextFiles(str(path), valid=0.1), TextFiles(str(path), test=None)]
    changed.append(TextFiles(str(path), pair="b"))
    fingerprints = {before, *(corpus.fingerprint() for corpus in changed)}
    path.write_text("two two")
    fingerprints.add(TextFiles(str(path)).fingerprint())
    (tmp_path / "b.txt").write_text("three")
    fingerprints.add(TextFiles(str(tmp_path / "*.txt")).fingerprint())
    assert len(fingerprints) == 7


def test_files_as_data_sets_come(tmp_path: Path) -> None:
    """A book in two files, sentences with classes and quotes of their own, and pairs with scores and no header."""
    train, valid = ("".join(f"Line {i} of it.\n\n\tÉtude {i}.\n" for i in range(n)) for n in (20_000, 900))
    (tmp_path / "train.txt").write_text(train)
    (tmp_path / "val.txt").write_text(valid)
    corpus = TextFiles(str(tmp_path / "train.txt"), valid=str(tmp_path / "val.txt"), test=None)
    assert [[d.text for d in corpus.documents(s)] for s in SPLITS[:2]] == [[train], [valid]]

    rows = [(f'it \'s "film" no. {i % 900} , and "so', str(i % 2)) for i in range(1000)]
    held_out = rows[:40]
    for name, some in (("train", rows), ("dev", held_out)):
        lines = ["sentence\tlabel", *("\t".join(row) for row in some)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    train_file, valid_file = str(tmp_path / "train.tsv"), str(tmp_path / "dev.tsv")
    corpus = TextFiles(train_file, valid=valid_file, text="sentence", label="label")
    splits = {split: list(corpus.documents(split)) for split in SPLITS}
    assert {(d.text, d.label) for d in splits["valid"]} == set(held_out)
    assert {d.text for d in splits["train"] + splits["test"]} == {text for text, _ in rows} - {t for t, _ in held_out}
    assert len(splits["train"]) + len(splits["test"]) == 860
    assert {document.label for document in splits["train"]} == {"0", "1"}

    line = 'main-captions\tMSRvid\t2012test\t0001\t5.000\tA "plane is taking off.\tAn air plane is taking off.\n'
    (tmp_path / "pairs.tsv").write_text(line)
    pairs = TextFiles(str(tmp_path / "pairs.tsv"), valid=None, test=None, text=5, label=4, pair=6)
    expected = Document('A "plane is taking off.', "5.000", "An air plane is taking off.")
    assert next(pairs.documents("train")) == expected
