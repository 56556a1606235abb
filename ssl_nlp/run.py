"""The directory of a run: what it holds, and whether the same command begins, resumes or is refused."""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ssl_nlp.errors import UserError

RUNS = Path("runs")


@dataclass(frozen=True)
class Run:
    """`runs/NAME/`: config.yaml, metrics.csv, samples.jsonl, checkpoints/, wandb/ and, of its own, run.json.

    run.json holds the W&B id and whether the run is finished.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name or self.name in (".", "..") or "/" in self.name or os.sep in self.name:
            raise UserError(f"--run {self.name!r} is not a name: use letters, digits, - and _")

    @property
    def directory(self) -> Path:
        return RUNS.absolute() / self.name

    @property
    def config(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.ckpt"

    def best_checkpoint(self) -> Path:
        """The checkpoint with the lowest validation loss, else the last one.

        Raises:
            UserError: the run has none.
        """
        best = self.checkpoints / "best.ckpt"
        for path in (best, self.last_checkpoint):
            if path.exists():
                return path
        raise UserError(f"{self.directory} has no checkpoint: train it first with ssl-nlp fit --run {self.name}")

    def resume_from(self, config: str) -> Path | None:
        """The checkpoint with which `fit` goes on; None begins anew.

        Args:
            config: the complete configuration of the command, as YAML.

        Raises:
            UserError: the run is finished, or was begun with another configuration.
        """
        self.check(config)
        if self.finished:
            raise UserError(
                f"runs/{self.name} is finished: choose another --run, or delete the folder to train it again"
            )
        return self.last_checkpoint if self.last_checkpoint.exists() else None

    @property
    def finished(self) -> bool:
        """Whether its training has reached its end."""
        return bool(self.read_state().get("finished"))

    def check(self, config: str) -> None:
        """Make sure that the directory is free, or holds a run of this configuration.

        Args:
            config: complete, as YAML.

        Raises:
            UserError: it is neither.
        """
        if not self.config.exists():
            if self.directory.exists() and any(self.directory.iterdir()):
                raise UserError(f"{self.directory} exists but is no run: choose another --run")
            return
        changes = differences(yaml.safe_load(self.config.read_text()), yaml.safe_load(config))
        if changes:
            shown = "; ".join(changes[:5]) + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
            raise UserError(f"runs/{self.name} was begun with another configuration ({shown}): choose another --run")

    def begin(self, config: str) -> FileLock:
        """Create the directory and write the configuration; the lock is held for as long as the run trains.

        Raises:
            UserError: another process trains this run.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(RUNS.absolute() / f".{self.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"runs/{self.name} is being trained by another process: wait, or choose another --run"
            ) from error
        if not self.config.exists():
            self.config.write_text(config, encoding="utf-8")
            # An agent of W&B says which id it expects.
            self.write_state({"wandb_id": os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4), "finished": False})
        return lock

    def finish(self) -> None:
        """Mark the run as finished."""
        self.write_state(self.read_state() | {"finished": True})

    def read_state(self) -> dict[str, Any]:
        """What run.json says; nothing before the run has begun.

        Raises:
            UserError: it is broken.
        """
        path = self.directory / "run.json"
        try:
            return dict(json.loads(path.read_text())) if path.exists() else {}
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is broken: move the run away, or choose another --run") from error

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace run.json."""
        temporary = self.directory / ".run.json"
        temporary.write_text(json.dumps(state, indent=2) + "\n")
        temporary.replace(self.directory / "run.json")


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """What changed between two configurations, as `key: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]
    return [] if old == new else [f"{name}: {old} -> {new}"]
