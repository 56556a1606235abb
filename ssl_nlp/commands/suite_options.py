"""Options that `evaluate` and `compare` share: for the suite and for W&B."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import yaml

from ssl_nlp import terminal
from ssl_nlp.commands.models import Target
from ssl_nlp.commands.parser import CommandParser
from ssl_nlp.commands.shipped import CONFIGS
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.record import SuiteResult
from ssl_nlp.evaluation.suites import FILES, MINIMAL_PAIRS, SUITES
from ssl_nlp.runs.run import Run
from ssl_nlp.tracking import WandbSettings, log_evaluation, log_kept, wandb_mode

Mode = Literal["auto", "online", "offline", "disabled"]


def add_suite_options(parser: CommandParser) -> None:
    """Add `--suite`, `--config` and `--wandb`."""
    suites = f"the suite: {', '.join(SUITES)}, {MINIMAL_PAIRS} or files. Default: docs"
    parser.add_argument("--suite", type=str | None, default=None, help=suites)
    described = "a YAML file that describes a suite of your own files"
    parser.add_argument("--config", type=str | None, default=None, help=described)
    modes = "how scores reach W&B: auto, online, offline or disabled. Default: as config.yaml of the run says"
    parser.add_argument("--wandb", type=Mode | None, default=None, help=modes)


def check_suite_options(suite: str | None, config: str | None) -> None:
    """Refuse two suites, and a suite of files without their description.

    Raises:
        UserError: the options contradict each other.
    """
    if suite not in (None, FILES, MINIMAL_PAIRS) and config is not None:
        raise UserError(f"--suite {suite} and --config {config} are two suites: name one")
    if suite == FILES and config is None:
        example = CONFIGS / "suites" / "files.yaml"
        raise UserError(f"--suite files needs --config FILE, which describes them: see {example}")


def wandb_settings(config: Path, mode: Mode | None) -> WandbSettings:
    """The W&B settings in the configuration of a run, with another mode if one is given.

    The run may come from anybody, who must not decide where numbers go: an entity that is neither that of the login nor
    named by the environment is dropped, and the numbers stay on this machine.

    Raises:
        UserError: the configuration is broken.
    """
    try:
        configured = yaml.safe_load(config.read_text(encoding="utf-8")).get("wandb") or {}
        settings = WandbSettings(**configured | ({} if mode is None else {"mode": mode}))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{config} is broken: copy the run again, or move it away") from error
    if settings.entity in (None, os.environ.get("WANDB_ENTITY")):
        return settings
    if wandb_mode(settings) not in ("offline", "disabled"):
        name = config.parent.name
        terminal.say(
            f"{name} names the W&B entity {settings.entity}: nothing is sent there unless WANDB_ENTITY names it, too; its "
            "numbers are kept offline",
            sys.stderr,
        )
        settings = replace(settings, mode="offline")
    return replace(settings, entity=None)


def log_result(target: Target, run: Run, mode: Mode | None, suite: str, result: SuiteResult) -> None:
    """Put the numbers of a run, or of a checkpoint that it has kept, into its W&B run, if it has one."""
    if not (run.directory / "wandb").is_dir():
        return
    settings = wandb_settings(run.config, mode)
    if target.kept:
        log_kept(settings, run, suite, result, {"step": float(target.step or 0), **target.header["cost"]})
    else:
        log_evaluation(settings, run, suite, result)
