"""How much of a known language five methods learn: their losses beside the least possible ones, and a probe of the topics.

Trains each method by its shipped configuration on `--config data/synthetic`, in the steps below, and masked diffusion a
second time with `max_masking_rate: 1` from the start. Then evaluates all runs with `--suite limits`, on whole documents of
the test split. Prints for each kind of likelihood the loss, its limit, the excess with its standard error, the share of the
learnable gap that is closed, and the verdict; the share in the last validation, on packed rows; and the seconds of
training: of processors, without validations, and by the clock, from the start of the process to its end. A last table has
the accuracy of a linear probe of the topics on the vectors of SimCLR, beside the best that any classifier can have, and
beside its baselines. Finished runs are kept, and have no time by the clock.

    python benchmarks/exact_limits.py [causal_lm vae ...] [--folder exact_limits] [--steps 20]
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from ssl_nlp.evaluation.excess import Excess
from ssl_nlp.evaluation.record import read_record, read_suite
from ssl_nlp.runs.metrics_csv import read_metrics
from ssl_nlp.runs.run import Run

PAIRS = ("--data.unit=pair", "--data.corpus.pairs=true", "--data.corpus.same_topic=2")
RUNS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "causal_lm": ("causal_lm", 300, ()),
    "masked_lm": ("masked_lm", 1200, ()),
    "masked_diffusion": ("masked_diffusion", 1200, ()),
    "masked_diffusion_rate_1": ("masked_diffusion", 1200, ("--model.max_masking_rate=1",)),
    "vae": ("vae", 1500, ()),
    "simclr": ("simclr", 600, PAIRS),
}
"""Configuration, steps and further settings of each run."""
SUITE, PROBE = "limits", "topic.linear_probe"


def main() -> None:
    """Train what is missing, evaluate, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}; default: all")
    parser.add_argument("--folder", type=Path, default=Path("exact_limits"), help="of the runs")
    parser.add_argument("--steps", type=int, help="of each training, for a trial; default: those of RUNS")
    arguments = parser.parse_args()
    for name in [name for name in arguments.names if name not in RUNS]:
        parser.error(f"there is no run {name}: take {', '.join(RUNS)}")
    names = arguments.names or [*RUNS]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    seconds = {name: train(name, arguments.steps) for name in names}
    command("evaluate", *names, "--suite", SUITE)
    print(
        f"{'nats':24} {'kind':18} {'loss':>8} {'limit':>8} {'excess':>8} {'± s.e.':>7} {'closed':>7} {'verdict':20} "
        f"{'valid':>7} {'CPU s':>6} {'clock s':>7}"
    )
    for name, taken in seconds.items():
        print_losses(name, taken)
    if "simclr" in names:
        print_probe("simclr")


def train(name: str, steps: int | None) -> float | None:
    """Seconds of a training from the start of its process to the end; None if it was finished before."""
    config, planned, more = RUNS[name]
    if Run(name).finished:
        return None
    start = time.perf_counter()
    length = f"--trainer.max_steps={steps or planned}"
    settings = ("--config", config, "--config", "data/synthetic", "--run", name, "--wandb.mode=disabled", length)
    command("fit", *settings, *more)
    return time.perf_counter() - start


def command(*arguments: str) -> None:
    """Run a command of ssl-nlp to its end."""
    subprocess.run([sys.executable, "-m", "ssl_nlp", *arguments], check=True)


def print_losses(name: str, taken: float | None) -> None:
    """Print a line for each kind of likelihood of a run, or one line for a run without any."""
    record = Run(name).directory / "evaluation.json"
    found = read_suite(record, SUITE).evaluators.get("limits")
    cpu = read_record(record)["cost"].get("seconds")
    shares = [row["val/gap_closed"] for row in read_metrics(record.parent / "metrics.csv") if row.get("val/gap_closed")]
    valid = f"{float(shares[-1]):.1%}" if shares else "–"
    times = f"{valid:>7} {'–' if cpu is None else f'{cpu:.0f}':>6} {'' if taken is None else f'{taken:.0f}':>7}"
    kinds = {} if found is None else found.details["limits"]
    for kind, numbers in kinds.items():
        excess = Excess.from_json(numbers)
        closed = "–" if excess.gap_closed is None else f"{excess.gap_closed:.1%}"
        print(
            f"{name:24} {kind:18} {excess.loss:8.4f} {excess.limit:8.4f} {excess.nats:8.4f} {excess.standard_error:7.4f} "
            f"{closed:>7} {excess.verdict:20} {times}"
        )
    if not kinds:
        print(f"{name:24} {'no likelihood':18} {'':64} {times}")


def print_probe(name: str) -> None:
    """Print how well topics are told from the vectors of a run, and from those of its baselines."""
    result = read_suite(Run(name).directory / "evaluation.json", SUITE)
    print(f"\n{'topics':24} {'accuracy':>9} {'best':>7} {'of the way from chance':>23}")
    for label, results in {name: result.evaluators, **result.baselines}.items():
        if PROBE in results and "share_of_bayes" in results[PROBE].metrics:
            metrics = results[PROBE].metrics
            numbers = (metrics["accuracy"], metrics["bayes_accuracy"], metrics["share_of_bayes"])
            print(f"{label:24} {numbers[0]:9.1%} {numbers[1]:7.1%} {numbers[2]:23.1%}")


if __name__ == "__main__":
    main()
