"""Helpers to run commands, in this process or in a separate one that may be killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.__main__ import main
from ssl_nlp.data import Tokenizer
from ssl_nlp.methods import Method
from tests.corpus import random_texts

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
OF_THE_MACHINE = ("train/tokens_per_second", "train/mfu", "train/processor_seconds", "train/peak_memory")
"""What a run logs that depends on the machine and the hour, and so differs between equal trainings."""


class KillAt(Callback):
    """Kills the process, as a power cut would, after the step that the environment variable KILL_AT names."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.global_step == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)


def write_texts(folder: Path, documents: int = 200) -> str:
    """Write a small corpus as a text file, one document of two sentences per line, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "texts.txt"
    sentences = [f"{text.capitalize()}." for text in random_texts(2 * documents, longest=10)]
    path.write_text("".join(f"{one} {other}\n" for one, other in zip(sentences[::2], sentences[1::2], strict=True)))
    return str(path)


def small(path: str, *more: str) -> list[str]:
    """Arguments that make any configuration tiny: a small corpus, encoder, vocabulary and few steps."""
    return [
        "--data.corpus",
        "ssl_nlp.corpora.TextFiles",
        f"--data.corpus.init_args.train={path}",
        "--data.corpus.init_args.unit=line",
        "--data.tokenizer.vocab_size=320",
        "--data.batch_size=4",
        "--data.length=32",
        "--config",
        str(CONFIGS / "trainer" / "debug.yaml"),
        *more,
    ]


def tiny_encoder(method: str = "") -> list[str]:
    """Arguments for an encoder of a few thousand parameters that serves a method's configuration."""
    if method == "bidirectional_lm":
        return ["--model.encoder.dim=16", "--model.encoder.embedding_dim=null"]
    if method in ("cbow", "glove", "skip_gram"):
        return ["--model.encoder.dim=16", *["--model.encoder.ngrams=[3, 5]"] * (method == "cbow")]
    return [
        "--model.encoder=ssl_nlp.encoders.Transformer",
        "--model.encoder.dim=16",
        "--model.encoder.layers=2",
        "--model.encoder.heads=2",
    ]


def save_untrained(method: Method, tokenizer: Tokenizer, path: Path) -> Path:
    """Write a checkpoint of a method with random weights, without training it."""
    method.connect(tokenizer)
    saved = {"state_dict": method.state_dict(), "global_step": 0}
    method.on_save_checkpoint(saved)
    torch.save(saved, path)
    return path


def run(*arguments: str) -> int:
    """Run a command in this process, and return its exit status."""
    try:
        main(list(arguments))
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


def run_process(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a separate process."""
    return subprocess.run(
        [sys.executable, "-m", "ssl_nlp", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


class Blow(Callback):
    """Multiplies all weights by 1e30 after the third step."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.global_step == 3:
            for weight in pl_module.parameters():
                weight.data.mul_(1e30)
