"""Is pretraining on other text worth it? CausalLM and MaskedLM fine-tuned on SST-2 with few and all labels.

Pretrains both on English documents, then fine-tunes them on sentiment with `ssl-nlp compare --task`, beside the same
encoders from scratch and TF-IDF with logistic regression: once with 500 labels and once with all. Everything goes to a
folder, and the same command resumes where it stopped. `ssl-nlp compare` makes the table, the report and the verdict.

    python benchmarks/finetune_english.py --english ENGLISH --sst2 SST2 [--folder finetune_english] [--seeds 3]
        [--steps 8000 5000] [--tuning-steps 400 5600]
"""

import argparse
import os
from pathlib import Path
from typing import Any

import yaml
from english_texts import corpus_options

from ssl_nlp.commands.compare import compare
from ssl_nlp.commands.train_runs import train

METHODS = ("masked_lm", "causal_lm")


def main() -> None:
    """Pretrain, fine-tune and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, required=True, help="folder with train.jsonl and valid.jsonl")
    parser.add_argument("--sst2", type=Path, required=True, help="folder with train.tsv and dev.tsv: sentence, label")
    parser.add_argument("--folder", type=Path, default=Path("finetune_english"), help="of the runs and comparisons")
    parser.add_argument("--encoder", default="tiny", help="size of the encoder")
    parser.add_argument(
        "--steps", type=int, nargs=2, default=[8000, 5000], metavar=("MASKED", "CAUSAL"),
        help="of pretraining MaskedLM and CausalLM, with 32 rows of 128 tokens each; the default costs both the same FLOPs",
    )  # fmt: skip
    parser.add_argument("--tuning-steps", type=int, nargs=2, default=[400, 5600], help="with 500 and with all labels")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="of fine-tuning")
    parser.add_argument("--seeds", type=int, default=3, help="of fine-tuning")
    parser.add_argument("--pretraining-seeds", type=int, default=1)
    arguments = parser.parse_args()
    english, sst2 = arguments.english.resolve(), arguments.sst2.resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    runs = [
        run
        for method, steps in zip(METHODS, arguments.steps, strict=True)
        for run in pretrain(method, english, arguments.encoder, steps, arguments.pretraining_seeds)
    ]
    for (name, labels), steps in zip((("few", 250), ("all", None)), arguments.tuning_steps, strict=True):
        task = Path(f"sst2-{name}.yaml")
        task.write_text(yaml.safe_dump(sentiment(sst2, labels, steps, arguments.learning_rate)), encoding="utf-8")
        shown = "all labels" if labels is None else f"{labels} labels of each class"
        print(f"\nSST-2 with {shown}, {steps} steps", flush=True)
        compare(["--task", str(task), "--seeds", str(arguments.seeds), "--output", name, *runs])


def pretrain(method: str, english: Path, encoder: str, steps: int, seeds: int) -> list[str]:
    """Train a language model on English text with each seed, and return the names of the runs."""
    folders = train(
        [method], seeds, "english",
        [*corpus_options(english), f"--model.encoder.init_args.size={encoder}",
         f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={max(steps // 5, 1)}"],
    )  # fmt: skip
    return [Path(folder).name for folder in folders]


def sentiment(sst2: Path, labels_per_class: int | None, steps: int, learning_rate: float) -> dict[str, Any]:
    """The configuration of the task. A twentieth of the training texts decides which checkpoint counts; dev is the test."""
    corpus = {"train": str(sst2 / "train.tsv"), "valid": 0.05, "test": str(sst2 / "dev.tsv"), "text": "sentence"}
    optimization = {"optimizer": "adamw", "learning_rate": learning_rate, "weight_decay": 0.01, "warmup": 0.1}
    return {
        "model": {
            "class_path": "ssl_nlp.tasks.Classification",
            "init_args": {
                "encoder": {"class_path": "ssl_nlp.encoders.Trained", "init_args": {"dropout": 0.1}},
                "dropout": 0.1,
                "optimization": optimization | {"schedule": "linear"},
            },
        },
        "data": {
            "class_path": "ssl_nlp.data.TextDataModule",
            "init_args": {
                "corpus": {"class_path": "ssl_nlp.corpora.TextFiles", "init_args": corpus | {"label": "label"}},
                "unit": "text",
                "length": 64,
                "batch_size": 32,
                "labels": "class",
                "labels_per_class": labels_per_class,
            },
        },
        "trainer": {
            "max_steps": steps,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": max(min(50, steps // 4), 1),
            "val_check_interval": max(steps // 8, 1),
            "check_val_every_n_epoch": None,
        },
    }


if __name__ == "__main__":
    main()
