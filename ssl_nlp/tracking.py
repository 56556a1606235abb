"""Weights & Biases: online when somebody is logged in, otherwise offline; never a prompt, never a failure."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import requests
import yaml
from lightning.pytorch.loggers import Logger, WandbLogger

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.record import SuiteResult
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.runs.run import Run
from ssl_nlp.terminal import say

FORBIDDEN = set("/\\#?%:")  # in the names of projects, by W&B
LONGEST_NAME = 128
LONGEST_TAG = 64
PATIENCE = 10.0  # seconds to wait for the server


@dataclass
class WandbSettings:
    """Where a run appears in Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online when logged in (or as WANDB_MODE says), otherwise offline, to be sent later with wandb sync."""
    project: str = "ssl_nlp"
    """The project."""
    entity: str | None = None
    """The team or user; default: that of the login."""
    group: str | None = None
    """Runs of one group are shown together, such as the seeds of a comparison."""
    tags: list[str] = field(default_factory=list)
    """Tags of the run."""

    def __post_init__(self) -> None:
        signs = " ".join(sorted(FORBIDDEN))
        for what, name in (("project", self.project), ("entity", self.entity)):
            if name is not None and (not name or FORBIDDEN & set(name)):
                raise UserError(f"wandb.{what} {name[:60]!r}: use a name without any of {signs}")
        longest = {"project": LONGEST_NAME, "entity": LONGEST_NAME, "group": LONGEST_NAME, "tags": LONGEST_TAG}
        for what, most in longest.items():
            given = self.tags if what == "tags" else [getattr(self, what) or ""]
            if too_long := [name for name in given if len(name) > most]:
                raise UserError(f"wandb.{what} {too_long[0][:20]!r}... is too long: use at most {most} characters")


def wandb_mode(settings: WandbSettings) -> str:
    """The effective mode: WANDB_MODE in the environment can keep a run offline, whatever its configuration says."""
    limit = os.environ.get("WANDB_MODE") or "auto"
    if "disabled" in (limit, settings.mode):
        return "disabled"
    return limit if settings.mode == "auto" or limit in ("dryrun", "offline") else settings.mode


def wandb_logger(settings: WandbSettings, run: Run, run_id: str, config: dict[str, Any]) -> list[Logger]:
    """The W&B logger of a new or resumed run, with its whole configuration; none if W&B is disabled.

    Call it on rank zero only. A resumed run continues the same W&B run.
    """
    experiment = _open_run(settings, run, run_id, config)
    if experiment is None:
        return []
    experiment.define_metric("trainer/global_step")
    experiment.define_metric("*", step_metric="trainer/global_step")
    for name in ("val/loss", "val/bits_per_byte"):  # to compare runs at equal tokens, which every validation logs
        experiment.define_metric(name, step_metric="train/tokens")
    return [WandbLogger(experiment=experiment, project=settings.project, save_dir=str(run.directory))]


def log_evaluation(settings: WandbSettings, run: Run, suite: str, result: SuiteResult) -> None:
    """Add an evaluation to a run that is on W&B already: `eval/SUITE/EVALUATOR/METRIC` and `eval/SUITE/table`.

    These are numbers on test items. Those on validation items, by which settings are chosen, are called
    `eval_valid/SUITE/EVALUATOR/METRIC`.

    All go to the summary, not to the history, whose steps are those of training. The run is continued by its id. Offline
    this makes another folder, which `wandb sync` sends after the first one. It is complete, with the configuration and the
    last value of every metric, so nothing is lost whichever folder the server receives last.
    """
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    experiment = _open_run(settings, run, run.wandb_id(), config)
    if experiment is None:
        return
    import wandb

    found = result.evaluators.items()
    numbers = {f"eval/{suite}/{name}/{metric}": value for name, one in found for metric, value in one.metrics.items()}
    numbers |= {
        f"eval_valid/{suite}/{name}/{one.primary_metric}": one.validation
        for name, one in found
        if one.validation is not None
    }
    rows = [
        [name, evaluator, metric, value]
        for name, results in {run.name: result.evaluators, **result.baselines}.items()
        for evaluator, one in results.items()
        for metric, value in one.metrics.items()
    ]
    if experiment.offline:
        experiment.summary.update(_last(run))
    experiment.summary.update(numbers)
    columns = ["embedder", "evaluator", "metric", "value"]
    experiment.summary[f"eval/{suite}/table"] = wandb.Table(columns=columns, data=rows)
    experiment.finish()


def log_kept(settings: WandbSettings, run: Run, suite: str, result: SuiteResult, cost: Mapping[str, float]) -> None:
    """Add the evaluation of a kept checkpoint to the history of a run: `curve/SUITE/EVALUATOR/METRIC` over `curve/step`.

    Args:
        settings: where.
        run: that kept it.
        suite: its name.
        result: the numbers, of which the main ones are logged.
        cost: `step`, and what the training had cost until then: `tokens`, `tokens_read`, `flops` and `seconds` (those of
            processors).
    """
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    experiment = _open_run(settings, run, run.wandb_id(), config)
    if experiment is None:
        return
    experiment.define_metric("curve/step")
    experiment.define_metric("curve/*", step_metric="curve/step")
    names = {name: name for name in ("step", "tokens", "tokens_read", "flops")} | {"seconds": "processor_seconds"}
    spent = {f"curve/{shown}": cost[name] for name, shown in names.items() if name in cost}
    scores = {f"curve/{suite}/{name}/{one.primary_metric}": one.primary for name, one in result.evaluators.items()}
    experiment.log(spent | scores)
    if experiment.offline:
        experiment.summary.update(_last(run))
    experiment.finish()


def log_comparison(
    settings: WandbSettings,
    name: str,
    columns: list[str],
    rows: list[list[Any]],
    summary: Sequence[str],
    files: Sequence[Path],
    folder: Path,
) -> None:
    """A W&B run of job type `comparison` in the group of the compared runs, with their table and the report as an artifact.

    Args:
        settings: those of the runs.
        name: of the comparison, which is the group.
        columns: of the table.
        rows: of the table.
        summary: the comparison in sentences, which becomes the summary value `in_short`.
        files: what the artifact (type `report`) holds.
        folder: where an offline run is kept.
    """
    settings = replace(settings, group=name[:LONGEST_NAME])
    experiment = _open(settings, folder, {"name": f"{name}-comparison"}, {"comparison": name}, "comparison")
    if experiment is None:
        return
    import wandb

    experiment.log({"comparison": wandb.Table(columns=columns, data=rows)})
    experiment.summary["in_short"] = "\n".join(summary)
    artifact = wandb.Artifact(
        re.sub(r"[^a-zA-Z0-9_.-]+", "-", name)[:128] or "comparison", type="report"
    )  # what W&B allows
    for file in files:
        artifact.add_file(str(file))
    experiment.log_artifact(artifact)
    experiment.finish()


def _open_run(settings: WandbSettings, run: Run, run_id: str, config: dict[str, Any]) -> Any:
    """The W&B run of one of our runs, with method and seed among the keys of its configuration, to filter and group by."""
    method = config.get("model", {}).get("class_path", "").rsplit(".", 1)[-1]
    shown = config | {"method": method, "seed": config.get("seed_everything")}
    return _open(settings, run.directory, {"name": run.name, "id": run_id}, shown, "train")


def _last(run: Run) -> dict[str, float]:
    """The last value of every metric."""
    rows = read_numbers(run.directory / "metrics.csv")
    return {name: number for row in rows for name, number in row.items() if name != "step"}


def _open(
    settings: WandbSettings, folder: Path, identity: dict[str, str], config: dict[str, Any], job_type: str
) -> Any:
    """A new W&B run, or an existing one with the same id; None if W&B is disabled."""
    mode = wandb_mode(settings)
    if mode in ("disabled", "dryrun"):
        return None
    import wandb  # takes a second, so only if it is used

    _use_writable_folders(folder)
    if mode == "auto":
        mode = _mode_of_login()
    if mode == "online" and (reason := _unreachable(wandb.setup().settings.base_url)):
        say(f"W&B cannot be reached, the run is kept offline ({reason})", sys.stderr)
        mode = "offline"
    arguments: dict[str, Any] = {
        **identity,
        "project": settings.project,
        "entity": settings.entity,
        "group": settings.group,
        "tags": settings.tags,
        "job_type": job_type,
        "dir": str(folder),
        "config": config,
    }
    quiet = {"silent": True, "console": "off", "init_timeout": 30.0}
    if mode == "online":
        try:
            return wandb.init(mode=mode, settings=wandb.Settings(**quiet), **arguments, resume="allow")
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            say(f"W&B refused the run, which is kept offline: {_first_line(error)}", sys.stderr)
            wandb.teardown()  # because its service still holds the id of the run
            mode = "offline"
    try:
        return wandb.init(mode=mode, settings=wandb.Settings(**quiet), **arguments)
    except wandb.errors.UsageError as error:
        raise UserError(f"wandb: {_first_line(error)}: change it, or set --wandb.mode disabled") from error


def _mode_of_login() -> str:
    """`online` if somebody is logged in, else `offline`; warns of an invalid key."""
    import wandb

    try:
        return "online" if wandb.login(prompt=False, verify=False) else "offline"
    except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
        say(f"W&B: the run is kept offline: {_first_line(error)}", sys.stderr)
        return "offline"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _use_writable_folders(folder: Path) -> None:
    """Make W&B write to the folder of the run if it cannot write to the home directory."""
    from wandb import env

    homes = {env.DATA_DIR: env.get_data_dir(), env.CACHE_DIR: env.get_cache_dir(), env.CONFIG_DIR: "~/.config/wandb"}
    for name, path in homes.items():
        home = Path(os.environ.get(name) or os.path.expanduser(str(path)))
        there = next(parent for parent in (home, *home.parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            os.environ[name] = str(folder / "wandb" / name.lower())


def _unreachable(url: str) -> str | None:
    """The reason why `url` cannot be reached, or None. W&B itself would retry for a minute."""
    try:
        requests.head(url, timeout=PATIENCE)
    except requests.RequestException as error:
        return f"{url}: {type(error).__name__}"
    return None
