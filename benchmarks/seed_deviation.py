"""How much scores vary between seeds, at the size of the demo: the assumption behind verdicts of single runs, measured.

Trains each method of the demo with several seeds, evaluates them, and divides the standard deviation of a score between
seeds by that over the choice of test items. Verdicts on runs with one seed assume that this ratio is at most
`ssl_nlp.comparison.statistics.ASSUMED`. The last column pools the squared ratios of the methods, with the interval (95 %)
that chi-square gives for as many degrees of freedom. Finished runs are kept.

    python benchmarks/seed_deviation.py [--folder seed_deviation] [--seeds 8] [--suite docs] [FIT_ARGUMENTS]
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from ssl_nlp.commands.compare import compare
from ssl_nlp.commands.demo import METHODS
from ssl_nlp.comparison.assemble import read_results
from ssl_nlp.comparison.compared_runs import find_runs
from ssl_nlp.comparison.contributions import contributions
from ssl_nlp.comparison.statistics import ASSUMED
from ssl_nlp.evaluation import Result


def main() -> None:
    """Train and evaluate, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("seed_deviation"), help="of the runs and the comparison")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--suite", default="docs")
    arguments, extra = parser.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    config = ["--config", "trainer/demo", *extra]
    compare([f"--seeds={arguments.seeds}", f"--suite={arguments.suite}", *METHODS, "--", *config])
    found: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for run in find_runs(["runs"]):
        for key, result in read_results(run, arguments.suite).evaluators.items():
            if result.items is not None:
                found[key][run.method].append(result)
    print(f"\n{'deviation between seeds / over items':<40} {'items':>6} " + " ".join(f"{name:>12}" for name in METHODS))
    for key, methods in found.items():
        ratios = {name: ratio(several) for name, several in methods.items() if len(several) == arguments.seeds}
        cells = (f"{ratios.get(kind.__name__, float('nan')):>12.2f}" for kind in METHODS.values())
        size = max(len(several[0].items) for several in methods.values() if several[0].items is not None)
        print(f"{key:<40} {size:>6} {' '.join(cells)}   pooled {pooled(list(ratios.values()), arguments.seeds)}")
    every = [ratio(several) for methods in found.values() for several in methods.values() if len(several) > 1]
    print(f"{len(every)} ratios: median {np.median(every):.2f}, largest {max(every):.2f}; assumed {ASSUMED:.0f}")


def ratio(results: list[Result]) -> float:
    """The standard deviation of the scores of several seeds, divided by that of a score over items."""
    variances = []
    for result in results:
        assert result.items is not None
        moved = contributions(result.items, result.statistic)
        variances.append(moved.var(ddof=1) / len(moved))
    return float(np.std([result.primary for result in results], ddof=1) / np.sqrt(np.mean(variances)))


def pooled(ratios: Sequence[float], seeds: int) -> str:
    """The ratio of all methods together, with its interval."""
    square, freedom = np.mean(np.square(ratios)), len(ratios) * (seeds - 1)
    low, high = (np.sqrt(square * freedom / stats.chi2.ppf(tail, freedom)) for tail in (0.975, 0.025))
    return f"{np.sqrt(square):.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
