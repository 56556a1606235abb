"""Language models after some minutes of training on English: bits per byte of held-out text, and grammar.

Each method trains on English documents as its configuration says, with one encoder size for all Transformers (an LSTM of
about as many weights beside them), in as many steps as two threads take for the given minutes: a short trial measures
what a step costs, and the number is written down. GPT-2 of `transformers` has the same width, depth, heads, tokens and
rows of 128 tokens, and is trained by `transformers.Trainer` for the same minutes, once for each learning rate (AdamW,
cosine, warm-up over 5 %; no dropout, as ours). The trials measure wall-clock time of training alone, so keep the machine
free while they run. NGramLM counts the text once.

Two tables. Bits per byte of the first 450 characters of held-out documents: exact, as an upper bound (masked diffusion),
or of a pseudo-likelihood, which has a column of its own. There the mixture of causal and masked language modelling stands
beside both, which shows whether it beats either alone (arXiv:2512.14549). And the accuracy on minimal pairs, of sentences
with a start and an end, in float32, beside the best GPT-2. Intervals (95 %) of differences cover other texts, or other
pairs of the same paradigms, and other seeds; with one seed they rest on the assumption in
`ssl_nlp.comparison.statistics`. Models that decide pairs in two ways have two rows, which count once in the estimate of
how much seeds vary. A table has all seeds of FOLDER, which may differ in number: another call with --methods, --seeds and
an empty --rates adds some, and the first call then prints all.

Each trained model adds a line to FOLDER/records.jsonl, and the same command resumes where it stopped.

A GPU trains and scores where there is one, in float32. Its own trials would give it many more steps: to train what another
machine would in the given minutes, copy the files steps-*.txt from its folder to FOLDER first.

    python benchmarks/language_models_english.py --english ENGLISH --pairs blimp.jsonl [--folder language_models]
        [--minutes 30] [--seeds 1] [--encoder small] [--dropout 0] [--rates 0.001 0.003]
        [--methods causal_lm masked_lm ...]
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ssl_nlp  # before torch: it sets how OpenMP's threads wait, so that GPT-2's do as those of the methods

# isort: split
import torch
import yaml
from english_texts import corpus_options
from language_models_stock import Stock, gpt2_step, train_gpt2

from ssl_nlp.commands.accelerator import accelerated
from ssl_nlp.commands.models import find_target
from ssl_nlp.commands.shipped import find_config
from ssl_nlp.commands.train_runs import train
from ssl_nlp.comparison.statistics import Differences, Sample
from ssl_nlp.encoders.transformer import Size
from ssl_nlp.evaluation import LanguageModelling, MinimalPairs, Result, Scorer
from ssl_nlp.evaluation.capabilities import SeveralScorer
from ssl_nlp.evaluation.file_tasks import PlainFiles
from ssl_nlp.evaluation.minimal_pair_files import MinimalPairFiles
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.objectives.scores import Likelihood, Scores

METHODS = (
    "causal_lm", "lstm", "causal_masked_lm", "masked_lm", "masked_diffusion", "bidirectional_lm", "vae", "ngram_lm",
)  # fmt: skip
OWN_SIZE = ("lstm", "bidirectional_lm", "ngram_lm")  # which have no Transformer
LSTM: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 240, "embedding_dim": 128},
    "small": {"dim": 584, "embedding_dim": 256},
}
"""Widths of two LSTM layers with about as many weights as the Transformer of that size."""
CHARACTERS = 450
"""Of each held-out text: about as much as fits into a row of 128 tokens, longer than which no model has seen any."""
SENTENCES = 128
"""In a batch of the VAE, which have nearly as many tokens as a batch of the other methods."""
TRIAL = 20  # steps that measure the cost of one
RECORDS = Path("records.jsonl")


def main() -> None:
    """Train, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, required=True, help="folder with train, valid and test.jsonl")
    parser.add_argument("--pairs", type=Path, required=True, help="a JSONL file of minimal pairs")
    described = "its fields: good sentence, bad sentence, paradigm, field of grammar"
    parser.add_argument("--fields", nargs=4, default=["good", "bad", "paradigm", "field"], help=described)
    parser.add_argument("--per-paradigm", type=int, help="use the first pairs of each paradigm only")
    parser.add_argument("--folder", type=Path, default=Path("language_models"), help="of runs and records")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, for each model")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--encoder", default="small", choices=sorted(LSTM))
    parser.add_argument("--dropout", type=float, default=0.0, help="of GPT-2, as ours; its own default is 0.1")
    parser.add_argument("--rates", type=float, nargs="*", default=[0.001, 0.003], help="learning rates of GPT-2")
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    arguments = parser.parse_args()
    if torch.cuda.device_count() > 1:
        parser.error("GPT-2 would train on several GPUs, and the methods on one: name one with CUDA_VISIBLE_DEVICES")
    english = arguments.english.resolve()
    text, pair, label, part = arguments.fields
    found = MinimalPairFiles(str(arguments.pairs.resolve()), text, pair, label, part).read("pairs", "minimal_pairs")
    assert isinstance(found, MinimalPairs)
    pairs = found if arguments.per_paradigm is None else first_pairs(found, arguments.per_paradigm)
    texts = PlainFiles(str(english / "test.jsonl"), characters=CHARACTERS).read("texts", "language_modelling")
    assert isinstance(texts, LanguageModelling)
    evaluators = Evaluators(pairs, texts)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    plan = Plan(english, arguments.encoder, 60 * arguments.minutes, arguments.seeds, arguments.dropout)
    versions = f"ssl_nlp {ssl_nlp.__version__}, torch {torch.__version__}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    print(f"{versions}, {device}; {len(pairs.good):,} pairs", flush=True)
    for method in arguments.methods:
        plan.steps(method)
    if arguments.rates:
        plan.steps("gpt2")
    names = []
    for method in arguments.methods:
        names.append(method)
        for run, seed in zip(train_ours(plan, method), range(plan.seeds), strict=True):
            if (method, seed) not in records():
                target = find_target(run)
                assert isinstance(target.method, Scorer)
                cost = target.header["cost"]
                costs = cost | {"steps": target.step, "seconds": clock_seconds(cost)}
                with accelerated(target.method):
                    evaluators.record(method, seed, target.method, costs)
    for rate in arguments.rates:
        names.append(f"gpt2-{rate:g}")
        for seed in range(plan.seeds):
            if (names[-1], seed) not in records():
                stock = Stock(english, plan.encoder, plan.dropout, rate, seed)
                evaluators.record(names[-1], seed, *train_gpt2(stock, plan.steps("gpt2")))
    if names:
        bits_table(names)
        pairs_table(names)


