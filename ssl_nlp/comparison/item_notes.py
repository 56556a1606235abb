"""Sentences on the items behind scores: those that are lost, or that hold unknown words."""

from collections.abc import Sequence

from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.configuration import spoken
from ssl_nlp.comparison.types import Row
from ssl_nlp.evaluation.record import items_path, lost_items


def items_lost(runs: Sequence[ComparedRun], suite: str) -> list[str]:
    """A sentence for each run whose items on a suite are no longer there."""
    return [
        f"{run.name}: {items_path(run.evaluation).name} lacks items, so test items cannot be paired: evaluate it again."
        for run in runs
        if lost_items(run.evaluation, suite)
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
