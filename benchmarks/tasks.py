"""Tagging, relations and questions, trained with ours and with the stock classes of `transformers`, on the same rows.

For each task and seed both sides train from the same weights (a published encoder, or with `--scratch` random ones), with
the same tokenizer, rows, batch size, learning rate, schedule, steps and precision, and predict the same validation split.
Prints the mean and a 95 % interval over seeds, seconds of training, and our scores beside those of the official scorers
on the same predictions. Finished trainings are kept in `--out` and not repeated.

    python benchmarks/tasks.py wnut17 conll2000 brown_pos relations qa_en --data DATA --encoder MINILM [--seeds 3]
    python benchmarks/tasks.py cluener qa_zh --data DATA --scratch [--seeds 3]

DATA has a folder for each: wnut17, conll2000, brown_pos and cluener (CoNLL), relations (train.tsv), qa (SQuAD's JSON).
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from scipy import stats
from tasks_official import official_scores
from tasks_stock import StockSettings, train_stock

from ssl_nlp.commands.trainer_settings import default_precision
from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import Questions, TextDataModule, TokenizerSettings
from ssl_nlp.data.labels import LabelKind
from ssl_nlp.encoders import Encoder, PretrainedEncoder, Transformer
from ssl_nlp.tasks import QuestionAnswering, RelationExtraction, Tagging, Task
from ssl_nlp.training import Optimization


@dataclass
class Case:
    """A data set and how it is trained."""

    corpus: Callable[[Path], TextFiles]
    task: Callable[..., Task]
    labels: LabelKind
    length: int = 128
    batch: int = 32
    epochs: float = 4
    questions: bool = False


def conll(folder: str, valid: str) -> Callable[[Path], TextFiles]:
    """CoNLL files, the tags in their last column."""
    return lambda data: TextFiles(
        str(data / folder / "train.conll"), str(data / folder / valid), None, text=0, label=-1
    )


def squad(language: str) -> Callable[[Path], TextFiles]:
    """XQuAD in a language."""
    return lambda data: TextFiles(
        str(data / "qa" / f"xquad.{language}.train.json"), str(data / "qa" / f"xquad.{language}.dev.json"), None
    )


CASES = {
    "wnut17": Case(conll("wnut17", "dev.conll"), Tagging, "tags"),
    "conll2000": Case(conll("conll2000", "test.conll"), Tagging, "tags"),
    "brown_pos": Case(conll("brown_pos", "valid.conll"), Tagging, "tags", epochs=1),
    "cluener": Case(conll("cluener", "dev.conll"), Tagging, "tags", epochs=8),
    "relations": Case(
        lambda data: TextFiles(str(data / "relations" / "train.tsv"), 0.15, None, label="label"),
        RelationExtraction,
        "relation",
    ),
    "qa_en": Case(squad("en"), QuestionAnswering, "spans", length=384, batch=8, epochs=6, questions=True),
    "qa_zh": Case(
        squad("zh"),
        lambda encoder, **more: QuestionAnswering(encoder, scorer="cmrc", **more),
        "spans",
        length=384,
        batch=8,
        epochs=6,
        questions=True,
    ),
}


def main() -> None:
    """Train what is not in `--out` yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", choices=CASES)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--encoder", type=Path, help="folder of a published encoder")
    parser.add_argument(
        "--scratch", action="store_true", help="a small encoder with random weights instead, by character"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="steps of each training, instead of the epochs of the task")
    parser.add_argument("--learning-rate", type=float, help="default: 1e-4, from scratch 5e-4")
    parser.add_argument("--out", type=Path, default=Path("tasks.jsonl"), help="results so far, one JSON record a line")
    parser.add_argument("--official", type=Path, help="folder of the official scorers: see tasks_official.py")
    arguments = parser.parse_args()
    if arguments.scratch == (arguments.encoder is not None):
        parser.error("give either --encoder or --scratch")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    known = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    for name in arguments.tasks:
        for seed in range(arguments.seeds):
            if not any((one["task"], one["seed"]) == (name, seed) for one in known):
                known.append({"task": name, "seed": seed} | train(name, seed, arguments))
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(known[-1]) + "\n")
        show(name, [one for one in known if one["task"] == name])


