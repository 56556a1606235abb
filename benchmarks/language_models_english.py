"""Causal, recurrent, masked, mixed and diffusion language models on the same English tokens, in bits per byte.

Trains each method on English documents with encoders of about the same size and the same number of tokens, and scores
the first 450 characters of held-out documents: exactly (CausalLM, LSTM, the causal half of the mixture, and the 5-gram
beside them), as an upper bound (masked diffusion), or as a pseudo-likelihood (MaskedLM, the masked half). The mixture is
compared with CausalLM in the exact column and with MaskedLM in the other, which shows whether it beats either alone
(arXiv:2512.14549). Every step reads the same number of tokens; the slowest method decides how many steps fit into a given
time. Finished runs are kept.

    python benchmarks/language_models_english.py --english ENGLISH [--folder language_models] [--seeds 1] [--steps 2000]
        [--encoder small]
"""

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

from ssl_nlp.commands.compare import compare
from ssl_nlp.commands.shipped import find_config

TRANSFORMERS = ("causal_lm", "masked_lm", "causal_masked_lm", "masked_diffusion")
CHARACTERS = 450
"""Of each text that is scored: about as much as fits into a row of 128 tokens, longer than which no model has seen any."""
LSTM = {"tiny": {"dim": 240, "embedding_dim": 128}, "small": {"dim": 584, "embedding_dim": 256}}
"""Widths of two LSTM layers with about as many weights as the Transformer of that size."""


def main() -> None:
    """Write the configurations, train them, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, required=True, help="folder with train, valid and test.jsonl")
    parser.add_argument("--folder", type=Path, default=Path("language_models"), help="of the runs and the comparison")
    parser.add_argument("--encoder", choices=LSTM, default="small", help="size of the encoder")
    parser.add_argument("--steps", type=int, default=2000, help="of each training, with 32 rows of 128 tokens each")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    english = arguments.english.resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    names = [*TRANSFORMERS, "lstm"]
    for name in names:
        text = yaml.safe_dump(configuration(name, arguments.encoder), sort_keys=False)
        Path(f"{name}.yaml").write_text(text, encoding="utf-8")
    texts = {"documents": {"task": "language_modelling", "test": str(english / "test.jsonl"), "characters": CHARACTERS}}
    Path("suite.yaml").write_text(yaml.safe_dump({"name": "english", "data": texts}), encoding="utf-8")
    corpus = {"train": english / "train.jsonl", "valid": english / "valid.jsonl", "test": "null"}
    steps = arguments.steps
    compare(
        [
            f"--seeds={arguments.seeds}", "--config=suite.yaml", *(f"{name}.yaml" for name in names), "--",
            "--data.corpus=ssl_nlp.corpora.TextFiles", *(f"--data.corpus.{key}={value}" for key, value in corpus.items()),
            f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={max(steps // 5, 1)}",
        ]
    )  # fmt: skip


def configuration(name: str, size: str) -> dict[str, Any]:
    """The shipped configuration of a method with an encoder of the size; `lstm` is CausalLM over LSTM layers."""
    shipped = find_config("causal_lm" if name == "lstm" else name)
    found: dict[str, Any] = yaml.safe_load(Path(shipped).read_text(encoding="utf-8"))
    encoder = found["model"]["init_args"]["encoder"]
    encoder["init_args"] = {"size": size}
    if name == "lstm":
        encoder |= {
            "class_path": "ssl_nlp.encoders.Recurrent",
            "init_args": {"kind": "lstm", "layers": 2, **LSTM[size]},
        }
    return found


if __name__ == "__main__":
    main()
