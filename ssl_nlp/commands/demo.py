"""`demo`: train five objectives on the same sentences, tokens and encoder, show each at work, and compare them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.table import Table

from ssl_nlp import terminal
from ssl_nlp.commands.compare import compare
from ssl_nlp.commands.fit import fit
from ssl_nlp.commands.shipped import find_config
from ssl_nlp.corpora import Corpus
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.unigram import unigram_loss
from ssl_nlp.methods import VAE, Autoencoder, CausalLM, MaskedLM, Method, SimCLR
from ssl_nlp.runs.checkpoint import instantiate
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.runs.run import Run
from ssl_nlp.training.callbacks.collapse_monitor import validation_sentences

METHODS: dict[str, type[Method]] = {
    "masked_lm": MaskedLM,
    "causal_lm": CausalLM,
    "simclr": SimCLR,
    "autoencoder": Autoencoder,
    "vae": VAE,
}
GROUP = "demo"  # of the runs in W&B
COMPARISON = Path("demo-comparison")
WIDTH = 100  # columns, where the output is no terminal
QUESTIONS = [
    "Return the [MASK] of the array elements along the given axis.",
    "If [MASK] is not specified, the default value is used.",
    "Raises an [MASK] if the file does not exist.",
    "The number of [MASK] in the graph.",
    "This method returns a [MASK] of strings.",
]
PROMPTS = ["Return the", "This class", "Raised when"]
QUERIES = [
    "Return the number of elements in the list.",
    "Raises an error if the file does not exist.",
    "Compute the gradient of the loss.",
]


HELP = """usage: ssl-nlp demo [FIT_ARGUMENTS]
Train five methods on the same sentences, show what each has learned, and compare them, in about ten minutes.

FIT_ARGUMENTS go to each fit, as in: ssl-nlp demo --config data/files. ssl-nlp fit --help lists them.
The runs go to runs/demo-METHOD, the report to demo-comparison/report.html. Given again, it continues."""


def demo(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Train all methods, show what each has learned, and compare them.

    Args:
        arguments: further arguments of each `fit`.
        imports: the values of `--import`.
    """
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return
    train(arguments, imports)
    show()
    compare_methods()


def run_of(name: str) -> Run:
    """Run of a method."""
    return Run(f"demo-{name}")


def train(arguments: Sequence[str] = (), imports: Sequence[str] = ()) -> None:
    """Train the methods that no earlier demo has trained; `arguments` are added to each `fit`."""
    for number, name in enumerate(METHODS, start=1):
        run = run_of(name)
        if run.finished:
            print(f"runs/{run.name} is there already")
            continue
        print(f"\n[{number}/{len(METHODS)}] {METHODS[name].__name__}", flush=True)
        overlay = ["--config", find_config(name), "--config", find_config("trainer/demo")]
        fit([*overlay, "--wandb.group", GROUP, *arguments, "--run", run.name], imports)


def show() -> None:
    """Print the losses beside the unigram baseline, and show each method at work."""
    console = terminal.console(WIDTH)
    models = {name: kind.load_from_checkpoint(run_of(name).last_checkpoint) for name, kind in METHODS.items()}
    console.print(losses())
    for title, lines in (
        ("MaskedLM fills in:", fillings(models["masked_lm"])),
        ("CausalLM continues:", continuations(models["causal_lm"])),
        ("SimCLR finds the nearest of 2,000 validation sentences:", neighbours(models["simclr"])),
        ("Autoencoder reconstructs a sentence from one vector:", copies(models["autoencoder"])),
        ("VAE samples sentences from its prior:", draws(models["vae"])),
    ):
        console.print(f"\n[bold]{title}[/bold]")
        for line in lines:
            console.print(f"  {line}", markup=False, highlight=False)