@dataclass(frozen=True)
class Plan:
    """The settings that all trainings share.

    Attributes:
        english: the folder with the text.
        encoder: size of the Transformers.
        seconds: of training, for each model.
        seeds: their number.
        dropout: of GPT-2.
    """

    english: Path
    encoder: Size
    seconds: float
    seeds: int
    dropout: float

    def steps(self, name: str) -> int:
        """The steps that fit into the time, by a short trial that is made once."""
        path = Path(f"steps-{name}.txt")
        if name == "ngram_lm":
            return 1
        if not path.exists():
            stock = Stock(self.english, self.encoder, self.dropout)
            seconds = gpt2_step(stock, TRIAL) if name == "gpt2" else method_step(self, name)
            path.write_text(str(max(round(self.seconds / seconds), 10)))
        return int(path.read_text())


def first_pairs(pairs: MinimalPairs, number: int) -> MinimalPairs:
    """The first pairs of each paradigm."""
    seen: dict[str, int] = {}
    rows = []
    for row, paradigm in enumerate(pairs.paradigms):
        seen[paradigm] = seen.get(paradigm, 0) + 1
        if seen[paradigm] <= number:
            rows.append(row)
    columns = (pairs.good, pairs.bad, pairs.paradigms, pairs.fields)
    good, bad, paradigms, fields = ([column[row] for row in rows] for column in columns)
    return MinimalPairs(good, bad, paradigms, fields)


