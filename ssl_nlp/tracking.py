"""Weights & Biases: online when somebody is logged in, otherwise offline; never a prompt, never a failure."""

import os
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import requests
from lightning.pytorch.loggers import Logger, WandbLogger

from ssl_nlp.run import Run

PATIENCE = 10.0  # seconds to wait for an answer of the server


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


def wandb_logger(settings: WandbSettings, run: Run, config: dict[str, Any]) -> list[Logger]:
    """The W&B logger of a run that has begun, with its whole configuration; none where W&B is disabled.

    Call it on rank zero only. A resumed run goes on in the same W&B run.
    """
    experiment = _open(settings, run, config)
    if experiment is None:
        return []
    experiment.define_metric("trainer/global_step")
    experiment.define_metric("*", step_metric="trainer/global_step")
    return [WandbLogger(experiment=experiment, project=settings.project, save_dir=str(run.directory))]


def log_summary(settings: WandbSettings, run: Run, numbers: dict[str, float]) -> None:
    """Put numbers into the summary of a run that is on W&B already; an offline run gets another part to be sent."""
    experiment = _open(settings, run, {})
    if experiment is not None:
        experiment.summary.update(numbers)
        experiment.finish()


def _open(settings: WandbSettings, run: Run, config: dict[str, Any]) -> Any:
    """The W&B run of a run of ours, begun or taken up again; None where W&B is disabled."""
    mode = (os.environ.get("WANDB_MODE") or "auto") if settings.mode == "auto" else settings.mode
    if mode in ("disabled", "dryrun"):
        return None
    import wandb  # a second, which only those pay who use it

    if mode == "auto":
        mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
    if mode == "online" and (reason := _unreachable(wandb.setup().settings.base_url)):
        print(f"W&B cannot be reached, the run is kept offline ({reason})", file=sys.stderr)
        mode = "offline"
    arguments: dict[str, Any] = {
        "name": run.name,
        "id": run.read_state()["wandb_id"],
        "project": settings.project,
        "entity": settings.entity,
        "group": settings.group,
        "tags": settings.tags,
        "dir": str(run.directory),
        "config": config,
    }
    quiet = {"silent": True, "console": "off", "init_timeout": 30.0}
    try:
        resume = {"resume": "allow"} if mode == "online" else {}
        return wandb.init(mode=mode, settings=wandb.Settings(**quiet), **arguments, **resume)
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        print(f"W&B cannot be reached, the run is kept offline ({str(error).splitlines()[0]})", file=sys.stderr)
        wandb.teardown()  # its service still holds the id of the run
        return wandb.init(mode="offline", settings=wandb.Settings(**quiet), **arguments)


def _unreachable(url: str) -> str | None:
    """Why nothing answers at `url`; None if something does. W&B itself would try again and again for a minute."""
    try:
        requests.head(url, timeout=PATIENCE)
    except requests.RequestException as error:
        return f"{url}: {type(error).__name__}"
    return None
