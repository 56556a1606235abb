"""Grammar after some minutes of training: every method that scores sentences, on minimal pairs, beside stock GPT-2.

Each method trains on English documents as its configuration says, with one encoder size for all Transformers, in as many
steps as fit into the given minutes: a short trial measures what a step costs. GPT-2 of `transformers` has the same width,
depth, heads, tokens and rows of 128 tokens, and is trained by `transformers.Trainer` for the same minutes, once for each
learning rate (AdamW, cosine, warm-up over 5 %). Seconds are those of the clock, in training without validation, so nothing
else may run on the machine. NGramLM counts the text once. Sentences are scored with a start and an end, in float32.

Each trained model adds a line to FOLDER/records.jsonl, and the same command resumes where it stopped. The table at the end
compares each method with the best GPT-2: the interval (95 %) of the difference covers other pairs of the same paradigms and
other seeds; with one seed it rests on the assumption in `ssl_nlp.comparison.statistics`.

    python benchmarks/blimp_english.py --english ENGLISH --pairs blimp.jsonl [--folder blimp_english] [--minutes 30]
        [--seeds 3] [--encoder tiny] [--rates 0.001 0.003] [--methods causal_lm masked_lm ...]
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ssl_nlp  # before torch: it sets how OpenMP's threads wait, so that GPT-2's do as those of the methods

# isort: split
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.commands.models import find_target
from ssl_nlp.commands.train_runs import train
from ssl_nlp.comparison.statistics import Differences, Sample
from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.encoders.transformer import PRESETS, Size
from ssl_nlp.evaluation import MinimalPairs, Result, Scorer
from ssl_nlp.evaluation.minimal_pair_files import MinimalPairFiles
from ssl_nlp.objectives.scores import Likelihood, Scores
from ssl_nlp.training.precision import cpu_multiplies_bfloat16

METHODS = (
    "causal_lm", "masked_lm", "causal_masked_lm", "masked_diffusion", "vae", "bidirectional_lm", "ngram_lm",
)  # fmt: skip
TRIAL = 40  # steps that measure the cost of one
LENGTH, BATCH = 128, 32  # of GPT-2's rows, as of the methods'
RECORDS = Path("records.jsonl")


def main() -> None:
    """Train, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, required=True, help="folder with train.jsonl and valid.jsonl")
    parser.add_argument("--pairs", type=Path, required=True, help="a JSONL file of minimal pairs")
    described = "its fields: good sentence, bad sentence, paradigm, field of grammar"
    parser.add_argument("--fields", nargs=4, default=["good", "bad", "paradigm", "field"], help=described)
    parser.add_argument("--per-paradigm", type=int, help="use the first pairs of each paradigm only")
    parser.add_argument("--folder", type=Path, default=Path("blimp_english"), help="of runs and records")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, for each model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--encoder", default="tiny", choices=sorted(PRESETS))
    parser.add_argument("--rates", type=float, nargs="*", default=[0.001, 0.003], help="learning rates of GPT-2")
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    arguments = parser.parse_args()
    english = arguments.english.resolve()
    text, pair, label, part = arguments.fields
    found = MinimalPairFiles(str(arguments.pairs.resolve()), text, pair, label, part).read("pairs", "minimal_pairs")
    assert isinstance(found, MinimalPairs)
    pairs = found if arguments.per_paradigm is None else first_pairs(found, arguments.per_paradigm)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    plan = Plan(english, arguments.encoder, 60 * arguments.minutes, arguments.seeds)
    versions = f"ssl_nlp {ssl_nlp.__version__}, torch {torch.__version__}"
    print(f"{versions}, {torch.get_num_threads()} threads; {len(pairs.good):,} pairs", flush=True)
    names = []
    for method in arguments.methods:
        names.append(method)
        for run, seed in zip(train_ours(plan, method), range(plan.seeds), strict=True):
            if (method, seed) not in records():
                target = find_target(run)
                assert isinstance(target.method, Scorer)
                cost = target.header["cost"]
                costs = cost | {"steps": target.step, "seconds": clock_seconds(cost)}
                record(method, seed, pairs(target.method), costs)
    for rate in arguments.rates:
        names.append(f"gpt2-{rate:g}")
        for seed in range(plan.seeds):
            if (names[-1], seed) not in records():
                model, costs = train_gpt2(plan, rate, seed)
                record(names[-1], seed, pairs(model), costs)
    table(names, plan.seeds)


