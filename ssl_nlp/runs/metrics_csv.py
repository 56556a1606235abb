"""All metrics of a run in one CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from ssl_nlp import durable


class MetricsCSV(Logger):
    """Writes `metrics.csv`: a column for the steps of the optimizer, then one for each metric, empty if it was not logged.

    Logged values are in the file at once, even if the process is killed, and on the disk with the next checkpoint. A
    resumed run drops the rows after its checkpoint and goes on, so its file equals that of an uninterrupted run.

    Args:
        directory: where `metrics.csv` is.
        resume_step: rows after this step are dropped; None starts a new file.
    """

    trainer: Trainer | None = None  # counts the steps; the count that Lightning passes depends on the hook

    def __init__(self, directory: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = directory / "metrics.csv"
        self._resume_step = resume_step
        self._columns: list[str] = []
        self._row: dict[str, Any] = {}
        self._row_offset: int | None = None  # offset of the current step's row in the file

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration is in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = step if self.trainer is None else self.trainer.global_step
        if self._row_offset is None:
            self._start(str(step))
        if str(self._row.get("step")) != str(step):
            self._row, self._row_offset = {"step": step}, self.path.stat().st_size
        self._row |= {name: float(value) for name, value in metrics.items() if name != "epoch"}
        if new := [name for name in self._row if name not in self._columns]:
            rows = [row for row in read_metrics(self.path) if row["step"] != str(step)]
            self._columns += new
            self._rewrite(rows)
            return
        with durable.telling(self.path), self.path.open("r+b") as file:
            file.seek(self._row_offset or 0)
            file.write(self._line(self._row).encode())
            file.truncate()

    @rank_zero_only
    def sync(self) -> None:
        """Write all rows to the disk."""
        durable.sync_file(self.path)

    def _start(self, step: str) -> None:
        """Drop the rows that a resumed run logged after its checkpoint, and find the row of this step, if there is one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [] if self._resume_step is None else read_metrics(self.path)
        self._columns = list(rows[0]) if rows else ["step"]
        rows = [row for row in rows if int(row["step"]) <= (self._resume_step or 0)]
        self._row = next((row for row in rows if row["step"] == step), {})
        self._rewrite([row for row in rows if row["step"] != step])

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        """Write the whole file: these rows, and that of the current step."""
        before = "".join([self._line({name: name for name in self._columns}), *map(self._line, rows)])
        durable.write_text(self.path, before + (self._line(self._row) if self._row else ""))
        self._row_offset = len(before.encode())

    def _line(self, row: dict[str, Any]) -> str:
        line = io.StringIO()
        csv.DictWriter(line, self._columns).writerow(row)
        return line.getvalue()


def read_numbers(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.csv` as numbers; a metric that was not logged at a step is not in its row.

    Raises:
        ValueError: a cell is not a number.
    """
    return [{name: float(cell) for name, cell in row.items() if cell} for row in read_metrics(path)]


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The cells of a `metrics.csv`, without a row that a killed process left unfinished."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and (row.get("step") or "").isdigit()]
