"""Commands that are killed and repeated until they end, and what they leave behind."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_nlp.runs.metrics_csv import read_metrics
from tests.end_to_end.cli import OF_THE_MACHINE, ROOT

ATTEMPTS = 3  # after a kill: a run that needs more does not go on


@dataclass(frozen=True)
class Ended:
    """The end of a command.

    Attributes:
        status: exit status; negative for the signal that ended it.
        stdout, stderr: what it printed.
        seconds: how long it took.
    """

    status: int
    stdout: str
    stderr: str
    seconds: float


class Server:
    """A process whose forked children run commands; see `tests.end_to_end.kill.server`."""

    def __init__(self, cache: Path) -> None:
        self.environment = {"SSL_NLP_CACHE": str(cache), "WANDB_RUN_ID": "same"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.kill.server"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, arguments: Sequence[str], cwd: Path, environment: dict[str, str] | None = None, **kill: Any) -> Ended:
        """Run a command, and kill it at a moment if one is given: `kill` (an event), `occurrence`, `seconds`."""
        request = {"arguments": list(arguments), "cwd": str(cwd), "environment": self.environment | (environment or {})}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request | kill) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def events(self, arguments: Sequence[str], cwd: Path, environment: dict[str, str] | None = None) -> list[str]:
        """All moments of a command, in order."""
        ended = self.run(arguments, cwd, environment, trace=True)
        assert ended.status == 0, ended.stderr
        trace = cwd / ".trace"
        found = trace.read_text().splitlines()
        trace.unlink()
        return found

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def left_behind(run: Path) -> dict[str, Any]:
    """Everything that a run leaves that does not depend on the machine and the hour, file by file."""
    left: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_dir() or name.startswith("wandb/"):
            continue
        if path.suffix == ".ckpt":
            left[name] = torch.load(path, weights_only=True)
            for seconds in ("seconds", "window_processor"):
                del left[name]["callbacks"]["Throughput"][seconds]
        elif path.name == "metrics.csv":
            rows = read_metrics(path)
            left[name] = [{key: cell for key, cell in row.items() if key not in OF_THE_MACHINE} for row in rows]
        else:
            left[name] = path.read_bytes()
    return left


def difference(one: Any, other: Any, name: str = "") -> list[str]:
    """Differences between two of these."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [name]
    if isinstance(one, dict) and isinstance(other, dict):
        keys = list(dict.fromkeys([*one, *other]))
        return [d for key in keys for d in difference(one.get(key), other.get(key), f"{name}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [d for i, pair in enumerate(zip(one, other, strict=True)) for d in difference(*pair, f"{name}[{i}]")]
    return [] if type(one) is type(other) and one == other else [name]