def train(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The scores and seconds of both sides, and the largest difference of our scores from the official ones."""
    case = CASES[name]
    seed_everything(seed, verbose=False)
    rate = arguments.learning_rate or (5e-4 if arguments.scratch else 1e-4)
    data = data_of(case, arguments)
    task = case.task(
        encoder_of(arguments, case),
        optimization=Optimization(
            learning_rate=rate, weight_decay=0.0, betas=(0.9, 0.999), warmup=0.1, schedule="linear", final=0.0
        ),
    )
    task.connect_data(data, "validate")  # the tokenizer and the classes, before the rows are counted
    rows = len(data.maker.rows(data.store("train"), data.tokenizer, case.length))
    steps = arguments.steps or math.ceil(rows / case.batch * case.epochs)
    precision = default_precision("cpu")
    settings = StockSettings(case.batch, steps, rate, seed, arguments.encoder, bf16=precision == "bf16-mixed")
    stock = train_stock(task, data, settings)  # first: ours then trains the weights that the stock model has copied
    trainer = Trainer(
        accelerator="cpu", precision=precision, max_steps=steps, max_epochs=-1, gradient_clip_val=1.0, logger=False,
        limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit(task, datamodule=data)
    seconds = time.perf_counter() - start
    validator = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    validator.validate(task, datamodule=data, verbose=False)
    assert task.last_result is not None
    records = task.predict_records(list(data.corpus.documents("valid")), data=data)
    return {
        "metric": task.last_result.primary_metric,
        "ours": task.last_result.primary,
        "seconds": seconds,
        "stock": stock.score,
        "stock_seconds": stock.seconds,
        "steps": steps,
        "official": official_scores(task, records, arguments.official),
    }


def data_of(case: Case, arguments: argparse.Namespace) -> TextDataModule:
    """The data of a task; classes of the validation split that training lacks count as well."""
    corpus = case.corpus(arguments.data)
    classes = None
    if case.labels == "tags":
        tags = {tag for split in ("train", "valid") for document in corpus.documents(split) for tag in document.label}  # type: ignore[union-attr]
        classes = sorted(str(tag) for tag in tags)
    tokenizer = TokenizerSettings("char") if arguments.scratch else TokenizerSettings(name=str(arguments.encoder))
    return TextDataModule(
        corpus, tokenizer, unit=Questions() if case.questions else "text", length=case.length, batch_size=case.batch,
        labels=case.labels, classes=classes,
    )  # fmt: skip


def encoder_of(arguments: argparse.Namespace, case: Case) -> Encoder:
    """The published encoder, or a small one with random weights."""
    if arguments.encoder is not None:
        return PretrainedEncoder(str(arguments.encoder))
    return Transformer("tiny", dropout=0.1, max_length=case.length)


def show(name: str, results: Sequence[dict[str, Any]]) -> None:
    """Print the results of a task."""
    for side, seconds in (("ours", "seconds"), ("stock", "stock_seconds")):
        scores, times = [100 * one[side] for one in results], [one[seconds] for one in results]
        half = 0.0
        if len(scores) > 1:
            half = float(stats.t.ppf(0.975, len(scores) - 1)) * stdev(scores) / math.sqrt(len(scores))
        label = "ssl_nlp" if side == "ours" else "transformers"
        print(
            f"{name:<10} {label:<13} {results[0]['metric']:<9} {mean(scores):6.2f} ± {half:5.2f}   {mean(times):7.0f} s   "
            f"{len(scores)} seeds of {results[0]['steps']} steps",
            flush=True,
        )
    for scorer, (own, official) in results[-1]["official"].items():
        print(f"{name:<10} {scorer}: {official} official, {own} ours, on the same predictions", flush=True)


if __name__ == "__main__":
    main()
