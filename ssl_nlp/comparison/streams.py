"""Trainings on parts that came one after the other, as heat maps of the scores of all parts after each of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ssl_nlp.comparison.types import Row
from ssl_nlp.evaluation.continual import PartRecord, read_part_record

DEEPEST = 45  # per cent of colour behind the best score: text stays readable on it


@dataclass(frozen=True)
class HeatCell:
    """A score, the per cent of colour behind it, and whether the part was trained on just before."""

    text: str
    colour: int
    own: bool


@dataclass(frozen=True)
class HeatMap:
    """A matrix of scores.

    Attributes:
        metric: of the scores.
        parts: names of the columns.
        rows: the part after which the scores were measured, and the scores.
        summary: average, forgetting and transfer in words.
    """

    metric: str
    parts: list[str]
    rows: list[tuple[str, list[HeatCell]]]
    summary: str


def heat_maps(rows: Sequence[Row]) -> dict[str, HeatMap]:
    """For each method that was trained on parts, the heat map of its first seed, in colours of one scale."""
    records = {row.label: found for row in rows for found in [_record(row)] if found is not None}
    scores = [score for record in records.values() for line in record.lines() for score in line]
    return {label: _heat_map(record, min(scores), max(scores)) for label, record in records.items()}


def _record(row: Row) -> PartRecord | None:
    return next((found for run in row.runs if (found := read_part_record(run.folder / "continual.json"))), None)


def _heat_map(record: PartRecord, low: float, high: float) -> HeatMap:
    names = ["no training", *(["all parts"] if record.joint else record.parts)]
    rows = []
    for number, (name, scores) in enumerate(zip(names, record.lines(), strict=False), start=-1):
        shares = [(score - low) / ((high - low) or 1.0) for score in scores]
        if not record.higher_is_better:
            shares = [1 - share for share in shares]
        cells = [
            HeatCell(f"{score:.3f}", round(DEEPEST * share), part == number and not record.joint)
            for part, (score, share) in enumerate(zip(scores, shares, strict=True))
        ]
        rows.append((name, cells))
    summary = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in record.metrics.items()]
    return HeatMap(record.metric, record.parts, rows, ", ".join(summary))
