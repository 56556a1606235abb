"""How far a loss is from its limit, and whether it is lower than any model's can be."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

STANDARD_ERRORS = 4
"""A loss that is more of them below its limit is no chance."""
LEAST_ROWS = 30
"""Of fewer rows, the standard error is not known well enough."""
ROUNDING = 1e-4
"""Nats by which the rounding of the loss alone may take it below its limit."""


@dataclass(frozen=True)
class Excess:
    """How far a loss is from its limit, in the unit of the loss: nats per target, sentence or text.

    Attributes:
        loss, limit, unigram: the means over all of these.
        standard_error: of loss - limit, over rows, as if these were independent.
        rows: number of rows.
    """

    loss: float
    limit: float
    unigram: float
    standard_error: float
    rows: int

    @property
    def nats(self) -> float:
        """The loss beyond its limit."""
        return self.loss - self.limit

    @property
    def gap_closed(self) -> float | None:
        """The share of what can be learned beyond the tokens' frequencies; None if that is nothing."""
        gap = self.unigram - self.limit
        return (self.unigram - self.loss) / gap if abs(gap) > ROUNDING else None

    @property
    def verdict(self) -> str:
        """Where the loss stands relative to the limit, in a few words: further than two standard errors from it, or not."""
        if self.rows < LEAST_ROWS:
            return "too few rows to say"
        if self.impossible is not None:
            return "impossible"
        if self.nats > 2 * self.standard_error:
            return "above it"
        return "reached" if self.nats >= -max(2 * self.standard_error, ROUNDING) else "below it by chance"

    @property
    def impossible(self) -> str | None:
        """An explanation if the loss is so far below its limit that this is no chance."""
        chance = max(STANDARD_ERRORS * self.standard_error, ROUNDING)
        if self.rows < LEAST_ROWS or self.nats >= -chance:
            return None
        return (
            f"the loss {self.loss:.4f} is below {self.limit:.4f} nats, the least that is possible, and chance explains "
            f"{chance:.4f} at most: the model sees what it should predict. Likely causes: attention to later "
            "tokens or to other documents of a row, masked tokens that stay visible, or texts of this split in the "
            "training data"
        )

    def to_json(self) -> dict[str, Any]:
        """The numbers and the verdict as plain data."""
        return asdict(self) | {"excess": self.nats, "verdict": self.verdict}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Excess":
        """The numbers from plain data, of which earlier versions wrote only the fields."""
        return cls(**{one.name: plain[one.name] for one in fields(cls)})


def mean_excess(several: Sequence[Excess]) -> Excess:
    """The mean over models that were measured on the same rows.

    Its standard error is the mean of theirs: right if the models err on the same rows, otherwise too large.
    """
    loss, limit, unigram, error = (
        fmean(getattr(one, name) for one in several) for name in ("loss", "limit", "unigram", "standard_error")
    )
    return Excess(loss, limit, unigram, error, min(one.rows for one in several))


class ExcessSums:
    """Sums over rows, from which `Excess` follows.

    Attributes:
        sums: (9,) float64, which add up over ranks.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(9, dtype=torch.float64)

    def add(self, loss: Tensor, limit: Tensor, unigram: Tensor, targets: Tensor) -> None:
        """Add rows: nats (B,), summed over the targets of each, and their numbers (B,), by which means divide."""
        loss, targets = loss.double().cpu(), targets.double().cpu()
        gap = loss - limit
        columns = (torch.ones_like(gap), loss, limit, unigram, targets, gap, gap**2, gap * targets, targets**2)
        self.sums += torch.stack(columns)[:, targets > 0].sum(dim=1)

    def excess(self) -> Excess | None:
        """The result so far; None without targets."""
        rows, loss, limit, unigram, targets, gap, gap2, both, targets2 = self.sums.tolist()
        if not targets:
            return None
        mean = gap / targets
        squares = max(gap2 - 2 * mean * both + mean**2 * targets2, 0.0)  # of gap - mean * targets
        error = (squares * rows / max(rows - 1, 1)) ** 0.5 / targets
        return Excess(loss / targets, limit / targets, unigram / targets, error, int(rows))
