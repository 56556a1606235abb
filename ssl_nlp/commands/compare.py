"""`compare`: runs, or configurations with several seeds, in one table that shows which differences are more than chance."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssl_nlp import durable, terminal
from ssl_nlp.commands.budget import parse_budget
from ssl_nlp.commands.evaluate import record, record_suite
from ssl_nlp.commands.fine_tune import fine_tune
from ssl_nlp.commands.models import find_target
from ssl_nlp.commands.parser import CommandParser, check_writable
from ssl_nlp.commands.suite_options import Mode, add_suite_options, check_suite_options, wandb_settings
from ssl_nlp.commands.task_scores import is_task, scored
from ssl_nlp.commands.train_runs import train
from ssl_nlp.comparison import Comparison, compare_runs
from ssl_nlp.comparison.compared_runs import ComparedRun, find_runs, read_run
from ssl_nlp.comparison.report import write_report
from ssl_nlp.comparison.summary import summarise
from ssl_nlp.comparison.table import render_tables, write_csv
from ssl_nlp.comparison.tasks import compare_tasks
from ssl_nlp.comparison.tuning import RECORD, read_tuning
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import PROTOCOL, SUITES, Suite, get_suite
from ssl_nlp.evaluation.record import lost_items
from ssl_nlp.evaluation.suites import INSTALLED, MINIMAL_PAIRS
from ssl_nlp.runs.checkpoint import digest
from ssl_nlp.runs.run import RUNS
from ssl_nlp.tracking import log_comparison

SEEDS = 3  # of fine-tuning, where the user gives no number
WIDTH = 100  # columns, where the output is no terminal


def compare(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Compare runs by the evaluation protocol, after training them (with `--seeds`) and evaluating them where needed.

    Args:
        arguments: those after `compare`.
        imports: the values of `--import`, for the processes that train.

    Raises:
        UserError: the user made a mistake, or a training failed.
    """
    arguments = list(arguments)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    extra = arguments[len(own) + 1 :]
    parser = CommandParser(
        prog="ssl-nlp compare",
        description="Compare runs in one table and report, with intervals and tests over seeds and evaluation items. Runs "
        "that have no scores are evaluated first. Fine-tuned runs are compared by task, with one row for each pretraining.",
        epilog="ssl-nlp compare --seeds 3 CONFIG... trains each configuration three times first; arguments after -- go to "
        "every fit, as in: ssl-nlp compare --seeds 3 masked_lm simclr -- --config trainer/demo. "
        "ssl-nlp compare --task CONFIG --seeds 3 RUN... fine-tunes each run, and the same encoders untrained, on a task.",
    )
    parser.add_argument(
        "targets",
        nargs="+",
        type=str,
        metavar="RUN",
        help="a run, a folder of runs such as runs/ or, with --seeds, a configuration for fit",
    )
    add_suite_options(parser)
    parser.add_argument("--output", type=str, default="comparison", help="the folder of comparison.csv and report.html")
    parser.add_argument(
        "--seeds", type=int | None, default=None, help="train each configuration with this many seeds first"
    )
    parser.add_argument(
        "--budget",
        type=str | None,
        default=None,
        help="with --seeds: train each configuration until it has cost the same: tokens, flops or seconds (of processors), "
        "with an amount, as in flops=2e12, or without: that of the cheapest one",
    )
    described = "fine-tune each run on the task that this configuration describes, and compare that; 3 seeds by default"
    parser.add_argument("--task", type=str | None, default=None, help=described)
    described = "the search in runs/tuning that the settings come from: its curves are in the report"
    parser.add_argument("--tuning", type=str | None, default=None, help=described)
    options = parser.parse_args(own)
    check_suite_options(options.suite, options.config)
    chosen = options.config or options.suite
    if options.task is not None and chosen is not None:
        raise UserError(f"--task compares by the task alone, not by the suite {chosen}: leave one of the two out")
    if extra and options.seeds is None and options.task is None:
        raise UserError(
            "arguments after -- go to fit, but nothing is trained without --seeds or --task: leave them out"
        )
    budget = None if options.budget is None else parse_budget(options.budget)
    if budget is not None and (options.seeds is None or options.task is not None):
        raise UserError(f"--budget {options.budget} is for trainings of --seeds: give their number, without --task")
    output = Path(options.output)
    check_folder(output)
    suite = None if options.config is None else get_suite(config=options.config)
    name = suite.name if suite is not None else options.suite or "docs"
    tuning = None if options.tuning is None else read_tuning(RUNS.absolute() / "tuning" / options.tuning / RECORD)
    targets = options.targets
    if options.task is not None:
        seeds = SEEDS if options.seeds is None else options.seeds
        targets = fine_tune(options.task, targets, seeds, output.resolve().name, extra, imports)
    elif options.seeds is not None:
        if suite is None and name not in SUITES:
            suite = get_suite(name)  # raises its error before hours of training
        targets = train(targets, options.seeds, output.resolve().name, extra, imports, budget)
    runs = find_runs(targets)
    if chosen is None and _fine_tuned(runs):
        comparison = compare_tasks(scored(runs, imports))
    else:
        comparison = compare_runs(_evaluated(runs, name, suite, imports, options.wandb), name)
    if tuning is not None:
        comparison = replace(comparison, tuning=tuning, notes=[*comparison.notes, tuning.described])
    output.mkdir(parents=True, exist_ok=True)
    durable.remove_unfinished(output)
    write_csv(comparison, output / "comparison.csv")
    write_report(comparison, output / "report.html")
    _log(comparison, output, options.wandb)
    console = terminal.console(WIDTH)
    console.print(render_tables(comparison))
    for file in sorted(output.glob("*.*")):
        console.print(str(file), markup=False, highlight=False, soft_wrap=True)
    console.print("\n[bold]In short[/bold]")
    for line in summarise(comparison):
        console.print(line, markup=False, highlight=False)


