"""How much a classifier of intents forgets of one domain while it learns the next, and what replay and EWC save of it.

Fine-tunes a pretrained encoder on the domains one after the other: plainly, with replay, with elastic weights, with a LoRA
and a head for each domain (whose validation is told the domain), and on all domains at once. Each seed has an order of the
domains of its own, the same for all ways. All ways do the same number of steps. Prints the average accuracy and the
forgetting over the validation texts of all domains, as means over seeds with 95 % t-intervals, and the ratio of each
forgetting to that of plain training. Each run is kept in a folder; the same command trains those that are missing.

    python benchmarks/continual_intents.py --train intents/train.tsv --valid intents/val.tsv --model MiniLM-folder
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, Trainer, seed_everything
from scipy import stats

from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import ContinualDataModule
from ssl_nlp.encoders import PretrainedEncoder
from ssl_nlp.encoders.adapters import LoRA
from ssl_nlp.quiet import quiet
from ssl_nlp.tasks import Classification
from ssl_nlp.training import Optimization
from ssl_nlp.training.callbacks import ElasticWeights, PartScores, WeightsPerPart

WAYS = ("plain", "replay", "elastic", "lora", "joint")


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="tsv file with the columns text, intent, domain")
    parser.add_argument("--valid", required=True, help="the same, for the scores")
    parser.add_argument("--model", required=True, help="folder or hub name of a pretrained encoder")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150, help="on each domain")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate")
    parser.add_argument("--lora-rate", type=float, default=1e-3, help="learning rate of LoRA and its head")
    parser.add_argument("--replay", type=float, default=0.05, help="share of each earlier domain that is kept")
    parser.add_argument("--strength", type=float, default=1000.0, help="of the elastic penalty")
    parser.add_argument("--domains", type=int, help="use the first so many of each order only")
    parser.add_argument("--folder", type=Path, default=Path("continual_intents"), help="where the runs are kept")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in arguments.ways}
    for seed in range(arguments.seeds):
        for way in arguments.ways:
            found[way].append(run(arguments, way, seed))
    print(f"{arguments.seeds} seeds, {arguments.steps} steps of {arguments.batch} texts on each domain")
    print(f"{'':8} {'average':>15} {'forgetting':>15} {'of plain':>9} {'seconds':>8}")
    plain = np.array([record["metrics"]["forgetting"] for record in found.get("plain", [])])
    for way, records in found.items():
        lost = np.array([record["metrics"].get("forgetting", np.nan) for record in records])
        of_plain = f"{lost.mean() / plain.mean():>9.2f}" if len(plain) and way != "joint" else f"{'':>9}"
        seconds = np.mean([record["seconds"] for record in records])
        averages = interval([record["metrics"]["average"] for record in records])
        print(f"{way:8} {averages:>15} {interval(lost):>15} {of_plain} {seconds:>8.0f}")


def run(arguments: argparse.Namespace, way: str, seed: int) -> dict[str, Any]:
    """The record of one training, from its folder if it is there."""
    folder = arguments.folder / f"{way}-{seed}"
    done = folder / "done.json"
    settings = {name: value for name, value in vars(arguments).items() if name not in ("ways", "seeds", "folder")}
    if done.exists():
        record: dict[str, Any] = json.loads(done.read_text())
        if record.pop("settings") != settings:
            raise SystemExit(f"{folder} was made with other settings: choose another --folder")
        return record
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{way}, seed {seed}", flush=True)
    start = time.perf_counter()
    train(arguments, way, seed, folder)
    record = json.loads((folder / "continual.json").read_text()) | {"seconds": time.perf_counter() - start}
    done.write_text(json.dumps(record | {"settings": settings}))
    return record


def train(arguments: argparse.Namespace, way: str, seed: int, folder: Path) -> None:
    """Train one way with one seed; the scores go to `folder`."""
    seed_everything(seed, verbose=False)
    corpus = TextFiles(arguments.train, arguments.valid, None, label="intent", part="domain")
    domains = sorted({str(document.part) for document in corpus.documents("train")})
    random.Random(seed).shuffle(domains)
    data = ContinualDataModule(
        corpus,
        parts=domains[: arguments.domains],
        steps_per_part=arguments.steps,
        replay=arguments.replay if way == "replay" else 0.0,
        joint=way == "joint",
        unit="text",
        length=48,
        batch_size=arguments.batch,
        labels="class",
    )
    own: dict[str, list[Callback]] = {"elastic": [ElasticWeights(arguments.strength)], "lora": [WeightsPerPart()]}
    task = Classification(
        PretrainedEncoder(arguments.model, adapter=LoRA(rank=8) if way == "lora" else None),
        optimization=Optimization(
            learning_rate=arguments.lora_rate if way == "lora" else arguments.rate,
            schedule="linear",
            warmup=0.1,
            weight_decay=0.01,
        ),
    )
    trainer = Trainer(
        accelerator="cpu", precision="32-true", max_epochs=1, gradient_clip_val=1.0, logger=False, num_sanity_val_steps=0,
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False, use_distributed_sampler=False,
        callbacks=[*own.get(way, []), PartScores(folder)],
    )  # fmt: skip
    trainer.fit(task, datamodule=data)


def interval(values: Any) -> str:
    """The mean of some numbers and half of its 95 % t-interval."""
    values = np.array(values, dtype=float)
    if np.isnan(values).any():
        return "–"
    if len(values) == 1:
        return f"{values[0]:.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.3f} ± {half:.3f}"


if __name__ == "__main__":
    quiet()
    main()
