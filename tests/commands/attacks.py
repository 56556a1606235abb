"""Attacks by files from somebody else, which leave a proof if they succeed, and commands that must refuse them."""

from pathlib import Path
from typing import Any

import pytest

from ssl_nlp.data import Tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import Method
from tests.end_to_end.cli import run

PROOF = Path("PROOF")
TOUCH = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "PROOF"]}}
LATER = {"class_path": "payload.Encoder", "init_args": {}}  # a module in the working directory
ATTACKS: dict[str, Any] = {
    "a command": TOUCH,
    "a module to import": LATER,
    "a module in a run": {"class_path": "runs.sent.payload.Encoder", "init_args": {}},
    "a function": {"class_path": "os.system", "init_args": {"command": "touch PROOF"}},
    "a function of ours": {"class_path": "ssl_nlp.cache.build_once", "init_args": {"directory": "PROOF"}},
    "a class of ours that belongs elsewhere": {
        "class_path": "ssl_nlp.training.callbacks.samples.Samples",
        "init_args": {"directory": "PROOF"},
    },
    "a class of a library": {"class_path": "filelock.FileLock", "init_args": {"lock_file": "PROOF"}},
    "a private class": {"class_path": "ssl_nlp.training.sums._Nothing", "init_args": {}},
    "a base": {"class_path": "ssl_nlp.encoders.base.Encoder", "init_args": {}},
    "no name": {"class_path": 3, "init_args": {}},
    "no arguments": {"class_path": "ssl_nlp.encoders.Transformer"},
    "more than that": {**LATER, "dict_kwargs": {"a": 1}},
}
BERT = {"model_type": "bert", "vocab_size": 400, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def tiny() -> Transformer:
    return Transformer(None, dim=16, layers=1, heads=2, max_length=64)


def saved(method: Method, tokenizer: Tokenizer) -> dict[str, Any]:
    """What a checkpoint of a method holds."""
    method.connect(tokenizer)
    content: dict[str, Any] = {"state_dict": method.state_dict(), "global_step": 1}
    method.on_save_checkpoint(content)
    return content


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command refuses."""
    assert run(*arguments) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if line]
    return line
