"""Several trainings, one after the other, for `compare`."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from ssl_nlp import terminal
from ssl_nlp.commands.budget import Budget, steps_within
from ssl_nlp.commands.imports import as_options
from ssl_nlp.commands.shipped import find_config
from ssl_nlp.comparison.configuration import not_equal
from ssl_nlp.errors import UserError
from ssl_nlp.interrupts import Interrupted
from ssl_nlp.methods import NGramLM
from ssl_nlp.runs.checkpoint import subclasses
from ssl_nlp.runs.run import RUNS, Run

COUNTING = {kind.__name__ for kind in subclasses([NGramLM])}  # methods that later epochs teach nothing
INTERVAL = 0.5  # seconds between two looks at a process that may be stopped early


def train(
    configs: Sequence[str],
    seeds: int,
    name: str,
    extra: Sequence[str],
    imports: Sequence[str] = (),
    budget: Budget | None = None,
) -> list[str]:
    """Train each configuration with each seed, and return the folders of the runs.

    Args:
        configs: YAML files, or names of shipped ones.
        seeds: the number of seeds, from 0.
        name: the name of the comparison: its W&B group, and the start of the runs' names.
        extra: further arguments of every `fit`.
        imports: the values of `--import`.
        budget: what each training may cost; None: the steps that its configuration says.

    Raises:
        UserError: as `plan`, `steps_within` and `train_planned`.
    """
    configs = [find_config(config) for config in configs]
    stems = [Path(config).stem for config in configs]
    if twice := [stem for stem in stems if stems.count(stem) > 1]:
        raise UserError(
            f"two configurations are called {twice[0]}, and would give their runs the same names: rename one"
        )
    group = f"--wandb.group={name}"
    fits = {stem: ["--config", config, group, *extra] for stem, config in zip(stems, configs, strict=True)}
    plans = plan(fits, seeds, imports)
    for line in not_equal(plans):
        terminal.say(f"Not equal: {line}")
    if budget is not None:
        for stem, steps in steps_within(budget, fits, plans, name, imports).items():
            fits[stem].append(f"--trainer.max_steps={steps}")
            if plans[stem]["trainer"]["max_epochs"] in (None, -1):
                continue
            if str(plans[stem]["model"]["class_path"]).rpartition(".")[2] in COUNTING:
                terminal.say(f"{stem}: counts each text once, so it ends after its last epoch at the latest")
            else:
                fits[stem].append("--trainer.max_epochs=-1")
        plans = plan(fits, seeds, imports)
    return train_planned(fits, plans, seeds, name, imports)


def plan(fits: Mapping[str, Sequence[str]], seeds: int, imports: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Work out the complete configuration of each training.

    Args:
        fits: the arguments of each `fit`, by what the runs are called after the name of the comparison.
        seeds, imports: as for `train`.

    Raises:
        UserError: a configuration is wrong, or the number of seeds is.
    """
    from ssl_nlp.commands.fit import plan_fit

    if seeds < 1:
        raise UserError(f"--seeds must be 1 or more, not {seeds}")
    return {stem: yaml.safe_load(plan_fit(fit, imports, tried=True)) for stem, fit in fits.items()}


def train_planned(
    fits: Mapping[str, Sequence[str]],
    plans: Mapping[str, dict[str, Any]],
    seeds: int,
    name: str,
    imports: Sequence[str],
) -> list[str]:
    """Train everything with each seed, and return the folders of the runs.

    Finished runs are left as they are, and unfinished ones resume. Every run is a process of its own, so that one failure
    does not stop the others. All are checked before the first one starts. Where a run is refused before its first step, so
    would be those with other seeds, and they are left out.

    Args:
        fits: as for `plan`.
        plans: what it has returned.
        seeds, name, imports: as for `train`.

    Raises:
        UserError: a configuration differs from that of its run, or a training failed.
    """
    missing: list[tuple[Run, str, list[str]]] = []
    # All with the first seed come first, so that they can be compared early.
    runs = {f"{name}-{stem}-seed{seed}": (stem, seed) for seed in range(seeds) for stem in fits}
    for run_name, (stem, seed) in runs.items():
        run = Run(run_name)
        run.check(yaml.safe_dump(plans[stem] | {"seed_everything": seed, "run": run.name}))
        if not run.finished:
            missing.append((run, stem, [*fits[stem], f"--seed_everything={seed}", f"--run={run.name}"]))
    failed = []
    refused = set()
    for number, (run, stem, fit) in enumerate(missing, start=1):
        if stem in refused:
            continue
        terminal.say(f"[{number}/{len(missing)}] {run.name}")
        if status := run_fit([*as_options(imports), *fit]):
            failed.append(f"{run.name} (exit status {status})")
            if status == UserError.status and not run.begun:
                refused.add(stem)
    if failed:
        raise UserError(
            f"training failed: {', '.join(failed)}: fix what is reported above, and run the same command again"
        )
    return [str(RUNS.absolute() / run) for run in runs]


def run_fit(arguments: Sequence[str], output: IO[bytes] | None = None, enough: Callable[[], bool] | None = None) -> int:
    """Run `fit` in a process of its own, and return its exit status.

    The process has its own session, so that signals reach it once: through this process, and not from the terminal too.

    Args:
        arguments: those after `fit`.
        output: a file for what it prints, errors included; None: the output of this process.
        enough: asked every now and then, until it says that the process is to stop early, which is then no error.

    Raises:
        Interrupted: this process or the other one was asked to stop.
    """
    command = [sys.executable, "-m", "ssl_nlp", "fit", *arguments]
    errors = None if output is None else subprocess.STDOUT
    stop: Interrupted | None = None
    stopped = False
    with subprocess.Popen(command, start_new_session=True, stdout=output, stderr=errors) as process:
        while process.returncode is None:
            try:
                process.wait(None if enough is None or stopped else INTERVAL)
            except subprocess.TimeoutExpired:
                if enough is not None and enough():
                    process.send_signal(signal.SIGTERM)
                    stopped = True
            except Interrupted as asked:
                process.send_signal(asked.signal)
                stop = asked
    if stop is not None:
        raise stop
    status = process.returncode
    if stopped:
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):
        if status in (128 + number, -number):
            raise Interrupted(number, "the same command resumes from there")
    return status