@dataclass(frozen=True)
class Plan:
    """What all trainings share.

    Attributes:
        english: the folder with the text.
        encoder: size of the Transformers.
        seconds: of training, for each model.
        seeds: their number.
    """

    english: Path
    encoder: Size
    seconds: float
    seeds: int

    def steps(self, name: str, trial: Any) -> int:
        """The steps that fit into the time. They are written down, so that an unfinished run resumes with the same number.

        Args:
            name: of the model.
            trial: measures the seconds of a step.
        """
        path = Path(f"steps-{name}.txt")
        if not path.exists():
            path.write_text(str(max(round(self.seconds / trial()), 10)))
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
    corpus = {"train": plan.english / "train.jsonl", "valid": plan.english / "valid.jsonl", "test": "null"}
    extra = [f"--data.corpus.init_args.{name}={value}" for name, value in corpus.items()]
    extra = ["--data.corpus=ssl_nlp.corpora.TextFiles", *extra, "--wandb.mode=disabled"]
    if method not in ("bidirectional_lm", "ngram_lm"):
        extra.append(f"--model.encoder.init_args.size={plan.encoder}")
    if method != "ngram_lm":  # which counts the text once

        def trial() -> float:
            steps = [
                f"--trainer.max_steps={TRIAL}",
                f"--trainer.val_check_interval={TRIAL}",
                "--trainer.log_every_n_steps=10",
            ]
            [run] = train((method,), 1, "trial", [*extra, *steps])
            return clock_seconds(find_target(Path(run).name).header["cost"]) / TRIAL

        steps = plan.steps(method, trial)
        logged = [f"--trainer.log_every_n_steps={min(steps, 50)}", f"--trainer.val_check_interval={max(steps // 4, 1)}"]
        extra += [f"--trainer.max_steps={steps}", *logged, "--trainer.limit_val_batches=20"]
    return [Path(run).name for run in train((method,), plan.seeds, "blimp", extra)]


def clock_seconds(cost: Mapping[str, float]) -> float:
    """The seconds of the clock that a training took: GPT-2 is measured by these, and `seconds` are summed over cores."""
    return cost["tokens"] / cost["tokens_per_second"]


# ------------------------------------------------------------------------------------------------------------------ GPT-2


