import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from ssl_nlp.corpora import Corpus, HubDataset, InstalledDocs, TextFiles


def build(config: dict[str, Any], *arguments: str) -> Corpus:
    """A corpus as the command line builds it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Corpus, "corpus")
    corpus = parser.instantiate(parser.parse_args([f"--corpus={yaml.safe_dump(config)}", *arguments])).corpus
    assert isinstance(corpus, Corpus)
    return corpus


def test_from_yaml(tmp_path: Path) -> None:
    train, valid = tmp_path / "train.tsv", tmp_path / "valid.tsv"
    train.write_text("0\tone\n")
    valid.write_text("1\ttwo\n")
    arguments: dict[str, Any] = {"train": [str(train)], "valid": str(valid), "test": None, "text": 1, "label": 0}
    corpus = build({"class_path": "ssl_nlp.corpora.TextFiles", "init_args": arguments})
    assert corpus.fingerprint() == TextFiles(**arguments).fingerprint()
    assert [document.label for document in corpus.documents("valid")] == ["1"]


def test_from_the_command_line(tmp_path: Path) -> None:
    corpus = build({"class_path": "InstalledDocs"}, "--corpus.valid=0.1")
    assert corpus.fingerprint() == InstalledDocs(valid=0.1).fingerprint()
    corpus = build(
        {"class_path": "HubDataset", "init_args": {"path": "a/b"}}, "--corpus.valid=dev", "--corpus.test=0.2"
    )
    assert corpus.fingerprint() == HubDataset("a/b", valid="dev", test=0.2).fingerprint()


@pytest.mark.parametrize("module", ["datasets", "pyarrow", "torch", "rich"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, ssl_nlp.corpora; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
