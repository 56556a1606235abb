"""`compare`: runs, or configurations with several seeds, in one table that shows which differences are more than chance."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ssl_nlp import durable, terminal
from ssl_nlp.commands.evaluate import record_suite
from ssl_nlp.commands.imports import as_options
from ssl_nlp.commands.models import find_target
from ssl_nlp.commands.parser import CommandParser, check_writable
from ssl_nlp.commands.shipped import find_config
from ssl_nlp.commands.suite_options import Mode, add_suite_options, check_suite_options, wandb_settings
from ssl_nlp.comparison import Comparison, compare_runs
from ssl_nlp.comparison.compared_runs import ComparedRun, find_runs, read_run
from ssl_nlp.comparison.configuration import not_equal
from ssl_nlp.comparison.report import write_report
from ssl_nlp.comparison.summary import summarise
from ssl_nlp.comparison.table import render_tables, write_csv
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import PROTOCOL, SUITES, Suite, get_suite
from ssl_nlp.evaluation.record import lost_items
from ssl_nlp.evaluation.suites import INSTALLED
from ssl_nlp.interrupts import Interrupted
from ssl_nlp.runs.checkpoint import digest
from ssl_nlp.runs.run import RUNS, Run
from ssl_nlp.tracking import log_comparison

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
        "that have no scores are evaluated first.",
        epilog="ssl-nlp compare --seeds 3 CONFIG... trains each configuration three times first; arguments after -- go to "
        "every fit, as in: ssl-nlp compare --seeds 3 masked_lm simclr -- --config trainer/demo",
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
    options = parser.parse_args(own)
    check_suite_options(options.suite, options.config)
    if extra and options.seeds is None:
        raise UserError("arguments after -- go to fit, but nothing is trained without --seeds: leave them out")
    output = Path(options.output)
    _check_output(output)
    suite = None if options.config is None else get_suite(config=options.config)
    name = suite.name if suite is not None else options.suite or "docs"
    if options.seeds is not None:
        if suite is None and name not in SUITES:
            get_suite(name)  # raises its error before hours of training
        targets = train(options.targets, options.seeds, output.resolve().name, extra, imports)
    else:
        targets = options.targets
    runs = _evaluated(find_runs(targets), name, suite, options.wandb)
    comparison = compare_runs(runs, name)
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


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: name a folder")
    check_writable(f"--output {output}", output / "comparison.csv")
    found = [path for path in output.iterdir() if not path.name.endswith(durable.UNFINISHED)] if output.exists() else []
    if found and not (output / "comparison.csv").exists():
        raise UserError(f"--output {output} exists and does not hold a comparison: name another folder")


# ---------------------------------------------------------------------------------------------------------------- training


def train(
    configs: Sequence[str], seeds: int, name: str, extra: Sequence[str], imports: Sequence[str] = ()
) -> list[str]:
    """Train each configuration with each seed, and return the folders of the runs.

    Finished runs are left as they are, and unfinished ones resume. Every run is a process of its own, so that one failure
    does not stop the others. All are checked before the first one starts.

    Args:
        configs: YAML files, or names of shipped ones.
        seeds: the number of seeds, from 0.
        name: the name of the comparison: its W&B group, and the start of the runs' names.
        extra: further arguments of every `fit`.
        imports: the values of `--import`.

    Raises:
        UserError: a configuration is wrong or differs from that of its run, or a training failed.
    """
    from ssl_nlp.commands.fit import plan_fit

    configs = [find_config(config) for config in configs]
    if seeds < 1:
        raise UserError(f"--seeds must be 1 or more, not {seeds}")
    stems = [Path(config).stem for config in configs]
    if twice := [stem for stem in stems if stems.count(stem) > 1]:
        raise UserError(
            f"two configurations are called {twice[0]}, and would give their runs the same names: rename one"
        )
    missing: list[tuple[str, list[str]]] = []
    runs = [f"{name}-{stem}-seed{seed}" for seed in range(seeds) for stem in stems]
    plans: dict[str, dict[str, Any]] = {}
    for config, stem in zip(configs, stems, strict=True):
        plans[stem] = yaml.safe_load(plan_fit(["--config", config, f"--wandb.group={name}", *extra], imports))
    for line in not_equal(plans):
        terminal.say(f"Not equal: {line}")
    for seed in range(seeds):  # all methods with the first seed come first, so that they can be compared early
        for config, stem in zip(configs, stems, strict=True):
            run = Run(f"{name}-{stem}-seed{seed}")
            run.check(yaml.safe_dump(plans[stem] | {"seed_everything": seed, "run": run.name}))
            if not run.finished:
                arguments = ["--config", config, f"--wandb.group={name}", *extra]
                missing.append((run.name, [*arguments, f"--seed_everything={seed}", f"--run={run.name}"]))
    failed = []
    for number, (run_name, fit) in enumerate(missing, start=1):
        terminal.say(f"[{number}/{len(missing)}] {run_name}")
        if status := _run_fit([*as_options(imports), *fit]):
            failed.append(f"{run_name} (exit status {status})")
    if failed:
        raise UserError(
            f"training failed: {', '.join(failed)}: fix what is reported above, and run the same command again"
        )
    return [str(RUNS.absolute() / run) for run in runs]


def _run_fit(arguments: Sequence[str]) -> int:
    """Run `fit` in a process of its own, and return its exit status.

    The process has its own session, so that signals reach it once: through this process, and not from the terminal too.

    Raises:
        Interrupted: this process or the other one was asked to stop.
    """
    command = [sys.executable, "-m", "ssl_nlp", "fit", *arguments]
    stop: Interrupted | None = None
    with subprocess.Popen(command, start_new_session=True) as process:
        while process.returncode is None:
            try:
                process.wait()
            except Interrupted as asked:
                process.send_signal(asked.signal)
                stop = asked
    if stop is not None:
        raise stop
    status = process.returncode
    for number in (signal.SIGINT, signal.SIGTERM):
        if status in (128 + number, -number):
            raise Interrupted(number, "the same command resumes from there")
    return status


# -------------------------------------------------------------------------------------------------------------- evaluation


def _evaluated(runs: Sequence[ComparedRun], name: str, suite: Suite | None, wandb: Mode | None) -> list[ComparedRun]:
    """The runs with results on the suite; evaluated first if their checkpoint, the protocol or the data have changed."""
    if suite is None and name in INSTALLED:  # which change with the installed packages
        suite = get_suite(name)
    missing = [run for run in runs if run.finished and not _is_evaluated(run, name, suite)]
    if missing and suite is None and name not in SUITES:
        raise UserError(f"{missing[0].name} has no results on the suite {name}: give its file with --config")
    if missing:
        inside = RUNS.absolute().resolve()
        targets = [find_target(run.name if run.folder.parent == inside else str(run.folder)) for run in missing]
        terminal.say(f"evaluating {', '.join(run.name for run in missing)}")
        record_suite(suite or get_suite(name), targets, wandb)
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
