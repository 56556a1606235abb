import gzip
import re
from pathlib import Path

import pytest

from ssl_nlp.corpora import Document, TextFiles
from ssl_nlp.errors import UserError
from tests.corpora.files import fails, read

ENGLISH, GERMAN = "a dog\n\na cat; a bird\n", "ein Hund\n\neine Katze; ein Vogel\n"


def test_lines_of_two_files_are_pairs(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text(ENGLISH)
    (tmp_path / "train.de").write_text(GERMAN)
    expected = [Document("a dog", pair="ein Hund"), Document("a cat; a bird", pair="eine Katze; ein Vogel")]
    assert read(tmp_path / "train.en", "text", "line", pair=".de") == expected
    for name, text in (("a.v1.txt.gz", ENGLISH), ("a.v1.deu.gz", GERMAN)):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    assert read(tmp_path / "a.v1.txt.gz", unit="line", pair=".deu") == expected


def test_splits_of_parallel_files_and_what_their_caches_depend_on(tmp_path: Path) -> None:
    for split, word in (("train", "dog"), ("valid", "cat"), ("test", "bird")):
        (tmp_path / f"{split}.en").write_text(f"a {word}\n")
        (tmp_path / f"{split}.de").write_text(f"{word} auf Deutsch\n")
    files = [str(tmp_path / f"{split}.en") for split in ("train", "valid", "test")]
    corpus = TextFiles(*files, unit="line", pair=".de", format="text")
    assert list(corpus.documents("test")) == [Document("a bird", pair="bird auf Deutsch")]
    before = corpus.fingerprint()
    (tmp_path / "valid.de").write_text("Katze\n")
    assert corpus.fingerprint() != before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("ein Hund\n", "train.de has 1 lines, and .*train.en has more"),
        (GERMAN + "mehr\n", "train.en has 3 lines, and .*train.de has more"),
        ("ein Hund\n\n\n", "line 3 is blank in .*train.de, but not in .*train.en"),
        ("ein Hund\nfast\neine Katze\n", "line 2 is blank in .*train.en, but not in"),
    ],
)
def test_lines_without_a_partner_are_refused(other: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text(ENGLISH)
    (tmp_path / "train.de").write_text(other)
    assert re.search(message, fails(tmp_path / "train.en", format="text", unit="line", pair=".de"))


def test_settings_that_name_no_other_lines_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.en"
    path.write_text(ENGLISH)
    for pair in ("de", 1, ".en"):
        assert f"no field `{pair}`: set `pair` to the ending" in fails(path, format="text", unit="line", pair=pair)
    assert "set `unit` to line" in fails(path, format="text", pair=".de")
    with pytest.raises(UserError, match="train.de cannot be read: No such file"):
        read(path, "text", "line", pair=".de")
