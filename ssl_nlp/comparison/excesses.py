"""Losses beside their exact limits, of rows that were evaluated on a language whose probabilities are known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ssl_nlp.comparison.types import Row
from ssl_nlp.evaluation import Result
from ssl_nlp.evaluation.excess import Excess, mean_excess
from ssl_nlp.evaluation.language_modelling import NAMES


@dataclass(frozen=True)
class ExcessLine:
    """A line of the report's table: one row and kind of likelihood."""

    label: str
    kind: str
    loss: str
    limit: str
    excess: str
    verdict: str


def excesses(results: Sequence[Mapping[str, Result]]) -> dict[str, Excess]:
    """The mean over seeds of each loss beside its limit, by SUITE/EVALUATOR/METRIC of the excess.

    Args:
        results: of each seed, by SUITE/EVALUATOR.
    """
    found: dict[str, list[Excess]] = {}
    for seed in results:
        for key, result in seed.items():
            for kind, plain in result.details.get("limits", {}).items():
                found.setdefault(f"{key}/{NAMES[kind].format('excess_nats')}", []).append(Excess.from_json(plain))
    return {key: mean_excess(several) for key, several in found.items()}


def excess_lines(rows: Sequence[Row]) -> Iterator[ExcessLine]:
    """The lines of the report's table."""
    kinds = {form.format("excess_nats"): kind for kind, form in NAMES.items()}
    for row in rows:
        for key, excess in row.excesses.items():
            loss, limit = f"{excess.loss:.4f}", f"{excess.limit:.4f}"
            nats = f"{excess.nats:.4f} ± {excess.standard_error:.4f}".replace("-", "−")
            yield ExcessLine(row.label, kinds[key.rpartition("/")[2]], loss, limit, nats, excess.verdict)
