"""Sentences on what is behind scores: lost items, items with unknown words, probes that may be wrong."""

from collections.abc import Sequence

from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.configuration import spoken
from ssl_nlp.comparison.types import Column, Row
from ssl_nlp.comparison.verdicts import RowResults
from ssl_nlp.evaluation.classification import DOUBTS
from ssl_nlp.evaluation.record import items_path, lost_items


def items_lost(runs: Sequence[ComparedRun], suite: str) -> list[str]:
    """A sentence for each run whose items on a suite are no longer there."""
    return [
        f"{run.name}: {items_path(run.evaluation).name} lacks items, so test items cannot be paired: evaluate it again."
        for run in runs
        if lost_items(run.evaluation, suite)
    ]


def probe_doubts(rows: Sequence[tuple[Row, RowResults]], columns: Sequence[Column]) -> list[str]:
    """A sentence for each column of probes of which some may be wrong, and for each reason in `DOUBTS`."""
    found: dict[tuple[str, str], dict[str, str]] = {}  # by evaluator and reason, and by row
    for row, given in rows:
        for key in dict.fromkeys(key for results in given.results for key in results):
            for reason, numbers in DOUBTS.items():
                values = [v for results in given.results if key in results for v in numbers(results[key])]
                if values:
                    shown = dict.fromkeys(f"{value:.3g}" for value in values)
                    found.setdefault((key, reason), {})[row.label] = ", ".join(shown)
    titles = {column.key.rpartition("/")[0]: column.title for column in columns}
    return [
        f"{titles.get(key, key)}: {reason} for {', '.join(f'{label} ({values})' for label, values in of_rows.items())}."
        for (key, reason), of_rows in found.items()
    ]


def known_words(rows: Sequence[Row]) -> list[str]:
    """A sentence for each evaluator of words of which the models of some rows know other shares."""
    said = []
    for key in dict.fromkeys(key for row in rows for key in row.scores if key.endswith("/coverage")):
        known = {row.label: f"{row.scores[key].mean:.1%}" for row in rows if key in row.scores}
        if len(set(known.values())) > 1:
            name = key.split("/")[1]
            said.append(f"The share of {name} that has known words, and counts, differs: {spoken(known)}.")
    return said