def compare_methods(arguments: Sequence[str] = ()) -> None:
    """Evaluate all methods and baselines on the same tasks, and end with the summary; `arguments` go to the command."""
    print("\nThe runs (configuration, metrics, checkpoints, W&B) are in:")
    for name in METHODS:
        print(f"  {run_of(name).directory}")
    print("\nAll embeddings and the baselines, on the same evaluation tasks:", flush=True)
    compare([*(run_of(name).name for name in METHODS), "--output", str(COMPARISON), *arguments])


def data_settings() -> dict[str, Any]:
    """Data settings of all runs."""
    settings: dict[str, Any] = yaml.safe_load(run_of("masked_lm").config.read_text())["data"]["init_args"]
    return settings


def corpus() -> Corpus:
    """Corpus of all runs: the installed documentation, unless `train` was given another."""
    described = {"init_args": {}} | data_settings()["corpus"]
    return instantiate(described, Corpus, where=str(run_of("masked_lm").config))  # type: ignore[type-abstract]  # a subclass


def losses() -> Table:
    """Table of the first and the last validation of each method, beside the unigram baseline."""
    settings = data_settings()
    data = TextDataModule(corpus(), TokenizerSettings(**settings["tokenizer"]), settings["unit"], settings["length"])
    statistics = data.statistics("valid")
    table = Table(
        title="Validation. Only bits per byte can be compared, also with unigrams (lower is better);\n"
        "rank: effective rank of the embeddings"
    )
    columns = ["method", "loss", "first", "last", "bits per byte", "unigram", "rank"]
    for column in columns:
        table.add_column(column, justify="left" if column in ("method", "loss") else "right")
    ends = {"masked_lm": False, "causal_lm": True, "autoencoder": True, "vae": True}
    for name, kind in METHODS.items():
        rows = [row for row in read_numbers(run_of(name).directory / "metrics.csv") if "val/loss" in row]
        first, last, unit = rows[0]["val/loss"], rows[-1]["val/loss"], kind.loss_unit.replace(" per ", "/")
        bits, unigram = rows[-1].get("val/bits_per_byte"), ""
        if bits:
            targets = statistics.tokens + statistics.documents * ends[name]
            unigram = f"{unigram_loss(data, ends[name]) * targets / statistics.bytes / torch.tensor(2.0).log():.2f}"
        table.add_row(
            kind.__name__, unit, f"{first:.3f}", f"{last:.3f}", f"{bits:.2f}" if bits else "",
            unigram, f"{rows[-1]['val/effective_rank']:.0f}",
        )  # fmt: skip
    return table


def fillings(method: MaskedLM) -> list[str]:
    """Each text and its likeliest fillings."""
    lines = []
    for question in QUESTIONS:
        best = "  ".join(f"{token.strip()} ({p:.0%})" for token, p in method.fill_mask(question, top_k=4)[0])
        lines += [question, f"    {best}"]
    return lines


def continuations(method: CausalLM) -> list[str]:
    """Each prompt and its continuation."""
    texts = method.generate(PROMPTS, max_new_tokens=40, temperature=0.7, top_p=0.9, seed=0)
    return [f"{prompt} | {' '.join(text.split())}" for prompt, text in zip(PROMPTS, texts, strict=True)]


def neighbours(method: Method) -> list[str]:
    """Each query, the sentence whose embedding is nearest, and their cosine."""
    candidates = [text for text in validation_sentences(corpus(), 2000) if text not in QUERIES]
    both = torch.nn.functional.normalize(method.embed(QUERIES + candidates), dim=1)
    cosines, best = (both[: len(QUERIES)] @ both[len(QUERIES) :].T).max(dim=1)
    lines = []
    for query, cosine, index in zip(QUERIES, cosines.tolist(), best.tolist(), strict=True):
        lines += [query, f"    {cosine:.2f}  {candidates[index]}"]
    return lines


def copies(method: Autoencoder) -> list[str]:
    """Each query and its reconstruction."""
    return [
        line for pair in zip(QUERIES, method.reconstruct(QUERIES), strict=True) for line in (pair[0], f"    {pair[1]}")
    ]


def draws(method: VAE) -> list[str]:
    """Three sentences."""
    return method.draw(3, seed=0)