# ------------------------------------------------------------------------------------------------------------ the methods


def train_ours(plan: Plan, method: str) -> list[str]:
    """Train a method with each seed, unless that is done, and return the names of the runs."""
    steps = plan.steps(method)
    extra = arguments_of(plan, method)
    if method != "ngram_lm":
        logged = [f"--trainer.log_every_n_steps={min(steps, 50)}", f"--trainer.val_check_interval={max(steps // 4, 1)}"]
        extra += [f"--trainer.max_steps={steps}", *logged, "--trainer.limit_val_batches=20"]
    return [Path(run).name for run in train((configuration(plan, method),), plan.seeds, "english", extra)]


def method_step(plan: Plan, method: str) -> float:
    """Seconds of the clock for a step."""
    trial = [f"--trainer.{name}={TRIAL}" for name in ("max_steps", "val_check_interval")]
    extra = [*arguments_of(plan, method), *trial, "--trainer.log_every_n_steps=5", "--trainer.limit_val_batches=2"]
    [run] = train((configuration(plan, method),), 1, "trial", extra)
    return clock_seconds(find_target(Path(run).name).header["cost"]) / TRIAL


def arguments_of(plan: Plan, method: str) -> list[str]:
    """The arguments of each training."""
    extra = [*corpus_options(plan.english), "--wandb.mode=disabled"]
    if torch.cuda.is_available():
        extra += ["--trainer.precision=32-true", "--trainer.devices=1"]
    if method == "vae":
        extra += [f"--data.batch_size={SENTENCES}"]
    return extra if method in OWN_SIZE else [*extra, f"--model.encoder.init_args.size={plan.encoder}"]


