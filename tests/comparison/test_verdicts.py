"""Verdicts on simulated tables whose truth is known: how often claims are false, and what they are corrected for."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ssl_nlp.comparison import Comparison, Row
from ssl_nlp.comparison.numbers import format_number
from ssl_nlp.comparison.report import render_page
from ssl_nlp.comparison.summary import summarise
from ssl_nlp.comparison.table import signs
from ssl_nlp.comparison.types import Estimate
from ssl_nlp.comparison.verdicts import RowResults, assumptions, with_verdicts
from ssl_nlp.evaluation import Result
from tests.comparison.test_summary import KNN, compared

ITEMS, METHODS = 100, 3


def simulated(rng, seeds: int, deviation: float, difference: float = 0.0, width: int = 1) -> list[Row]:
    """Rows of three methods, and with one seed of counted words and of an untrained model, with their verdicts.

    Args:
        deviation: of a run's score between seeds, in standard deviations of it between samples of items.
        difference: of the first method from all others, in the same.
        width: number of columns.
    """
    one_item = 1 / math.sqrt(ITEMS)  # standard deviation of a score over items
    rows = []
    for name in ("first", "second", "third", "counted", "untrained"):
        varies, number = name != "counted", seeds if len(rows) < METHODS else 1
        results, own = [], rng.normal(size=(width, ITEMS)) * math.sqrt(0.5)
        for _ in range(number):
            shift = (rng.normal(0, deviation, (width, 1)) * varies + difference * (name == "first")) * one_item
            items = own + rng.normal(size=(width, ITEMS)) * math.sqrt(0.5) + shift
            results.append(
                {
                    f"mine/{place}.knn": Result("accuracy", {"accuracy": float(given.mean())}, {}, given)
                    for place, given in enumerate(items)
                }
            )
        rows.append((Row(name, (), False, {}), RowResults(results, varies)))
    columns = [replace(KNN, key=f"mine/{place}.knn/accuracy") for place in range(width)]
    return with_verdicts(columns, rows[:METHODS], rows[METHODS:])


def claims(rows: list[Row], kind: str, corrected: bool = False) -> bool:
    """Whether any method is told apart from the best method (`ties`) or from the best baseline (`over_baseline`)."""
    made = [verdict for row in rows[:METHODS] for verdict in getattr(row, kind).values()]
    return any(verdict.holds if corrected else not verdict.tie for verdict in made)


@pytest.mark.parametrize("deviation", [0.5, 3.0])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_where_there_is_no_difference_claims_are_as_rare_as_they_say(seeds, deviation):
    """At most 5 % of columns: of 100, more than 13 would hold a false claim by chance in one of two thousand tests."""
    rng = np.random.default_rng(0)
    columns = [simulated(rng, seeds, deviation) for _ in range(100)]
    for kind in ("ties", "over_baseline"):
        assert sum(claims(rows, kind) for rows in columns) <= 13


def test_of_many_columns_hardly_any_table_holds_a_false_claim_once_they_are_corrected_together():
    """At most 5 % of tables: of 50, more than 8 would hold one by chance in one of a thousand tests."""
    rng = np.random.default_rng(0)
    tables = [simulated(rng, 3, 0.5, width=10) for _ in range(50)]
    assert sum(claims(rows, "ties") for rows in tables) > 8
    for kind in ("ties", "over_baseline"):
        assert sum(claims(rows, kind, corrected=True) for rows in tables) <= 8


def test_a_difference_is_found():
    rng = np.random.default_rng(0)
    for kind in ("ties", "over_baseline"):
        assert sum(claims(simulated(rng, 2, 1.0, 15.0), kind) for _ in range(30)) >= 27
        assert (
            sum(claims(simulated(rng, 2, 12.0, 12.0), kind) for _ in range(30)) <= 9
        )  # seeds that vary as much hide it


def without_runs(table: Comparison) -> str:
    """The report of a table whose runs have no folders."""
    return render_page(replace(table, rows=[replace(row, runs=()) for row in table.rows]))


MANY = [KNN, *(replace(KNN, key=f"mine/{n}.knn/accuracy", title=f"{n}: accuracy") for n in range(8))]


def test_claims_about_several_columns_are_corrected_together():
    """A difference that is barely more than chance in one column is not among nine."""
    methods = {"SimCLR": dict.fromkeys(MANY, 0.8) | {KNN: 0.92}, "MaskedLM": dict.fromkeys(MANY, 0.8)}
    baselines = {"TF-IDF": dict.fromkeys(MANY, 0.85)}
    alone = compared({name: {KNN: scores[KNN]} for name, scores in methods.items()}, {"TF-IDF": {KNN: 0.85}})
    table = compared(methods, baselines)
    for found, holds in ((alone, True), (table, False)):
        better, worse, *_ = found.rows
        for verdict in (worse.ties[KNN.key], better.over_baseline[KNN.key]):
            assert (verdict.tie, verdict.holds) == (False, holds)
        assert (signs(better, KNN), signs(worse, KNN)) == (("*", "†") if holds else ("*‡", "~†"))
    assert summarise(alone)[0] == "SimCLR is best on k-NN accuracy."
    assert summarise(table) == [
        "SimCLR and MaskedLM cannot be told apart on any score.",
        "Nothing is shown to beat counting words (TF-IDF) on any score.",
    ]
    page = without_runs(table)
    assert page.count('aria-label="worse than the best in this column alone"') == 1
    assert page.count('aria-label="better than the best baseline in this column alone"') == 1


def test_intervals_hold_for_all_pairs_of_a_column_and_name_their_level():
    methods = {"SimCLR": {KNN: 0.9}, "MaskedLM": {KNN: 0.5}, "VAE": {KNN: 0.5}}
    table = compared(methods, {"TF-IDF": {KNN: 0.4}, "random words": {KNN: 0.3}})
    best, other, *_ = table.rows
    assert other.ties[KNN.key].level == pytest.approx(1 - 0.05 / 3)
    assert other.over_baseline[KNN.key].level == pytest.approx(1 - 0.05 / 6)
    # With one seed, the claim says up to which deviation between seeds it holds.
    page = without_runs(table)
    low, high, limit = (format_number(getattr(other.ties[KNN.key], end)) for end in ("low", "high", "seeds_up_to"))
    assert f"−0.400 (98.3 % interval {low} to {high}, if seeds deviate by {limit} or less) from the best method" in page
    assert best.ties[KNN.key].seeds_up_to is None


def test_what_is_assumed_about_rows_with_one_seed_is_said():
    def rows(label: str, seeds: int, varies: bool = True, tuned=()):
        score = {KNN.key: Estimate(0.5, None, None, seeds)}
        return Row(label, (), False, score), RowResults([], varies, tuned=tuned)

    one, other = rows("SimCLR", 1), rows("MaskedLM", 1)
    words, untrained = rows("TF-IDF", 1, varies=False), rows("untrained SimCLR", 1)
    [said] = assumptions([one, other], [words], "this")
    assert "at most 3 times as much" in said and said.endswith("To train several seeds, use this")
    [said] = assumptions([rows("SimCLR", 3), other], [words, untrained], "this")
    assert said.startswith("MaskedLM; untrained SimCLR: one seed each, assumed to vary as much")
    assert assumptions([rows("SimCLR", 3), rows("MaskedLM", 2)], [words], "this") == []
    assert assumptions([one], [], "this") == []
    # Counted methods do not vary, but the random baselines beside them have draws.
    counted = rows("NGramLM", 3, varies=False)
    draws = [rows("random words", 3, tuned={KNN.key}), rows("untrained SimCLR", 1, tuned={KNN.key})]
    [said] = assumptions([counted], draws, "this")
    assert said.startswith("untrained SimCLR: one seed each")
