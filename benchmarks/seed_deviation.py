"""How much scores vary between seeds, at the size of the demo: the assumption behind verdicts of single runs, measured.

Trains each method of the demo with several seeds, evaluates them, and divides the standard deviation of a score between
seeds by that over the choice of test items. Verdicts on runs with one seed assume that this ratio is at most
`ssl_nlp.comparison.statistics.ASSUMED`. The last column pools the squared ratios of the methods, with the interval (95 %)
that chi-square gives for as many degrees of freedom. Text and suite are files, not the installed documentation, which
changes; their digests are printed at the end. Finished runs are kept, and FOLDER/comparison has their table and report.

    python benchmarks/seed_deviation.py --english ENGLISH --questions train.tsv test.tsv --dialogues train.jsonl dev.jsonl
        --sts dev.tsv [--folder seed_deviation] [--seeds 5] [--methods masked_lm causal_lm ...] [FIT_ARGUMENTS]
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from english_texts import corpus_options
from scipy import stats

from ssl_nlp.commands.compare import compare
from ssl_nlp.commands.demo import METHODS
from ssl_nlp.comparison.assemble import read_results
from ssl_nlp.comparison.compared_runs import find_runs
from ssl_nlp.comparison.contributions import contributions
from ssl_nlp.comparison.statistics import ASSUMED
from ssl_nlp.corpora.digests import SHORT
from ssl_nlp.evaluation import Result

SUITE = "seeds"


def main() -> None:
    """Train and evaluate, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--english", type=Path, required=True, help="folder with train.jsonl, valid.jsonl and test.jsonl"
    )
    described = "TSV files with a text and a label in a line: questions by the kind of their answer"
    parser.add_argument("--questions", type=Path, nargs="+", required=True, help=described)
    parser.add_argument(
        "--dialogues", type=Path, nargs="+", required=True, help="JSONL files: source, and target to find"
    )
    parser.add_argument("--sts", type=Path, required=True, help="the development part of STS-B, as it is published")
    parser.add_argument("--folder", type=Path, default=Path("seed_deviation"), help="of the runs and the comparison")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    arguments, extra = parser.parse_known_args()
    english, described_suite = arguments.english.resolve(), suite(arguments)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    Path("suite.yaml").write_text(yaml.safe_dump(described_suite), encoding="utf-8")
    fits = ["--config", "trainer/demo", *corpus_options(english), *extra]
    compare([f"--seeds={arguments.seeds}", "--config=suite.yaml", *arguments.methods, "--", *fits])
    found: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    items: dict[str, str] = {}
    runs = find_runs(["runs"])
    for run in runs:
        results = read_results(run, SUITE)
        items |= results.digests
        for key, result in results.evaluators.items():
            if result.items is not None:
                found[key][run.method].append(result)
    names = arguments.methods
    print(f"\n{'deviation between seeds / over items':<40} {'items':>6} " + " ".join(f"{name:>12}" for name in names))
    for key, methods in found.items():
        ratios = {name: ratio(several) for name, several in methods.items() if len(several) == arguments.seeds}
        cells = (f"{ratios.get(kind.__name__, float('nan')):>12.2f}" for kind in (METHODS[name] for name in names))
        size = max(len(several[0].items) for several in methods.values() if several[0].items is not None)
        print(f"{key:<40} {size:>6} {' '.join(cells)}   pooled {pooled(list(ratios.values()), arguments.seeds)}")
    every = [ratio(several) for methods in found.values() for several in methods.values() if len(several) > 1]
    print(f"{len(every)} ratios: median {np.median(every):.2f}, largest {max(every):.2f}; assumed {ASSUMED:.0f}")
    for name, digests in (("text", runs[0].text), ("items", items)):
        print(f"digests of {name}: " + ", ".join(f"{key} {digest[:SHORT]}" for key, digest in digests.items()))


def suite(arguments: argparse.Namespace) -> dict[str, Any]:
    """The description of the suite."""
    questions, dialogues = (
        [str(path.resolve()) for path in paths] for paths in (arguments.questions, arguments.dialogues)
    )
    texts = str((arguments.english / "test.jsonl").resolve())
    data = {
        "questions": {"task": "classification", "train": questions, "valid": 0.1, "test": 0.2, "label": "label"},
        "dialogues": {"task": "retrieval", "test": dialogues, "text": "source", "pair": "target"},
        "sts": {"task": "similarity", "test": str(arguments.sts.resolve()), "text": 5, "pair": 6, "score": 4},
        "english": {"task": "language_modelling", "test": texts, "characters": 200},
    }
    return {"name": SUITE, "data": data}


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