class GPT2:
    """Stock GPT-2 with the tokens of our data. It scores the tokens and the end of a sentence, as CausalLM does."""

    likelihood: Likelihood | None = "likelihood"

    def __init__(self, data: TextDataModule, encoder: Size) -> None:
        self.data = data
        size = PRESETS[encoder]
        self.model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=data.tokenizer.vocab_size, n_positions=LENGTH, n_embd=size["dim"], n_layer=size["layers"],
                n_head=size["heads"], bos_token_id=data.tokenizer.end_id, eos_token_id=data.tokenizer.end_id,
            )
        )  # fmt: skip

    @torch.no_grad()
    def score(self, texts: Sequence[str]) -> Scores:
        """The negative log-likelihood of each text and its end."""
        self.model.eval()
        rows = [[*ids, self.data.tokenizer.end_id] for ids, _ in self.data.tokenizer.encode(list(texts))]
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        nats = torch.zeros(len(rows), dtype=torch.float64)
        for start in range(0, len(rows), 64):
            some = order[start : start + 64]
            ids = padded([rows[number] for number in some], self.data.tokenizer.pad_id)
            targets = padded([rows[number][1:] for number in some], IGNORE_INDEX)
            logits = self.model(ids[:, :-1]).logits.float()
            losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE_INDEX, reduction="none")
            nats[some] = losses.double().sum(dim=1)
        targets = torch.tensor([len(row) - 1 for row in rows])
        return Scores("likelihood", nats, targets, targets)


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """(N, longest row) int64."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def train_gpt2(plan: Plan, rate: float, seed: int) -> tuple[GPT2, dict[str, float]]:
    """A trained model, and what it cost."""
    train_files, valid_files = (str(plan.english / f"{split}.jsonl") for split in ("train", "valid"))
    data = TextDataModule(TextFiles(train_files, valid_files, None), TokenizerSettings(vocab_size=8192), length=LENGTH)
    rows = data.maker.rows(data.store("train"), data.tokenizer, LENGTH)
    features = [rows[[number]].input_ids[0].tolist() for number in range(len(rows))]

    def fit(steps: int) -> tuple[GPT2, float]:
        transformers.set_seed(seed)
        model = GPT2(data, plan.encoder)
        settings = transformers.TrainingArguments(
            output_dir="gpt2", max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=rate, seed=seed,
            lr_scheduler_type="cosine", warmup_steps=round(0.05 * steps), weight_decay=0.01, max_grad_norm=1.0,
            bf16=cpu_multiplies_bfloat16(), use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
            disable_tqdm=True,
        )  # fmt: skip

        def collated(some: list[list[int]]) -> dict[str, Tensor]:
            ids = padded(some, data.tokenizer.pad_id)
            return {"input_ids": ids, "labels": padded(some, IGNORE_INDEX)}

        trainer = transformers.Trainer(model.model, settings, train_dataset=features, data_collator=collated)
        start = time.perf_counter()
        trainer.train()
        return model, time.perf_counter() - start

    steps = plan.steps("gpt2", lambda: (fit(3 * TRIAL)[1] - fit(TRIAL)[1]) / (2 * TRIAL))  # without the start
    model, seconds = fit(steps)
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    return model, {"steps": steps, "seconds": seconds, "tokens": steps * BATCH * LENGTH, "parameters": parameters}


# ---------------------------------------------------------------------------------------------------------------- records


def records() -> dict[tuple[str, int], dict[str, Any]]:
    """The lines of the file by method and seed."""
    lines = RECORDS.read_text().splitlines() if RECORDS.exists() else []
    found = [json.loads(line) for line in lines]
    return {(one["method"], one["seed"]): one for one in found}


def record(method: str, seed: int, result: Result, costs: dict[str, Any]) -> None:
    """Add a line, and write the items beside it."""
    assert result.items is not None
    np.save(f"items-{method}-{seed}.npy", result.items)
    line = {"method": method, "seed": seed, **result.metrics}
    line |= {name: costs.get(name) for name in ("steps", "seconds", "tokens", "flops", "parameters")}
    with RECORDS.open("a") as file:
        file.write(json.dumps(line | {"details": result.details["minimal_pairs"]}) + "\n")
    print(f"{method}, seed {seed}: {result.primary:.4f}, {costs.get('seconds', 0):.0f} s", flush=True)


def table(names: Sequence[str], seeds: int) -> None:
    """Print each method beside the best GPT-2."""
    found = records()
    samples = [
        Sample(
            np.array([found[name, seed]["accuracy"] for seed in range(seeds)]),
            tuple(np.load(f"items-{name}-{seed}.npy") for seed in range(seeds)),
            "ratio",
            name != "ngram_lm",
        )
        for name in names
    ]
    stock = [number for number, name in enumerate(names) if name.startswith("gpt2-")]
    best = max(stock, key=lambda number: samples[number].scores.mean(), default=None)
    differences = Differences(samples)
    print(
        f"{'method':>18} {'by':>18} {'accuracy':>9} {'per token':>9} {'pseudo':>7} {'seconds':>8} {'steps':>7}  over GPT-2"
    )
    for number, name in enumerate(names):
        own = [found[name, seed] for seed in range(seeds)]
        values = {
            key: np.mean([one[key] for one in own]) if own[0].get(key) is not None else float("nan")
            for key in ("accuracy", "accuracy_per_token", "pseudo_accuracy", "seconds", "steps")
        }
        line = f"{name:>18} {next(iter(own[0]['details'])):>18} {values['accuracy']:>9.4f} "
        line += f"{values['accuracy_per_token']:>9.4f} {values['pseudo_accuracy']:>7.4f} {values['seconds']:>8.0f} "
        line += f"{values['steps']:>7.0f}"
        if best is not None and number != best:
            error = differences.uncertainty(number, best)
            reach = float("nan") if error is None else error.reach(0.95)
            line += f"  {differences.difference(number, best):+.4f} ± {reach:.4f}"
        print(line)


if __name__ == "__main__":
    main()
