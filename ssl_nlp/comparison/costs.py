"""Costs of training: their names and units, and which of them were not equal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ssl_nlp.comparison.configuration import TOLERANCE, spoken
from ssl_nlp.comparison.types import Row


@dataclass(frozen=True)
class Cost:
    """Kind of cost in `Row.cost`.

    Attributes:
        name: in the report.
        title: in the tables of the terminal, with its unit.
        unit: size of that unit, in units of `Row.cost`.
        tolerance: share by which the costs of equal runs may differ; None if equality is not expected.
    """

    name: str
    title: str
    unit: float
    tolerance: float | None = None


COUNTED = 0.02  # tolerance of what is counted on a few batches, with an error of up to 1 %

COSTS = {
    "parameters": Cost("parameters", "M parameters", 1e6),
    "trained_parameters": Cost("trained parameters", "M trained", 1e6),
    "tokens": Cost("tokens", "M tokens", 1e6, TOLERANCE),
    "tokens_read": Cost("tokens read", "M tokens read", 1e6, COUNTED),
    "ancestor_tokens": Cost("tokens of its ancestors", "M inherited", 1e6),
    "flops": Cost("FLOPs", "TFLOPs", 1e12, COUNTED),
    "seconds": Cost("processor seconds", "processor s", 1.0, 0.1),
    "tokens_per_second": Cost("tokens/s", "tokens/s", 1.0),
    "peak_memory": Cost("peak memory (bytes)", "peak GB", 1e9),
}


def shown_costs(costs: Sequence[Mapping[str, float]]) -> dict[str, Cost]:
    """The kinds of cost in a table of these costs.

    Trained parameters are among them only where some parameters are not trained, tokens read only where they differ from
    the tokens of the text (two views are read twice), and the tokens of ancestors, which `tokens` includes, only where
    there are ancestors.
    """
    fewer = any(cost["trained_parameters"] < cost["parameters"] for cost in costs if "trained_parameters" in cost)
    shown = {
        "trained_parameters": fewer,
        "tokens_read": any(cost.get("tokens_read", cost.get("tokens")) != cost.get("tokens") for cost in costs),
        "ancestor_tokens": any("ancestor_tokens" in cost for cost in costs),
    }
    return {key: kind for key, kind in COSTS.items() if shown.get(key, True)}


def means(row: Row) -> dict[str, float]:
    """The costs of a row, each as the mean over its seeds."""
    return {key: estimate.mean for key, estimate in row.cost.items()}


@dataclass(frozen=True)
class Gap:
    """Cost that was not equal.

    Attributes:
        cost: its key in `COSTS`.
        least, most: the rows with the lowest and the highest cost.
        ratio: of the highest to the lowest cost.
    """

    cost: str
    least: Row
    most: Row
    ratio: float

    @property
    def times(self) -> str:
        """The ratio, formatted."""
        return f"{self.ratio:,.2f}" if self.ratio < 1.1 else f"{self.ratio:,.1f}"


def equal(rows: Sequence[Row]) -> list[str]:
    """The keys in `COSTS` of the costs that were equal among several methods that were trained here."""
    known = {key: len(_known(rows, key)) for key, cost in _costs(rows).items() if cost.tolerance is not None}
    unequal = [gap.cost for gap in gaps(rows)]
    return [key for key, number in known.items() if number > 1 and key not in unequal]


def gaps(rows: Sequence[Row]) -> Iterator[Gap]:
    """Yield the costs that were not equal among the methods trained here."""
    for key, cost in _costs(rows).items():
        known = _known(rows, key)
        if cost.tolerance is None or len(known) < 2 or known[0].cost[key].mean <= 0:
            continue
        ratio = known[-1].cost[key].mean / known[0].cost[key].mean
        if ratio > 1 + cost.tolerance:
            yield Gap(key, known[0], known[-1], ratio)


def token_differences(rows: Sequence[Row], when: str = "") -> Iterator[str]:
    """Say that methods did not see equally many tokens, or read them equally often.

    Args:
        rows: methods.
        when: follows `seen` and `read`, such as ` in fine-tuning`.
    """
    for key, verb in (("tokens", "seen"), ("tokens_read", "read")):
        found = {row.label: row.cost[key].mean for row in rows if key in _costs(rows) and key in row.cost}
        if found and max(found.values()) > min(found.values()) * (1 + TOLERANCE):
            shown = {label: f"{number:,.0f}" for label, number in found.items()}
            repeated = " (each counts as often as a network reads it)" if key == "tokens_read" else ""
            yield f"The tokens {verb}{when} differ{repeated}: {spoken(shown)}."


def _costs(rows: Sequence[Row]) -> dict[str, Cost]:
    """The kinds of cost in a table of these rows."""
    return shown_costs([means(row) for row in rows if not row.baseline])


def _known(rows: Sequence[Row], key: str) -> list[Row]:
    """The methods that were trained here and have a cost, the cheapest first."""
    trained = [row for row in rows if not row.baseline and any(run.config for run in row.runs)]
    return sorted((row for row in trained if key in row.cost), key=lambda row: row.cost[key].mean)
