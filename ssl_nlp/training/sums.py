"""The loss of a batch as sums and numbers of targets, and their averages: over targets, never over batch means."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from ssl_nlp.terminal import say
from ssl_nlp.training.ranks import sum_over_ranks


class Term(NamedTuple):
    """One summand of an objective.

    Attributes:
        total: scalar, the loss summed over the targets of the batch, in nats where it is a likelihood.
        targets: scalar, how many targets that was.
        weight: of the mean, total / targets, in the objective; the same number on all ranks.
    """

    total: Tensor
    targets: Tensor
    weight: float | Tensor = 1.0


@dataclass
class Loss:
    """The loss of one batch.

    Attributes:
        terms: the summands of the objective by name. What is minimised, and logged as `loss`, is the sum of weight *
            total / targets, where totals and targets are those of all ranks and accumulated batches. Where there are
            several terms each is logged as `loss/NAME`, too, without its weight.
        metrics: further sums, scalars or vectors, and their counts by name; each is reported as sum / count over all
            batches and ranks, and not at all where that count is 0.
        totals: sums by name, each of which is reported as its sum over all batches and ranks.
    """

    terms: dict[str, Term]
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    totals: dict[str, Tensor] = field(default_factory=dict)

    @property
    def targets(self) -> dict[str, Tensor]:
        """The number of targets of each term."""
        return {name: term.targets for name, term in self.terms.items()}

    def mean(self) -> Tensor:
        """The objective on this batch alone."""
        return self.over(self.targets)

    def over(self, targets: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Tensor:
        """The objective with the given numbers of targets, by term, in place of the batch's own.

        Args:
            targets: scalars; those of all batches that are accumulated, on all ranks.
            names: the terms to add up; None: all of them.
        """
        terms = self.terms if names is None else {name: self.terms[name] for name in names}
        summands = [term.total * (term.weight / targets[name].clamp(min=1)) for name, term in terms.items()]
        return summands[0] if len(summands) == 1 else torch.stack(summands).sum()


class Sums:
    """Sums and counts by name, in float64, over batches and at the end over ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        self._weights: dict[str, float | Tensor] = {}
        self._totals: set[str] = set()

    def add(self, loss: Loss, summands: Sequence[str] | None = None) -> None:
        """Add the loss of a batch.

        Args:
            loss: of the batch.
            summands: the terms that make up `loss`; None: all of them.
        """
        for name, term in loss.terms.items():
            self._add(f"loss/{name}", term.total, term.targets)
            if summands is None or name in summands:
                self._weights[f"loss/{name}"] = term.weight
        for name, (total, count) in loss.metrics.items():
            self._add(name, total, count)
        for name, total in loss.totals.items():
            self._add(name, total, torch.zeros_like(total))
            self._totals.add(name)

    def _add(self, name: str, total: Tensor, count: Tensor) -> None:
        total, count = total.detach().double(), count.detach().double()
        if name in self._sums:
            before, counted = (number.to(total.device) for number in self._sums[name])
            total, count = before + total, counted + count
        self._sums[name] = total, count

    def finite(self) -> bool:
        """Whether all losses on this rank are finite."""
        losses = [total for name, (total, _) in self._sums.items() if name.startswith("loss/")]
        return not losses or bool(torch.stack(losses).isfinite().all())

    def loss(self) -> float | None:
        """The weighted sum of the terms on this rank, without starting again; None if nothing was added."""
        means = [
            self._sums[name][0] / self._sums[name][1].clamp(min=1) * float(weight)
            for name, weight in self._weights.items()
            if name in self._sums
        ]
        return float(torch.stack(means).sum()) if means else None

    def state_over_ranks(self) -> dict[str, Any]:
        """The sums over all ranks, for `load_state`. Every rank must call it."""
        sums = {name: tuple(map(sum_over_ranks, pair)) for name, pair in sorted(self._sums.items())}
        weights = {name: float(weight) for name, weight in self._weights.items()}
        return {"sums": sums, "weights": weights, "totals": sorted(self._totals)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue with the sums of `state_over_ranks`."""
        self._sums, self._weights = dict(state.get("sums", {})), dict(state.get("weights", {}))
        self._totals = set(state.get("totals", ()))

    def means_over_ranks(self, split: str | None = None) -> dict[str, Tensor]:
        """Return sum / count of each name over all ranks and reset; empty if nothing was added. Every rank must call it.

        `loss` is the weighted sum of its terms `loss/NAME`, with the weights of the last batch; without any of them there
        is none. A metric whose count is 0 over all ranks is left out, and a total is not divided. A term whose count is 0
        is NaN, and adds nothing to `loss`, as in training.

        Args:
            split: warn that it has no target, if so; None: say nothing.
        """
        if not self._sums:
            return {}
        pairs = [self._sums[name] for name in sorted(self._sums)]
        flat = sum_over_ranks(torch.cat([part.flatten() for pair in pairs for part in pair]))
        means: dict[str, Tensor] = {}
        counted: set[str] = set()
        for name, (total, _) in zip(sorted(self._sums), pairs, strict=True):
            summed, count, flat = flat[: total.numel()], flat[total.numel()], flat[total.numel() + 1 :]
            if count > 0:
                counted.add(name)
            if name in self._totals:
                means[name] = summed.view_as(total)
            elif name.startswith("loss/") or count > 0:
                means[name] = summed.view_as(total) / count
        summands = [means[name] * float(weight) for name, weight in self._weights.items() if name in counted]
        if self._weights.keys() & means.keys():
            means["loss"] = torch.stack(summands).sum() if summands else torch.tensor(torch.nan)
            if not summands and split is not None:
                warn_of_no_target(split)
        self._sums = {}
        return means


@rank_zero_only
def warn_of_no_target(split: str) -> None:
    """Say why the loss on a split is NaN."""
    say(
        f"warning: there is nothing to predict in the {split} split, so its loss is not a number (nan): give it more or "
        "longer texts",
        sys.stderr,
    )
