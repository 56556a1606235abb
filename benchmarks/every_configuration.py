"""Every shipped method, trained by its configuration alone: time, the fall of its loss, and the cost of a step.

Runs `ssl-nlp fit --config NAME` for each configuration in `configs/` and prints the seconds of processors that the command
took, the validation loss first and last, and what a token costs beside `masked_lm`: in time, without validations, and in
FLOPs. With `OMP_NUM_THREADS=1`, seconds hardly depend on what else the machine does. The runs are `runs/NAME-seed0` of the
working directory; a finished one is not trained again, and has no seconds then. Compare them with
`ssl-nlp compare runs/`. Losses can only be reproduced with `--english`: the default text, the installed documentation,
changes.

    python benchmarks/every_configuration.py [masked_lm vae ...] [--steps 200] [--english ENGLISH]
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path

from english_texts import corpus_options

from ssl_nlp.commands.shipped import config_names
from ssl_nlp.evaluation.cost import cost
from ssl_nlp.runs.metrics_csv import read_metrics, read_numbers
from ssl_nlp.runs.run import Run

BESIDE = "masked_lm"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name in config_names() if "/" not in name]
    parser.add_argument("names", nargs="*", metavar="NAME", help="of configurations; default: all")
    parser.add_argument("--steps", type=int, help="of each training, with two validations; default: as configured")
    described = "folder with train.jsonl and valid.jsonl; default: the installed documentation"
    parser.add_argument("--english", type=Path, help=described)
    arguments = parser.parse_args()
    names = arguments.names or known
    for name in [name for name in names if name not in known]:
        parser.error(f"there is no configuration {name} in configs/")
    seconds = {name: train(name, arguments.steps, arguments.english) for name in dict.fromkeys([BESIDE, *names])}
    costs = {name: token_costs(name) for name in seconds}
    print(f"{'':18} {'seconds':>8} {'loss first':>11} {'last':>8} {'time':>6} {'FLOPs':>6}   a token beside {BESIDE}")
    for name, taken in seconds.items():
        first, last = losses(name)
        ratios = [
            f"{mine / other:6.2f}" if mine else f"{'–':>6}"
            for mine, other in zip(costs[name], costs[BESIDE], strict=True)
        ]
        shown = "" if taken is None else f"{taken:.0f}"
        print(f"{name:18} {shown:>8} {first:>11.3f} {last:>8.3f} {' '.join(ratios)}")


def train(name: str, steps: int | None, english: Path | None) -> float | None:
    """Seconds of processors from the start of the command to its end; None if the run was finished before."""
    run = Run(f"{name}-seed0")
    if run.finished:
        return None
    more = []
    if steps is not None:
        numbers = {"max_steps": steps, "val_check_interval": max(1, steps // 2), "log_every_n_steps": 10}
        more = [f"--trainer.{key}={number}" for key, number in numbers.items()]
    if english is not None:
        more += corpus_options(english)
    before = processor_seconds()
    subprocess.run(
        [sys.executable, "-m", "ssl_nlp", "fit", "--config", name, "--run", run.name, "--wandb.mode=disabled", *more],
        check=True,
    )
    return processor_seconds() - before


def processor_seconds() -> float:
    """Of the commands that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def token_costs(name: str) -> tuple[float, float]:
    """Seconds and FLOPs of training per token; 0 where they were not logged."""
    numbers = cost(0, 0, read_numbers(Run(f"{name}-seed0").directory / "metrics.csv"))
    return 1 / numbers["tokens_per_second"], numbers.get("flops", 0.0) / numbers["tokens"]


def losses(name: str) -> tuple[float, float]:
    """The loss at the first and at the last validation."""
    rows = read_metrics(Run(f"{name}-seed0").directory / "metrics.csv")
    found = [float(row["val/loss"]) for row in rows if row.get("val/loss")]
    return found[0], found[-1]


if __name__ == "__main__":
    main()
