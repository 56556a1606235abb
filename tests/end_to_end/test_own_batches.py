"""A way to make batches in the user's own file, named in YAML."""

from pathlib import Path

import pytest
import yaml

from ssl_nlp.data import BatchMaker, Sentences
from ssl_nlp.errors import UserError
from tests.end_to_end.cli import run, small, tiny_encoder

pytestmark = pytest.mark.slow

CODE = """
from ssl_nlp.data import Sentences

class Paragraphs(Sentences):
    def __init__(self, longest: int = 1000) -> None:
        self.longest = longest

    def texts(self, document):
        return [part[: self.longest] for part in document.text.split("\\n\\n") if part.strip()]
"""
OVERLAY = "data:\n  unit:\n    class_path: own_paragraphs.Paragraphs\n    init_args:\n      longest: 30\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_paragraphs.py").write_text(CODE)
    (tmp_path / "own.yaml").write_text(OVERLAY)
    for i in range(40):
        (tmp_path / f"{i}.txt").write_text(f"The dog {i} sees a cat. It runs.\n\nThe bird {i} sings.\n")
    return tmp_path


def fit(*more: str) -> int:
    texts = [argument for argument in small("*.txt") if not argument.endswith("unit=line")]
    own = ["--import", "own_paragraphs.py", "--config", "masked_lm", "--config", "own.yaml"]
    return run("fit", *own, *texts, *tiny_encoder(), *more)


def test_it_trains_a_method_that_reads_its_kind_of_rows(folder, capsys):
    assert fit("--run", "paragraphs") == 0
    config = yaml.safe_load((folder / "runs" / "paragraphs" / "config.yaml").read_text())
    assert config["data"]["init_args"]["unit"] == yaml.safe_load(OVERLAY)["data"]["unit"]
    shown = capsys.readouterr().out
    assert run("validate", "--import", "own_paragraphs.py", "--run", "paragraphs") == 0
    assert "val/loss" in shown + capsys.readouterr().out


@pytest.mark.parametrize("unit", ["paragraph", "never_imported.Paragraphs", "ssl_nlp.corpora.TextFiles"])
def test_what_is_no_way_of_making_batches_is_refused(unit, folder, capfd):
    assert run("fit", "--config", "masked_lm", "--data.unit", unit, *small("*.txt"), *tiny_encoder()) == 2
    error = capfd.readouterr().err
    assert "unit" in error
    assert unit in error


class Halves(Sentences):
    def __init__(self, share: float) -> None:
        self.share = share

    def texts(self, document):
        return [document.text[: int(len(document.text) * self.share)]]


def test_a_cache_is_that_of_the_class_its_version_and_its_attributes(monkeypatch):
    one, other, again = Halves(0.5), Halves(0.6), Halves(0.5)
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    before = one.fingerprint()
    monkeypatch.setattr(Halves, "version", 2, raising=False)
    assert one.fingerprint() != before
    assert Sentences().fingerprint() == "sentence"


def test_a_class_without_source_needs_a_version():
    names: dict = {"__name__": "nowhere", "Sentences": Sentences}
    exec("class Unseen(Sentences):\n    pass", names)
    with pytest.raises(UserError, match="Unseen cannot be read, .* version = 1"):
        names["Unseen"]().fingerprint()
    names["Unseen"].version = 1
    assert names["Unseen"]().fingerprint()


def test_a_class_says_which_kind_of_rows_it_makes():
    from ssl_nlp.data.batch_maker import check_kind

    class Nameless(BatchMaker):
        texts = text_lengths = rows = stream = None

    with pytest.raises(UserError, match="Nameless has no `kind`: set it to one of 'block', 'sentence', 'pair'"):
        check_kind(Nameless())
