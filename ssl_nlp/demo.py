"""`make demo`: two objectives, one corpus, one encoder, and something to look at."""

import math
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from ssl_nlp.__main__ import main
from ssl_nlp.callbacks.metrics_csv import read_metrics
from ssl_nlp.corpora import InstalledDocs
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.unigram import unigram_loss
from ssl_nlp.methods import CausalLM, MaskedLM
from ssl_nlp.run import Run

CONFIGS = Path(__file__).parents[1] / "configs"
RUNS = {"masked_lm": Run("demo-masked_lm"), "causal_lm": Run("demo-causal_lm")}
QUESTIONS = [
    "Return the [MASK] of the array elements along the given axis.",
    "If [MASK] is not specified, the default value is used.",
    "Raises an [MASK] if the file does not exist.",
    "The number of [MASK] in the graph.",
    "This method returns a [MASK] of strings.",
]
PROMPTS = ["Return the", "This class", "Raised when"]


def train() -> None:
    """Train both methods, unless an earlier demo has."""
    for name, run in RUNS.items():
        if run.read_state().get("finished"):
            print(f"runs/{run.name} is there already")
            continue
        overlay = ["--config", str(CONFIGS / f"{name}.yaml"), "--config", str(CONFIGS / "trainer" / "demo.yaml")]
        main(["fit", *overlay, "--run", run.name])


def show() -> None:
    """Print losses beside the unigram baseline, fillings and continuations."""
    console = Console()
    config = yaml.safe_load(RUNS["masked_lm"].config.read_text())
    settings = TokenizerSettings(**config["data"]["init_args"]["tokenizer"])
    data = TextDataModule(InstalledDocs(), settings)
    statistics = data.statistics("valid")
    table = Table(title="validation split: bits per byte of text, lower is better")
    for column in ("method", "loss (nats/token)", "bits per byte", "unigram loss", "unigram bits per byte"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, kind, ends in (("masked_lm", MaskedLM, False), ("causal_lm", CausalLM, True)):
        rows = [row for row in read_metrics(RUNS[name].directory / "metrics.csv") if row.get("val/loss")]
        baseline = unigram_loss(data, ends)
        ratio = (statistics.tokens + statistics.documents * ends) / statistics.bytes / math.log(2)
        last = rows[-1]
        numbers = (float(last["val/loss"]), float(last["val/bits_per_byte"]), baseline, baseline * ratio)
        table.add_row(kind.__name__, *(f"{number:.3f}" for number in numbers))
    console.print(table)

    masked = MaskedLM.load_from_checkpoint(RUNS["masked_lm"].last_checkpoint)
    console.print("\n[bold]MaskedLM fills in:[/bold]")
    for question in QUESTIONS:
        best = "  ".join(f"{token.strip()} ({p:.0%})" for token, p in masked.fill_mask(question, top_k=4)[0])
        console.print(f"  {question}\n      {best}", markup=False, highlight=False)

    causal = CausalLM.load_from_checkpoint(RUNS["causal_lm"].last_checkpoint)
    console.print("\n[bold]CausalLM goes on:[/bold]")
    continuations = causal.generate(PROMPTS, max_new_tokens=40, temperature=0.7, top_p=0.9, seed=0)
    for prompt, continuation in zip(PROMPTS, continuations, strict=True):
        console.print(f"  {prompt} | {' '.join(continuation.split())}", markup=False, highlight=False)

    console.print("\nThe runs (configuration, metrics, checkpoints, W&B) lie in:")
    for run in RUNS.values():
        console.print(f"  {run.directory}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    train()
    show()
