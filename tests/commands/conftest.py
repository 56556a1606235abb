"""Fixtures of the tests about files from somebody else."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import train
from tests.commands.attacks import PROOF
from tests.corpus import random_texts


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The working directory, which is on Python's path, holds modules that leave a proof when they are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    source = "from pathlib import Path\nfrom ssl_nlp.encoders import Transformer as Encoder\nPath('PROOF').touch()\n"
    Path("payload.py").write_text(source)
    Path("runs/sent").mkdir(parents=True)
    Path("runs/sent/payload.py").write_text(source)
    yield
    assert not PROOF.exists()
    assert not {"payload", "runs.sent.payload"} & sys.modules.keys()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train(TokenizerSettings(vocab_size=300), lambda: iter(random_texts(50))))
