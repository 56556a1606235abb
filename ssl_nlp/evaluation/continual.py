"""Numbers about a training on parts that come one after the other: what it has learned, forgotten and transferred.

All follow from the matrix R, whose entry R[i, j] is the score on part j after training on part i, and from the scores b
before any training.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

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


def table(record: dict[str, Any]) -> str:
    """The content of `continual.json` as a table for the terminal."""
    after = ["all parts"] if record["joint"] else record["parts"]
    rows = [["after", *record["parts"]]]
    for name, scores in zip(["no training", *after], [record["before"], *record["matrix"]], strict=False):
        rows.append([name, *(f"{score:.3f}" for score in scores)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    metrics = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in record["metrics"].items()]
    return "\n".join([f"{record['metric']} on each part", *lines, ", ".join(metrics)])
