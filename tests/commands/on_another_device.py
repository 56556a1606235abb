"""Run commands on the CPU and then on another device, and check that the results agree; FOLDER must be empty."""

import io
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_nlp.__main__ import main
from ssl_nlp.commands import accelerator
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.evaluation.record import read_suite, record_beside
from ssl_nlp.methods import VAE, CausalLM, MaskedDiffusion, MaskedLM, Method
from tests import other_device
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import save_untrained

SUITE = """
name: mine
data:
  animals: {task: classification, train: labelled.tsv, valid: 0.2, test: 0.3, label: label}
  pairs: {task: similarity, test: scored.tsv, text: 0, pair: 1, score: 2}
  articles: {task: language_modelling, test: texts.txt}
  stories: {task: generation, train: texts.txt, test: 0.5}
  asked: {task: prompts, train: labelled.tsv, test: 0.2, label: label, template: "{text} says the {label}",
          words: {dog: dog, cat: cat}, shots: [0, 2], draws: 2, calibration: nothing}
  grammar: {task: minimal_pairs, test: pairs.jsonl}
"""


def write_data(texts: list[str]) -> None:
    """The files of the suite."""
    Path("mine.yaml").write_text(SUITE)
    Path("texts.txt").write_text("".join(f"{text}\n" for text in texts))
    rows = [f"the {animal} sees {i} birds\t{animal}" for i in range(20) for animal in ("dog", "cat")]
    Path("labelled.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    Path("scored.tsv").write_text("".join(f"the dog {i}\tthe cat {i}\t{i % 5}\n" for i in range(20)))
    pairs = [
        {"good": text, "bad": " ".join(reversed(text.split())), "paradigm": "order", "field": "syntax"}
        for text in texts
    ]
    Path("pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))


def checkpoints(texts: list[str]) -> list[Path]:
    """Checkpoints of methods with random weights."""
    tokenizer, found = get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(texts)), []
    kinds: tuple[type[Method], ...] = (CausalLM, MaskedLM, MaskedDiffusion, VAE)
    for kind in kinds:
        torch.manual_seed(0)
        method = kind(Transformer(None, dim=32, layers=2, heads=2))
        found.append(save_untrained(method, tokenizer, Path(f"{kind.__name__}.ckpt")))
    return found


moves: list[int] = []
"""For each command that was run, how many models it puts on the device: `evaluate` also the untrained one."""


def said(*arguments: str) -> list[str]:
    """The lines that a command prints."""
    moves.append(2 if arguments[0] == "evaluate" else 1)
    with redirect_stdout(io.StringIO()) as out:
        main(list(arguments))
    return out.getvalue().splitlines()


def everything(checkpoint: Path, name: str) -> dict[str, Any]:
    """The results of all commands on a checkpoint; `name` keeps the files of the two devices apart."""
    kind, given = checkpoint.stem, ("--checkpoint", str(checkpoint))
    os.environ["SSL_NLP_CACHE"] = str(Path(f"cache-{name}").absolute())
    found: dict[str, Any] = {
        "nats": [json.loads(line)["nats"] for line in said("score", *given, "--input", "texts.txt")]
    }
    said("embed", *given, "--input", "texts.txt", "--output", f"{kind}-{name}.npy")
    found["vectors"] = np.load(f"{kind}-{name}.npy").tolist()
    if kind in ("CausalLM", "VAE"):
        asked = ["--prompt", "the"] if kind == "CausalLM" else ["--number", "2"]
        found["written"] = said(
            "generate", *given, *asked, "--max_new_tokens", "4", "--seed", "1", "--temperature", "0"
        )
    if kind == "MaskedLM":
        found["filled"] = said("fill-mask", *given, "--text", "the [MASK] sees", "--top_k", "1")[0]
    if kind in ("CausalLM", "MaskedLM"):
        said("evaluate", str(checkpoint), "--config", "mine.yaml")
        record = record_beside(checkpoint)
        suite = read_suite(record, "mine")
        for source, results in {"": suite.evaluators, **suite.baselines}.items():
            found |= {f"{source} {task}": result.primary for task, result in results.items()}
        record.unlink()
    return found


def run(folder: str) -> None:
    """Compare the two devices."""
    os.chdir(folder)
    texts = random_texts(24, longest=8)
    write_data(texts)
    paths = checkpoints(texts)
    here = [everything(path, "here") for path in paths]
    device = other_device.install()
    used: list[torch.device] = []

    def choose() -> torch.device:
        used.append(device)
        return device

    original, patch = accelerator.accelerator, pytest.MonkeyPatch()
    for module in [module for name, module in sys.modules.items() if name.startswith("ssl_nlp.commands")]:
        if getattr(module, "accelerator", None) is original:
            patch.setattr(module, "accelerator", choose)
    with other_device.OtherDevice():
        there = [everything(path, "there") for path in paths]
    assert len(used) == sum(moves) // 2
    for path, one, other in zip(paths, here, there, strict=True):
        assert one.keys() == other.keys()
        for what, value in one.items():
            if isinstance(value, list) and not isinstance(value[0], str):
                np.testing.assert_allclose(other[what], value, rtol=1e-4, atol=1e-4, err_msg=f"{path}: {what}")
            else:
                expected = pytest.approx(value, abs=1e-3) if isinstance(value, float) else value
                assert other[what] == expected, (path, what)
    print(f"{len(paths)} methods, {sum(map(len, here))} findings")


if __name__ == "__main__":
    run(*sys.argv[1:])
