"""The corpus of the user's own files: globs, splits, fingerprints."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from ssl_nlp.corpora import SPLITS, Document, TextFiles
from ssl_nlp.corpora.text_files import find_files
from ssl_nlp.errors import UserError


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


def test_a_text_may_be_in_several_labelled_pairs_of_one_split(tmp_path: Path) -> None:
    rows = [(f"premise {i}", f"hypothesis {i} {j}", "yes" if j else "no") for i in range(60) for j in (0, 1, 2, 2)]
    (tmp_path / "a.tsv").write_text("one\ttwo\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows))
    settings: dict[str, Any] = {"train": str(tmp_path / "a.tsv"), "valid": 0.2, "test": 0.2, "text": "one"}
    labelled = TextFiles(**settings, label="label", pair="two")
    found = {split: [(d.text, d.pair, d.label) for d in labelled.documents(split)] for split in SPLITS}
    assert sorted(itertools.chain(*found.values())) == sorted(set(rows))
    premises = [{text for text, _, _ in found[split]} for split in SPLITS]
    assert not any(one & other for one, other in itertools.combinations(premises, 2))
    unlabelled = TextFiles(**settings, pair="two")
    assert sum(1 for split in SPLITS for _ in unlabelled.documents(split)) == 60
    assert labelled.fingerprint() != unlabelled.fingerprint()


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
