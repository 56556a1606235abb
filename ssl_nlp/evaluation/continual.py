"""Numbers about a training on parts that come one after the other: what it has learned, forgotten and transferred.

All follow from the matrix R, whose entry R[i, j] is the score on part j after training on part i, and from the scores b
before any training.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_nlp.errors import UserError

Matrix = npt.NDArray[np.float64]


def average(matrix: Matrix) -> float:
    """The mean score on the parts that were trained on so far: (1 / k) sum_j R[k, j] for the last row k.

    Chaudhry et al., arXiv:1801.10112, section 3, "average accuracy"; of a joint training, whose matrix has one row, the
    mean over all parts.

    Args:
        matrix: (k, T), or (1, T) for a joint training.
    """
    seen = len(matrix) if len(matrix) > 1 else matrix.shape[1]
    return float(matrix[-1, :seen].mean())


def forgetting(matrix: Matrix) -> float | None:
    """The mean loss against the best score that each earlier part ever had; negative if later parts helped.

    F = (1 / (k - 1)) sum_{j < k} max_{i < k} R[i, j] - R[k, j]. Chaudhry et al., equations 3 and 4.

    Args:
        matrix: (k, T), in which higher is better. None of a single row.
    """
    if len(matrix) < 2:
        return None
    earlier = len(matrix) - 1
    return float((matrix[:-1, :earlier].max(axis=0) - matrix[-1, :earlier]).mean())


def backward_transfer(matrix: Matrix) -> float | None:
    """The mean change of each earlier part since its own training: (1 / (k - 1)) sum_{j < k} R[k, j] - R[j, j].

    Lopez-Paz and Ranzato, arXiv:1706.08840, equation 3.

    Args:
        matrix: (k, T). None of a single row.
    """
    if len(matrix) < 2:
        return None
    earlier = len(matrix) - 1
    return float((matrix[-1, :earlier] - np.diag(matrix)[:earlier]).mean())


def forward_transfer(matrix: Matrix, before: Matrix) -> float | None:
    """The mean gain on each part just before its own training: (1 / (k - 1)) sum_{j > 1} R[j - 1, j] - b[j].

    Lopez-Paz and Ranzato, equation 4.

    Args:
        matrix: (k, T). None of a single row.
        before: (T,) scores of the initial weights.
    """
    if len(matrix) < 2:
        return None
    return float(np.mean([matrix[j - 1, j] - before[j] for j in range(1, len(matrix))]))


def transfer_metrics(matrix: Matrix, before: Matrix, higher_is_better: bool = True) -> dict[str, float]:
    """All metrics by name; those that a single row does not have are left out.

    Args:
        matrix: (k, T).
        before: (T,).
        higher_is_better: of the score. If lower is better, forgetting is a rise, and transfers are gains as falls.
    """
    sign = 1.0 if higher_is_better else -1.0
    found = {
        "average": average(matrix),
        "forgetting": forgetting(sign * matrix),
        "backward_transfer": backward_transfer(sign * matrix),
        "forward_transfer": forward_transfer(sign * matrix, sign * before),
    }
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class PartRecord:
    """The content of `continual.json`: the scores of a training on one part after the other.

    Attributes:
        parts: their names, in the order of training.
        joint: whether all were trained on at once; the matrix then has one row.
        metric: of the scores.
        higher_is_better: of the metric.
        before: (T,) the score on each part before any training.
        matrix: (k, T) after each of the first k parts.
        metrics: those of `transfer_metrics`.
    """

    parts: list[str]
    joint: bool
    metric: str
    higher_is_better: bool
    before: list[float]
    matrix: list[list[float]]
    metrics: dict[str, float]

    @classmethod
    def of(
        cls,
        parts: list[str],
        joint: bool,
        monitor: tuple[str, bool],
        before: list[float],
        matrix: list[list[float]],
    ) -> "PartRecord":
        """A record with the metrics that follow from its scores.

        Args:
            monitor: the metric, and whether higher is better.
        """
        metrics = transfer_metrics(np.array(matrix), np.array(before), monitor[1])
        return cls(parts, joint, *monitor, before, matrix, metrics)

    def lines(self) -> list[list[float]]:
        """The scores before the training, and after each part."""
        return [self.before, *self.matrix]

    def table(self) -> str:
        """The scores and metrics as text for a terminal."""
        rows = [["after", *self.parts]]
        names = ["no training", *(["all parts"] if self.joint else self.parts)]
        for name, scores in zip(names, self.lines(), strict=False):
            rows.append([name, *(f"{score:.3f}" for score in scores)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        metrics = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in self.metrics.items()]
        return "\n".join([f"{self.metric} on each part", *lines, ", ".join(metrics)])


def read_part_record(path: Path) -> PartRecord | None:
    """The record in a file; None if there is no file.

    Raises:
        UserError: the file is broken.
    """
    if not path.exists():
        return None
    try:
        found = PartRecord(**json.loads(path.read_text(encoding="utf-8")))
        sizes = {len(found.parts), *(len(line) for line in found.lines())}
        numbers = [*found.metrics.values(), *(score for line in found.lines() for score in line)]
        if len(sizes) > 1 or not found.matrix or not all(math.isfinite(number) for number in numbers):
            raise ValueError("its scores do not fit its parts")
        names = all(isinstance(name, str) for name in [found.metric, *found.parts, *found.metrics])
        if not names:
            raise ValueError("its names are not texts")
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path} is broken ({error}): remove it, or train the run again") from error
    return found