def configuration(plan: Plan, method: str) -> str:
    """The name of the shipped configuration; `lstm` is CausalLM over LSTM layers, in a file beside the runs."""
    if method != "lstm":
        return method
    settings = yaml.safe_load(Path(find_config("causal_lm")).read_text(encoding="utf-8"))
    settings["model"]["init_args"]["encoder"] |= {
        "class_path": "ssl_nlp.encoders.Recurrent",
        "init_args": {"kind": "lstm", "layers": 2, **LSTM[plan.encoder]},
    }
    Path("lstm.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return "lstm.yaml"


def clock_seconds(cost: Mapping[str, float]) -> float:
    """The seconds of the clock that a training took: GPT-2 is measured by these, and `seconds` are summed over cores.

    A training of few steps has no speed, and its seconds of the processor stand for them.
    """
    speed = cost.get("tokens_per_second")
    return cost["tokens"] / speed if speed else cost["seconds"]


# ---------------------------------------------------------------------------------------------------------------- records


def records() -> dict[tuple[str, int], dict[str, Any]]:
    """The lines of the file by method and seed."""
    lines = RECORDS.read_text().splitlines() if RECORDS.exists() else []
    found = [json.loads(line) for line in lines]
    return {(one["method"], one["seed"]): one for one in found}


@dataclass(frozen=True)
class Asked:
    """A model that is asked for one kind of scores."""

    model: Scorer
    likelihood: Likelihood | None

    def score(self, texts: Sequence[str]) -> Scores:
        """The scores of that kind."""
        if isinstance(self.model, SeveralScorer):
            return self.model.score(texts, kind=self.likelihood)
        return self.model.score(texts)


@dataclass(frozen=True)
class Evaluators:
    """The two evaluations of each model."""

    pairs: MinimalPairs
    texts: LanguageModelling

    def record(self, name: str, seed: int, model: Scorer, costs: Mapping[str, float]) -> None:
        """Score a model, add a line, and write the items beside it."""
        line: dict[str, Any] = {"method": name, "seed": seed}
        line |= {cost: costs.get(cost) for cost in ("steps", "seconds", "tokens", "flops", "parameters")}
        line["bits"] = {}
        for kind in model.likelihoods if isinstance(model, SeveralScorer) else [model.likelihood]:
            predicted = self.texts(Asked(model, kind))
            line["bits"][kind] = predicted.primary
            save(predicted, name, seed, str(kind))
        first, *others = self.pairs.each(model)
        save(first, name, seed, "pairs")
        for other in others:
            save(other, name, seed, "pairs-pseudo")
        chosen = self.pairs.merged([first, *others])
        line |= chosen.metrics
        with RECORDS.open("a") as file:
            file.write(json.dumps(line | {"details": chosen.details["minimal_pairs"]}) + "\n")
        print(f"{name}, seed {seed}: {line['bits']}, pairs {chosen.primary:.4f}", flush=True)


def save(result: Result, name: str, seed: int, what: str) -> None:
    """Keep the items of a result."""
    assert result.items is not None
    np.save(f"items-{name}-{seed}-{what}.npy", result.items)


def seeds_of(name: str) -> list[int]:
    """The seeds with which a model has been trained, in all calls together."""
    return sorted(seed for method, seed in records() if method == name)


def sample(name: str, what: str) -> Sample:
    """A model with all its seeds."""
    items = tuple(np.load(f"items-{name}-{seed}-{what}.npy") for seed in seeds_of(name))
    scores = np.array([statistic_of(some, "ratio") for some in items])
    return Sample(scores, items, "ratio", name != "ngram_lm", trainings=frozenset({name}))


def over(differences: Differences, one: int, other: int) -> str:
    """The difference of two models with its interval."""
    error = differences.uncertainty(one, other)
    reach = float("nan") if error is None else error.reach(0.95)
    return f"{differences.difference(one, other):+.4f} ± {reach:.4f}"


def bits_table(names: Sequence[str]) -> None:
    """Print the bits per byte: exact ones and bounds beside CausalLM, pseudo-likelihoods beside MaskedLM."""
    found = records()
    for kinds, first in ((("likelihood", "bound"), "causal_lm"), (("pseudo-likelihood",), "masked_lm")):
        rows = [(name, kind) for kind in kinds for name in names if kind in found[name, 0]["bits"]]
        if not rows:
            continue
        merged = [sample(name, kind) for name, kind in rows]
        differences = Differences(merged)
        print(f"\n{'method':>18} {'kind':>18} {'bits/byte':>9} {'tokens':>11} {'TFLOPs':>8}  over {first}")
        for number, (name, kind) in enumerate(rows):
            own = found[name, 0]
            line = f"{name:>18} {kind:>18} {merged[number].scores.mean():>9.4f} {own['tokens'] or 0:>11,.0f} "
            line += f"{(own['flops'] or float('nan')) / 1e12:>8.0f}"
            if name != first and (first, kinds[0]) in rows:
                line += f"  {over(differences, number, rows.index((first, kinds[0])))}"
            print(line)


def pairs_table(names: Sequence[str]) -> None:
    """Print the accuracy of each method on minimal pairs beside the best GPT-2."""
    found = records()
    rows = [
        (name, kind, "pairs" if number == 0 else "pairs-pseudo")
        for name in names
        for number, kind in enumerate(found[name, 0]["details"])
    ]
    differences = Differences([sample(name, file) for name, _, file in rows])
    stock = [number for number, (name, _, _) in enumerate(rows) if name.startswith("gpt2-")]
    best = max(stock, key=lambda number: float(differences.samples[number].scores.mean()), default=None)
    header = f"{'method':>18} {'by':>18} {'accuracy':>9} {'per token':>9} {'seeds':>5} {'seconds':>8} {'steps':>7}"
    print(f"\n{header}  over GPT-2")
    for number, (name, kind, _) in enumerate(rows):
        own = [found[name, seed] for seed in seeds_of(name)]
        line = f"{name:>18} {kind:>18}"
        for metric in ("accuracy", "accuracy_per_token"):
            line += f" {np.mean([one['details'][kind][metric] for one in own]):>9.4f}"
        seconds, steps = (np.mean([one[cost] or float("nan") for one in own]) for cost in ("seconds", "steps"))
        line += f" {len(own):>5} {seconds:>8.0f} {steps:>7.0f}"
        if best is not None and number != best:
            line += f"  {over(differences, number, best)}"
        print(line)


if __name__ == "__main__":
    main()
