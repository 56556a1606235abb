"""Translation of captions from English to German, learned from scratch in a given time.

A run of 120 steps tells how long a step takes, and so how many fit into the time that is left. `ssl-nlp fit` trains that
many with `configs/benchmarks/translate_multi30k.yaml`; then beam search translates every line of the validation file and of
the test file. Prints, for each seed, the steps, the minutes of both trainings, and BLEU and chrF as sacrebleu counts them,
cased and on all lines. Nothing is chosen on the test file: the last checkpoint is measured.

The runs are `runs/multi30k-MINUTESm-pace` and `runs/multi30k-MINUTESm-SEED` of the working directory. A run that was
interrupted goes on when the same command is given again, and a finished one is only measured; the minutes are then those of
this command. Further arguments go to `ssl-nlp fit`.

    python benchmarks/translate_multi30k.py --train train.en --valid val.en --test test.en [--pair .de] [--minutes 40]
"""

import argparse
import os
import time
from pathlib import Path

import torch

from ssl_nlp.__main__ import main as ssl_nlp
from ssl_nlp.commands.trainer_settings import default_precision
from ssl_nlp.corpora import TextFiles
from ssl_nlp.evaluation.generated_text import score_texts
from ssl_nlp.evaluation.result import Result
from ssl_nlp.runs.metrics_csv import read_metrics
from ssl_nlp.runs.run import Run
from ssl_nlp.tasks import SequenceToSequence

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "benchmarks" / "translate_multi30k.yaml"
PACE = 120
"""Steps that tell how long a step takes; those before the first log do not count."""
LOGGED = 40
"""Steps between two logs."""
RESERVE = 0.1
"""Share of the time that is left for validations and checkpoints."""


def main() -> None:
    """Train, translate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for split, use in (("train", "train on"), ("valid", "validate on"), ("test", "translate")):
        parser.add_argument(f"--{split}", type=Path, required=True, help=f"text file to {use}, one caption a line")
    parser.add_argument("--pair", default=".de", help="ending of the files beside these with the other language")
    parser.add_argument("--minutes", type=float, default=40.0, help="for training, that of the pace included")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--seeds", type=int, default=1, help="number of runs")
    arguments, more = parser.parse_known_args()
    files = [f"--data.corpus.{split}={getattr(arguments, split).resolve()}" for split in ("train", "valid", "test")]
    command = ["fit", "--config", str(CONFIG), *files, f"--data.corpus.pair={arguments.pair}", *more]
    name = f"multi30k-{arguments.minutes:g}m"
    started = time.perf_counter()
    train(
        f"{name}-pace",
        [*command, f"--trainer.max_steps={PACE}", f"--trainer.log_every_n_steps={LOGGED}", "--model.decoded=1"],
    )
    seconds = seconds_of_step(f"{name}-pace")
    spent = (time.perf_counter() - started) / 60
    steps = int(arguments.minutes * 60 * (1 - RESERVE) / seconds) - PACE
    if steps < PACE:
        parser.error(f"a step takes {seconds:.2f} seconds, and --minutes {arguments.minutes:g} leaves {steps} of them")
    print(
        f"{seconds:.3f} seconds a step, {torch.get_num_threads()} threads of {os.cpu_count()} cores, precision "
        f"{default_precision('cpu')}"
    )
    print(f"{'seed':>4} {'steps':>6} {'minutes':>8} {'BLEU valid':>11} {'chrF':>6} {'BLEU test':>10} {'chrF':>6}")
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        started = time.perf_counter()
        run = train(f"{name}-{seed}", [*command, f"--trainer.max_steps={steps}", f"--seed_everything={seed}"])
        minutes = spent + (time.perf_counter() - started) / 60
        model = SequenceToSequence.load_from_checkpoint(run.last_checkpoint)
        valid, test = (translated(model, getattr(arguments, split), arguments.pair) for split in ("valid", "test"))
        print(
            f"{seed:>4} {steps:>6} {minutes:>8.1f} {valid.metrics['bleu']:>11.2f} {valid.metrics['chrf']:>6.2f} "
            f"{test.metrics['bleu']:>10.2f} {test.metrics['chrf']:>6.2f}",
            flush=True,
        )
        print(f"     {test.details['bleu']}; {test.details['texts']} lines")


def train(name: str, command: list[str]) -> Run:
    """The run of this name, trained as far as it is not yet."""
    run = Run(name)
    if not run.finished:
        ssl_nlp([*command, f"--run={name}"])
    return run


def seconds_of_step(name: str) -> float:
    """The mean of the steps after the first log."""
    rows = [row for row in read_metrics(Run(name).directory / "metrics.csv") if row["train/tokens_per_second"]]
    tokens = [float(row["train/tokens"]) for row in rows]
    rates = [float(row["train/tokens_per_second"]) for row in rows]
    seconds = sum((after - before) / rate for before, after, rate in zip(tokens, tokens[1:], rates[1:], strict=False))
    return seconds / (PACE - LOGGED)


def translated(model: SequenceToSequence, path: Path, pair: str) -> Result:
    """The scores of the translation of every line of a file."""
    texts = TextFiles(str(path), unit="line", pair=pair, format="text").read("train")
    sources, references = zip(*((document.text, str(document.pair)) for document in texts), strict=True)
    return score_texts(model.predict(sources), references)


if __name__ == "__main__":
    main()
