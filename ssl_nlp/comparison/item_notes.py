"""Sentences on what is behind scores: missing items, unknown words, probes at the edge of their search."""

from collections.abc import Sequence

from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.configuration import spoken
from ssl_nlp.comparison.types import Column, Row
from ssl_nlp.comparison.verdicts import RowResults
from ssl_nlp.evaluation.classification import values_at_edge
from ssl_nlp.evaluation.record import items_path, lost_items


def items_lost(runs: Sequence[ComparedRun], suite: str) -> list[str]:
    """A sentence for each run whose items on a suite are no longer there."""
    return [
        f"{run.name}: {items_path(run.evaluation).name} lacks items, so test items cannot be paired: evaluate it again."
        for run in runs
        if lost_items(run.evaluation, suite)
    ]


def at_edge(rows: Sequence[tuple[Row, RowResults]], columns: Sequence[Column]) -> list[str]:
    """A sentence for each column with probes whose best regularisation is at the edge of the search."""
    found: dict[str, dict[str, str]] = {}  # by evaluator and row
    for row, given in rows:
        for key in dict.fromkeys(key for results in given.results for key in results):
            values = [v for results in given.results if key in results for v in values_at_edge(results[key])]
            if values:
                found.setdefault(key, {})[row.label] = ", ".join(dict.fromkeys(f"{value:.3g}" for value in values))
    titles = {column.key.rpartition("/")[0]: column.title for column in columns}
    return [
        f"{titles.get(key, key)}: C is at the edge of the values tried for "
        f"{', '.join(f'{label} ({values})' for label, values in of_rows.items())}."
        for key, of_rows in found.items()
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
