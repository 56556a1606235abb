"""The directory of a run: its files, and whether a command starts it, resumes it or is refused."""

import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ssl_nlp import durable
from ssl_nlp.errors import UserError
from ssl_nlp.names import check_name
from ssl_nlp.runs.checkpoint import is_complete
from ssl_nlp.runs.class_paths import with_public_paths

RUNS = Path("runs")
LENGTHS = ("trainer.max_steps: ", "trainer.max_epochs: ")  # the settings that --extend may change


@dataclass(frozen=True)
class Run:
    """`runs/NAME/` with config.yaml, metrics.csv, samples.jsonl, checkpoints/, wandb/ and run.json.

    run.json holds the W&B id, the fingerprint of the tokenizer, the digests of the text, the ancestry, whether the run is
    finished, and at which steps it was extended.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name or self.name in (".", "..") or "/" in self.name or os.sep in self.name:
            raise UserError(f"--run {self.name!r} is not a valid name: use letters, digits, - and _")
        if "\0" in self.name or len(os.fsencode(self.name)) > 240:  # no run can have this name
            check_name(self.name, "--run")

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

    @property
    def kept_checkpoints(self) -> list[Path]:
        """The checkpoints of `--keep_every`, in the order of their steps."""
        found = {int(path.stem.removeprefix("step-")): path for path in self.checkpoints.glob("step-*[0-9].ckpt")}
        return [found[step] for step in sorted(found)]

    def best_checkpoint(self) -> Path:
        """The checkpoint of the best validation by the metric of the model, or else the last one.

        Of a run that trained on one part after the other it is the last one, at the end of the stream: an earlier one would
        hide what was forgotten.

        Raises:
            UserError: the run has none.
        """
        paths = [self.checkpoints / "best.ckpt", self.last_checkpoint]
        if (self.directory / "continual.json").exists():
            paths.reverse()
        for path in paths:
            if path.exists():
                return path
        raise UserError(f"{self.directory} has no checkpoint: train it first with ssl-nlp fit --run {self.name}")

    def resume_from(self, config: str, extend: bool = False, complete: Callable[[str], str] = str) -> Path | None:
        """The checkpoint that `fit` resumes from: the last one, or the one before if that is damaged; None for a new run.

        Args:
            config: the complete configuration of the command, as YAML.
            extend: whether it may make the training longer.
            complete: as for `check`.

        Raises:
            UserError: the run is finished, was started with another configuration, or its checkpoints are missing.
        """
        self.check(config, extend, complete)
        if self.finished and self.longer(config) is None:
            if extend:
                raise UserError(
                    f"runs/{self.name} is finished, and this configuration does not train it longer: give a larger "
                    "--trainer.max_steps (or --trainer.max_epochs) behind every --config"
                )
            raise UserError(
                f"runs/{self.name} is finished: choose another --run, or delete the folder to train it again; to train it "
                "longer, give --extend and a larger trainer.max_steps (or trainer.max_epochs)"
            )
        there = [path for path in (self.last_checkpoint, self.checkpoints / "previous.ckpt") if path.exists()]
        for path in there:
            if is_complete(path):
                return path
        if there or (self.checkpoints / "best.ckpt").exists():
            raise UserError(
                f"runs/{self.name} cannot resume because its last.ckpt is {'damaged' if there else 'missing'}: put it "
                "back, or choose another --run"
            )
        return None

    @property
    def finished(self) -> bool:
        """Whether training has ended."""
        return bool(self.read_state().get("finished"))

    def check(self, config: str, extend: bool = False, complete: Callable[[str], str] = str) -> None:
        """Check that the directory is free, or holds a run with this configuration.

        Args:
            config: complete, as YAML.
            extend: whether the training may be longer than that of the run.
            complete: adds the settings that are new since the run began, with their defaults, to its configuration.

        Raises:
            UserError: it is neither.
        """
        self.check_links()
        if not self.begun:
            check_name(self.name, "--run")  # only now: a run that was started under another name goes on
            if self.directory.exists() and not all(self._is_remains(path) for path in self.directory.iterdir()):
                raise UserError(f"{self.directory} exists but is not a run: choose another --run")
            if extend:
                raise UserError(
                    f"there is no run {self.name} to train longer: leave --extend out, or name another --run"
                )
            return
        if not self.config.exists():
            raise UserError(f"{self.config} is missing: put it back, or choose another --run")
        begun = self.config.read_text(encoding="utf-8")
        if changes := _changes(begun, config):
            changes = _changes(complete(begun), config)
        others = [change for change in changes if not change.startswith(LENGTHS)]
        remedy = "choose another --run"
        if not others and self.longer(config) is not None:
            if extend:
                return
            remedy += ", or give --extend to train this one longer"
        elif extend and others:
            changes, remedy = others, "leave them out, because --extend changes the length of the training alone"
        elif extend and changes:
            remedy = "--extend needs a longer training, not a shorter one"
        if changes:
            shown = "; ".join(changes[:5]) + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
            raise UserError(f"runs/{self.name} was started with another configuration ({shown}): {remedy}")

    def _configurations(self, config: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The configuration of the run, and another one, with today's paths of classes."""
        old, new = (
            with_public_paths(yaml.safe_load(text)) for text in (self.config.read_text(encoding="utf-8"), config)
        )
        return old, new

    def longer(self, config: str) -> tuple[str, str] | None:
        """How long the run trains and how long it would with a configuration, such as `300 steps`; None if no longer."""
        if not self.begun:
            return None
        old, new = (
            [_limit(c["trainer"], name) for name in ("max_steps", "max_epochs")] for c in self._configurations(config)
        )
        if old == new or any(after < before for before, after in zip(old, new, strict=True)):
            return None
        return _spoken_length(old), _spoken_length(new)

    def check_links(self, reads: str | None = None) -> None:
        """Check that files written into the run stay there: whoever sent it may have put links into it.

        Args:
            reads: the name of a folder that is only read.

        Raises:
            UserError: a link leads outside; it is named. A link to the whole run is allowed: the user made it.
        """
        home = os.path.realpath(self.directory)
        for folder in (self.directory, self.checkpoints):
            for path in sorted(folder.iterdir()) if folder.is_dir() and folder.name != reads else ():
                target = os.path.realpath(path)
                if path.is_symlink() and path.name != reads and not Path(target).is_relative_to(home):
                    raise UserError(
                        f"{path} is a link to {target}, outside of the run, where nothing is written for it: to keep files "
                        f"elsewhere, move all of {self.directory}, and make that a link"
                    )

    @property
    def begun(self) -> bool:
        """Whether the run exists: `run.json` is the last file written when a run starts."""
        return (self.directory / "run.json").exists()

    def lock(self) -> FileLock:
        """Create the directory, and lock it while the run trains.

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
        durable.remove_unfinished(self.directory)
        durable.remove_unfinished(self.checkpoints)
        return lock

    def wandb_id(self) -> str:
        """The W&B id of the run; before it starts, a new one, or the one that an agent of W&B expects.

        Raises:
            UserError: run.json does not hold a valid id.
        """
        known = self.read_state().get("wandb_id")
        if known and not (isinstance(known, str) and re.fullmatch(r"[\w.-]{1,128}", known, re.ASCII)):
            raise UserError(f"{self.directory / 'run.json'} is broken: {str(known)[:40]!r} is not an id of W&B")
        return known or os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)

    def begin(self, config: str, **state: Any) -> None:
        """Start the run: from now on it exists, with this configuration.

        Args:
            config: complete, as YAML.
            state: kept in run.json: `wandb_id`, under which W&B knows the run; `tokenizer`, its fingerprint; `text`, the
                digests by split; and `ancestry`, the runs and published models that its encoder comes from, if any.
        """
        durable.write_text(self.config, config)
        self.write_state({"finished": False} | state)

    def extend(self, config: str, step: int) -> None:
        """Make the run a longer one: from now on it is unfinished, and has this configuration.

        Args:
            config: complete, as YAML.
            step: the steps that it has done, which run.json keeps: its schedule is not that of a run planned so long.
        """
        state = self.read_state()
        before = [at for at in state.get("extended", []) if at < step]
        self.write_state(state | {"finished": False, "extended": [*before, step]})
        durable.write_text(self.config, config)

    def check_tokenizer(self, tokenizer: str, checkpoint: str) -> None:
        """Check that a checkpoint has the tokenizer that the run was started with.

        Args:
            tokenizer: the fingerprint of the checkpoint's.
            checkpoint: its path.

        Raises:
            UserError: it has another one.
        """
        if self.read_state().get("tokenizer", tokenizer) != tokenizer:
            raise UserError(
                f"{checkpoint} has another tokenizer than runs/{self.name} was begun with: it is not a checkpoint of "
                "this run"
            )

    def abandon(self) -> None:
        """Remove the remains of a run that never started."""
        if not self.begun and all(map(self._is_remains, self.directory.glob("*"))):
            shutil.rmtree(self.directory, ignore_errors=True)

    def _is_remains(self, path: Path) -> bool:
        """Whether the file may come from a process that was killed before the run started."""
        return path.name in ("config.yaml", "wandb") or path.name.endswith(durable.UNFINISHED)

    def finish(self) -> None:
        """Mark the run as finished."""
        self.write_state(self.read_state() | {"finished": True})

    def read_state(self) -> dict[str, Any]:
        """The content of run.json; empty before the run has started.

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
        durable.write_text(self.directory / "run.json", json.dumps(state, indent=2) + "\n")