def _fine_tuned(runs: Sequence[ComparedRun]) -> bool:
    """Whether all runs are tasks.

    Raises:
        UserError: some are and some are not.
    """
    tasks = [run.name for run in runs if is_task(run.config)]
    others = [run.name for run in runs if not is_task(run.config)]
    if tasks and others:
        raise UserError(
            f"{tasks[0]} was fine-tuned on a task, and {others[0]} was not: compare them separately, fine-tune all with "
            "--task, or compare all by their embeddings with --suite"
        )
    return bool(tasks)


def _log(comparison: Comparison, output: Path, mode: Mode | None) -> None:
    """Show the comparison on W&B if one of its runs is there."""
    folders = [run.folder for row in comparison.rows if not row.baseline for run in row.runs]
    tracked = next((folder for folder in folders if (folder / "wandb").is_dir()), None)
    if tracked is None:
        return
    settings = wandb_settings(tracked / "config.yaml", mode)
    columns = ["method", *(column.title for column in comparison.columns)]
    rows: list[list[Any]] = []
    for row in comparison.rows:
        scores = [row.scores.get(column.key) for column in comparison.columns]
        rows.append([row.label, *(None if score is None else score.mean for score in scores)])
    files = [output / "comparison.csv", output / "report.html"]
    log_comparison(settings, output.resolve().name, columns, rows, summarise(comparison), files, output)


def check_folder(output: Path) -> None:
    """Refuse an `--output` that cannot be the folder of a comparison.

    Raises:
        UserError: it is a file, holds something else, or cannot be written.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: name a folder")
    check_writable(f"--output {output}", output / "comparison.csv")
    found = [path for path in output.iterdir() if not path.name.endswith(durable.UNFINISHED)] if output.exists() else []
    if found and not (output / "comparison.csv").exists():
        raise UserError(f"--output {output} exists and does not hold a comparison: name another folder")


# -------------------------------------------------------------------------------------------------------------- evaluation


def _evaluated(
    runs: Sequence[ComparedRun], name: str, suite: Suite | None, imports: Sequence[str], wandb: Mode | None
) -> list[ComparedRun]:
    """The runs with results on the suite; evaluated first if their checkpoint, the protocol or the data have changed."""
    if suite is None and name in INSTALLED:  # which change with the installed packages
        suite = get_suite(name)
    if name == MINIMAL_PAIRS and suite is None and not any(name in run.record.get("suites", {}) for run in runs):
        suite = get_suite(name)  # results that exist may be on the user's own files
    missing = [run for run in runs if run.finished and not _is_evaluated(run, name, suite)]
    if missing and suite is None and name not in SUITES:
        raise UserError(f"{missing[0].name} has no results on the suite {name}: give its file with --config")
    if missing:
        inside = RUNS.absolute().resolve()
        targets = [find_target(run.name if run.folder.parent == inside else str(run.folder)) for run in missing]
        terminal.say(f"evaluating {', '.join(run.name for run in missing)}")
        if suite is None:
            record(name, None, targets, imports, wandb)
        else:
            record_suite(suite, targets, wandb, imports)
    return [read_run(run.folder) if run in missing else run for run in runs]


def _is_evaluated(run: ComparedRun, name: str, suite: Suite | None) -> bool:
    entry = run.record.get("suites", {}).get(name)
    if entry is None:
        return False
    if not isinstance(entry, dict) or not {"data", "checkpoint"} <= entry.keys():
        raise UserError(f"{run.evaluation} is broken: move it away and evaluate again")
    checkpoint = run.folder / entry["checkpoint"]["file"]
    if not checkpoint.is_file():  # a published model, or a checkpoint that was deleted to save space
        return True
    if suite is not None and entry["data"] != suite.fingerprint:
        return False
    again = suite is not None or name in SUITES  # the data are there to evaluate it once more
    if again and (entry.get("protocol") != PROTOCOL or lost_items(run.evaluation, name)):
        return False
    return digest(checkpoint) == entry["checkpoint"]["digest"]
