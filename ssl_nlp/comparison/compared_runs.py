"""Run directories, read as plain data."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.record import read_record
from ssl_nlp.runs.ancestry import Ancestor, is_ancestry, spoken
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.runs.run import RUNS


@dataclass(frozen=True)
class ComparedRun:
    """A run, or a published model that was evaluated.

    Attributes:
        folder: its directory.
        name: the name of the directory.
        method: the name of its class, such as `MaskedLM`.
        seed: of its training; None for a published model.
        config: its complete configuration; empty for a published model.
        metrics: the rows of `metrics.csv`, each with `step` and the metrics logged at that step.
        samples: the lines of `samples.jsonl`.
        record: the content of `evaluation.json`; empty if the run was not evaluated.
        finished: whether its training has ended.
        ancestry: the runs and published models that its encoder comes from, the oldest first.
        extended: the steps at which it was made longer than it was planned.
        text: the digests of the splits that it was trained on; empty where they are not known.
    """

    folder: Path
    name: str
    method: str
    seed: int | None
    config: dict[str, Any]
    metrics: list[dict[str, float]]
    samples: list[dict[str, Any]]
    record: dict[str, Any]
    finished: bool
    ancestry: Sequence[Ancestor] = ()
    extended: Sequence[int] = ()
    text: Mapping[str, str] = field(default_factory=dict)

    @property
    def start(self) -> str:
        """Where its encoder comes from, in words; `new weights` if from nowhere."""
        return ", then ".join(map(spoken, self.ancestry)) or "new weights"

    @property
    def evaluation(self) -> Path:
        """Path of its `evaluation.json`."""
        return self.folder / "evaluation.json"


def read_run(folder: Path) -> ComparedRun:
    """Read a run directory.

    Raises:
        UserError: the folder is not a run, or a file in it is broken.
    """
    if not _is_run(folder):
        raise UserError(f"{folder} is not a run: name a folder written by ssl-nlp fit or evaluate")
    config, state = _load(folder / "config.yaml"), _load(folder / "run.json")
    record = read_record(folder / "evaluation.json")
    try:
        method = str(record.get("method") or config["model"]["class_path"].rsplit(".", 1)[-1])
        metrics = read_numbers(folder / "metrics.csv")
        text = {str(split): str(found) for split, found in (state.get("text") or record.get("text") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder} is broken ({error!r}): move it away and train it again") from error
    seed = config.get("seed_everything")
    samples = list(_lines(folder / "samples.jsonl"))
    ancestry = state.get("ancestry", record.get("ancestry", []))
    if not is_ancestry(ancestry):
        raise UserError(f"{folder} has a broken ancestry: move it away and train it again")
    finished, extended = state.get("finished", not config), [int(step) for step in state.get("extended", [])]
    return ComparedRun(
        folder, folder.name, method, seed, config, metrics, samples, record, finished, ancestry, extended, text
    )


def find_runs(paths: Iterable[str | Path]) -> list[ComparedRun]:
    """Read the runs at some paths, each once.

    Args:
        paths: names of runs, run directories, or folders of runs.

    Raises:
        UserError: there is no run at one of the paths.
    """
    folders: dict[Path, None] = {}
    for path in map(Path, paths):
        found = [path, RUNS / path] if len(path.parts) == 1 else [path]
        if own := [folder for folder in found if _is_run(folder)][:1]:
            folders[_place(own[0])] = None
        elif below := sorted(folder for folder in path.glob("*/") if _is_run(folder)):
            folders |= {_place(folder): None for folder in below}
        else:
            raise UserError(f"there is no run {path}, here or in {RUNS.absolute()}: train it with ssl-nlp fit")
    return [read_run(folder) for folder in folders]


def _place(folder: Path) -> Path:
    """Canonical path of a folder; a run that is a link keeps the name of the link."""
    return folder.resolve() if folder.name in ("", "..") else folder.parent.resolve() / folder.name


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or (folder / "evaluation.json").is_file()


def _load(path: Path) -> dict[str, Any]:
    """Content of a YAML or JSON file; empty if it does not exist."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: move the run away and train it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a configuration: move the run away and train it again")
    return content


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    """Objects in a JSONL file, without a line that a killed process left unfinished."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            yield content