def kept(folder: Path, step: int) -> Path:
    """The checkpoint of a step that is kept in a folder of checkpoints."""
    return folder / f"step-{step}.ckpt"


def checkpoint_of(name: str) -> tuple[Path, Run | None]:
    """The checkpoint that a person means by the name of a run or the path of a .ckpt file, and the run, if it is one.

    Of a run that is the last checkpoint, not the one with the best loss: runs are compared after the same number of steps.

    Raises:
        UserError: there is no such run, or it has no checkpoint.
    """
    path = Path(name)
    if path.suffix == ".ckpt":
        return path, None
    if len(path.parts) > 1 and path.absolute().parent.resolve() != RUNS.resolve():
        raise UserError(f"{name} is neither a .ckpt file nor in {RUNS.absolute()}: name a run there, or a checkpoint")
    run = Run(path.name)
    if not run.directory.is_dir():
        raise UserError(f"there is no run {run.name} in {RUNS.absolute()}: train it with ssl-nlp fit --run {run.name}")
    return run.last_checkpoint if run.last_checkpoint.exists() else run.best_checkpoint(), run


def _limit(trainer: Mapping[str, Any], name: str) -> float:
    """The value of a limit on the training; infinite if it is not set."""
    value = trainer.get(name)
    return math.inf if value in (None, -1) else value


def _spoken_length(limits: Sequence[float]) -> str:
    named = [f"{int(n):,} {unit}" for n, unit in zip(limits, ("steps", "epochs"), strict=True) if n < math.inf]
    return " or ".join(named) or "no limit"


def _changes(before: str, now: str) -> list[str]:
    """The changes between two configurations, as YAML. The name of a run is that of its folder."""
    old, new = (with_public_paths(yaml.safe_load(text)) | {"run": None} for text in (before, now))
    return differences(old, new)


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """The changes between two configurations, as `key: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]
    return [] if old == new else [f"{name}: {old} -> {new}"]
