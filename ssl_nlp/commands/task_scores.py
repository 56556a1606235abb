"""The test scores of fine-tuned runs, kept in their `evaluation.json` for `compare`."""

import contextlib
import io
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import sklearn
import yaml

from ssl_nlp import terminal
from ssl_nlp.cache import build_once, cache_dir, fingerprint, intact
from ssl_nlp.commands.arguments import model_of
from ssl_nlp.commands.learned_baselines import pretraining_texts
from ssl_nlp.commands.lightning_cli import run_cli
from ssl_nlp.commands.overlaps import ReadText
from ssl_nlp.commands.task_results import grouped_by_text
from ssl_nlp.commands.trainer_settings import lightning_errors
from ssl_nlp.commands.validate import RunCli, with_run
from ssl_nlp.comparison.compared_runs import ComparedRun, read_run
from ssl_nlp.comparison.tasks import SUITE, TASKS
from ssl_nlp.corpora import Corpus, Document, HubDataset, InstalledDocs, TextFiles
from ssl_nlp.corpora.base import Split
from ssl_nlp.data import TextDataModule
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import PROTOCOL, Result
from ssl_nlp.evaluation.baselines import VERSION
from ssl_nlp.evaluation.cost import cost
from ssl_nlp.evaluation.record import SuiteResult, lost_items, read_suite, write_suite
from ssl_nlp.names import as_name, snake_case
from ssl_nlp.objectives.scores import Unable
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.runs.run import RUNS, Run
from ssl_nlp.tasks import Task
from ssl_nlp.tasks.baselines import VERSION as BASELINE_VERSION
from ssl_nlp.tasks.baselines import Baseline, baseline
from ssl_nlp.tasks.documents import share_in_rows

# Settings of the data and of a task that its baseline does not depend on.
ASIDE = ("encoder", "optimization", "compile", "tokenizer", "batch_size", "workers")


class Scoring(RunCli):
    """Tests a run's best checkpoint, without printing anything; on the validation split where there is no other."""

    split: Split

    def _run_subcommand(self, subcommand: str) -> None:
        has_test = getattr(self.datamodule.corpus, "has", lambda split: True)("test")
        self.split = "test" if has_test else "valid"
        arguments = self._prepare_subcommand_kwargs(subcommand) | {"verbose": False}
        (self.trainer.test if has_test else self.trainer.validate)(**arguments)


