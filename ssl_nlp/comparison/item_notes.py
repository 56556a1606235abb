"""Sentences on the items behind scores: those that are lost, that stand in training text, or that hold unknown words."""

from collections.abc import Sequence

from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.configuration import spoken
from ssl_nlp.comparison.types import Column, Row
from ssl_nlp.comparison.verdicts import RowResults
from ssl_nlp.evaluation.record import items_path, lost_items
from ssl_nlp.evaluation.result import OVERLAP_WITH


def items_lost(runs: Sequence[ComparedRun], suite: str) -> list[str]:
    """A sentence for each run whose items on a suite are no longer there."""
    return [
        f"{run.name}: {items_path(run.evaluation).name} lacks items, so test items cannot be paired: evaluate it again."
        for run in runs
        if lost_items(run.evaluation, suite)
    ]


def overlap(rows: Sequence[tuple[Row, RowResults]], columns: Sequence[Column]) -> list[str]:
    """Sentences on the columns with items that stand in training text."""
    said = []
    for column in columns:
        key = column.key
        parts = [
            f"{row.label} {row.uncovered[key]:.3f} instead of {row.scores[key].mean:.3f} ({share:.1%} fewer items"
            f"{_read(given, key)})"
            for row, given in rows
            if (share := row.covered.get(key)) and key in row.uncovered
        ]
        if parts:
            said.append(
                f"{column.title} without the items of which training text covers every word: {'; '.join(parts)}."
            )
    return said


def _read(given: RowResults, key: str) -> str:
    """Which part of its training text the overlap of a row was measured on, if not all of it."""
    place = key.rpartition("/")[0]
    found = {results[place].details.get(OVERLAP_WITH) for results in given.results if place in results}
    return "".join(f"; of its training text, the {part} were read" for part in sorted(filter(None, found)))


def known_words(rows: Sequence[Row]) -> list[str]:
    """A sentence for each evaluator of words of which the models of some rows know other shares."""
    said = []
    for key in dict.fromkeys(key for row in rows for key in row.scores if key.endswith("/coverage")):
        known = {row.label: f"{row.scores[key].mean:.1%}" for row in rows if key in row.scores}
        if len(set(known.values())) > 1:
            name = key.split("/")[1]
            said.append(f"The share of {name} that has known words, and counts, differs: {spoken(known)}.")
    return said