def is_task(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is that of a task; False if its class is not known."""
    path = model_of(dict(config)) or ""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and issubclass(found, Task)


def scored(runs: Sequence[ComparedRun], imports: Sequence[str]) -> list[ComparedRun]:
    """The finished runs with their scores, which are computed first where they are missing or of another checkpoint.

    Raises:
        UserError: a run cannot be scored.
    """
    missing = [run for run in runs if run.finished and not _is_scored(run)]
    if missing:
        terminal.say(f"testing {', '.join(run.name for run in missing)}")
    for run in missing:
        if run.folder.parent.resolve() != RUNS.absolute().resolve():
            raise UserError(
                f"{run.folder} is not in {RUNS.absolute()}, where runs are tested: call compare beside runs/"
            )
        _score(Run(run.folder.name), imports)
    return [read_run(run.folder) if run in missing else run for run in runs]


def _is_scored(run: ComparedRun) -> bool:
    entry = run.record.get("suites", {}).get(SUITE)
    if entry is None:
        return False
    try:
        checkpoint, known = run.folder / entry["checkpoint"]["file"], entry["checkpoint"]["digest"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{run.evaluation} is broken: move it away and compare again") from error
    if not checkpoint.is_file():  # deleted to save space
        return True
    if (run.folder / "continual.json").exists() and checkpoint.name != "last.ckpt":
        return False  # an earlier version scored the best checkpoint of the stream
    if entry.get("protocol") != PROTOCOL or lost_items(run.evaluation, SUITE):
        return False
    return checkpoints.digest(checkpoint) == known


def _score(run: Run, imports: Sequence[str]) -> None:
    with lightning_errors(), contextlib.redirect_stdout(io.StringIO()):
        arguments = ["--run", run.name, "--trainer.enable_progress_bar=false"]
        cli = run_cli(Scoring, "test", arguments, imports, partial(with_run, "test"))
    task, data = cli.model, cli.datamodule
    assert isinstance(cli, Scoring) and isinstance(task, Task) and isinstance(data, TextDataModule)
    name = f"{data_name(data.corpus)}.{type(task).short_name}"
    found, missing = task.last_result, {}
    if found is None or found.primary_metric not in found.metrics:
        raise UserError(f"{run.name}: {type(task).__name__} gives no metric on its {cli.split} split: see its `result`")
    if not math.isfinite(found.primary):
        missing[name] = f"its {found.primary_metric} is {found.primary}"
    monitored, higher = task.monitor
    about = {TASKS: {"split": cli.split, "higher": higher if monitored == found.primary_metric else True}}
    found.details.update(about)
    documents = list(data.corpus.documents(cli.split))
    found = grouped_by_text(replace(found, read=share_in_rows(documents, data)), documents)
    overlapping = _overlapping(run, documents, imports)
    other = _baseline(run, task, data, cli.split)
    baselines: dict[str, dict[str, Result]] = {}
    if other.result is None:
        missing[f"{name}/baseline"] = other.reason
    else:
        other.result.details.update(about)
        baselines[other.name] = {name: overlapping(grouped_by_text(other.result, documents))}
    best = run.best_checkpoint()
    ancestry = [*task.encoder.ancestry]
    header = {
        "method": type(task).__name__,
        "loss_unit": task.loss_unit,
        "checkpoint": {"file": str(best.relative_to(run.directory)), "digest": checkpoints.digest(best)},
        "text": run.read_state().get("text", {}),
        "cost": cost(*task.parameter_counts(), read_numbers(run.directory / "metrics.csv"), ancestry),
        "ancestry": ancestry,
        "encoder": {"key": encoder_key(task.encoder), "causal": task.encoder.causal},
    }
    results = {} if name in missing else {name: overlapping(found)}
    data_key = fingerprint([repr(document) for document in documents])
    result = SuiteResult(data_key, results, baselines, missing=missing, digests={name: data_key})
    write_suite(run.directory / "evaluation.json", header, SUITE, result)


def _overlapping(run: Run, documents: Sequence[Document], imports: Sequence[str]) -> Callable[[Result], Result]:
    """A function that adds to a result the overlap of its items with the text that a run and its ancestors have read.

    Args:
        run: the fine-tuned run.
        documents: those that it is tested on.
        imports: the values of `--import`.
    """
    try:
        read = ReadText.of(pretraining_texts(run, imports))
    except Unable:
        return lambda result: result
    shares = read.shares([tuple(filter(None, (document.text, document.pair))) for document in documents])

    def added(result: Result) -> Result:
        if result.items is None or len(result.items) == len(shares):
            return read.added(result, shares)
        of_row = result.groups  # where items are tags, the text of each
        rows = None if of_row is None or of_row.shape[1] != 1 or of_row.max() + 1 != len(shares) else of_row[:, 0]
        return result if rows is None else read.added(result, shares[rows])

    return added


def encoder_key(encoder: Encoder) -> str:
    """A key of an encoder without its weights, and without what is frozen or added for the task."""
    aside = ("freeze", "adapter")
    described = {name: value for name, value in encoder.hparams().items() if name not in aside}
    return fingerprint(type(encoder).__name__, repr(described), encoder.tokens, encoder.causal)


def data_name(corpus: Corpus) -> str:
    """The name of the data of a task: that of the file or its folder, or of the data set on the hub."""
    if isinstance(corpus, TextFiles):
        given = corpus.patterns["train"]
        path = Path(given if isinstance(given, str) else given[0]).absolute()
        stem = path.name.split(".")[0]
        name = path.parent.name if "*" in stem or stem.startswith("train") else stem
    elif isinstance(corpus, HubDataset):
        name = Path(corpus.path).name + (f"-{corpus.name}" if corpus.name else "")
    else:
        name = "docs" if isinstance(corpus, InstalledDocs) else snake_case(type(corpus).__name__)
    return as_name(name.replace(".", "-"))


def _baseline(run: Run, task: Task, data: TextDataModule, split: Split) -> Baseline:
    """The baseline of a task, computed once for its data and settings."""
    settings = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    of_data = {name: value for name, value in settings["data"]["init_args"].items() if name not in ASIDE}
    of_task = {name: value for name, value in settings["model"]["init_args"].items() if name not in ASIDE}
    key = fingerprint(
        "task baseline", BASELINE_VERSION, VERSION, sklearn.__version__, split, data.corpus.fingerprint(), of_data,
        type(task).__name__, of_task, data.tokenizer.fingerprint(),
    )  # fmt: skip
    directory = cache_dir() / "baselines" / key
    computed = None
    if not intact(directory):
        computed = baseline(task, data, split)
        if computed.result is None:
            return computed

    def build(path: Path) -> None:
        assert computed is not None and computed.result is not None
        result = SuiteResult("", {computed.name: computed.result})
        write_suite(path / "evaluation.json", {"checkpoint": None}, SUITE, result)

    kept = read_suite(build_once(directory, build) / "evaluation.json", SUITE)
    [(name, result)] = kept.evaluators.items()
    return Baseline(name, result)
