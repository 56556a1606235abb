"""Intervals of single scores compared with scipy's."""

import numpy as np
import pytest
from scipy import stats

from ssl_nlp.comparison.intervals import result_interval, score_interval, t_interval
from ssl_nlp.comparison.statistics import Differences, Sample
from ssl_nlp.comparison.types import Column
from ssl_nlp.comparison.verdicts import RowResults
from ssl_nlp.evaluation.result import Result, groups_of

LEAST = float(stats.beta.ppf(0.025, 5, 1))  # of Clopper and Pearson, all of five right
DECIDED = np.array([[0.02, 0.02]] * 5)  # pairs with their weights


def test_the_interval_of_a_mean_is_students():
    scores = np.array([0.3, 0.5, 0.45])
    expected = stats.t.interval(0.95, 2, scores.mean(), stats.sem(scores))
    assert t_interval(scores) == pytest.approx(expected)
    assert t_interval(scores[:1]) is None


def test_the_interval_of_a_score_is_students_and_stays_in_its_range():
    items = np.random.default_rng(0).random(30)
    expected = stats.t.interval(0.95, 29, items.mean(), stats.sem(items))
    assert score_interval(items, "mean") == pytest.approx(expected)
    assert score_interval(np.array([1, 1, 1, 1, 0], dtype=np.uint8), "mean")[1] == 1.0
    assert score_interval(items[:1], "mean") == (0.0, 1.0)
    assert score_interval(np.ones(5), "mean") == pytest.approx(
        (stats.beta.ppf(0.025, 5, 1), 1.0)
    )  # all of five are right
    assert score_interval(np.array([1, 1, 1, 1, 1, np.nan]), "mean") == score_interval(np.ones(5), "mean")
    assert score_interval(np.array([0.9, 0.9, 0.9, 0.9, 0.1]), "mean")[1] == 1.0
    assert score_interval(np.zeros(5), "mean") == pytest.approx((0.0, stats.beta.ppf(0.975, 1, 5)))


def test_what_fewer_than_two_items_carry_has_no_interval_and_no_verdict():
    """Seeds alone would give one, of 0.02, to rows that are compared on a single item."""
    for groups in (None, groups_of(["a", "a", "b"])):
        for other in (np.array([3.4, np.nan, np.nan]), np.full(3, np.nan)):
            assert score_interval(other, "mean", groups=groups) is None
        for seeds in (1, 3):
            items = np.array([0.5, np.nan, np.nan])
            rows = [Sample(own + np.arange(seeds) / 100, (items + own,) * seeds, groups=groups) for own in (0.0, 0.4)]
            assert Differences(rows).uncertainty(0, 1) is None
    assert score_interval(np.zeros(0), "mean") is None
    for one in ([[3.0, 2.0]], [[3.0, 2.0], [0.0, 0.0]]):
        assert score_interval(np.array(one), "ratio") is None
        assert score_interval(np.array(one), "perplexity") is None
    assert score_interval(np.array([[3.0, 2.0], [2.0, 3.0]]), "ratio") is not None


def padded(items, zeros):
    """The items, and others that carry nothing."""
    return np.concatenate([items, np.tile(np.zeros_like(items[:1]), (zeros, 1))])


@pytest.mark.parametrize("zeros", [0, 1000])
@pytest.mark.parametrize(
    ("statistic", "items", "expected"),
    [
        ("ratio", DECIDED, (LEAST, 1.0)),
        ("ratio", DECIDED * [0, 1], (0.0, 1 - LEAST)),
        ("f1", np.array([[2, 2, 2]] * 5, dtype=np.uint8), (LEAST, 1.0)),
        ("f1", np.array([[0, 2, 2]] * 5), (0.0, 1 - LEAST)),
        ("bleu", np.array([[9, 9, *[0] * 4, 9, 8, 7, 6]] * 5), (0.0, 100 * (1 - LEAST))),
        ("bleu", np.array([[9, 9, 9, 8, 7, 6, 9, 8, 7, 6]] * 5), (100 * LEAST, 100.0)),
    ],
)
def test_a_few_items_that_are_all_right_or_all_wrong_are_no_certainty(statistic, items, expected, zeros):
    assert score_interval(padded(items, zeros), statistic) == pytest.approx(expected, abs=1e-6)


def test_only_what_is_to_be_ranked_first_counts_for_an_average_precision():
    first = np.array([[1.0, 1.0]] * 5)
    assert score_interval(padded(first, 1000), "average_precision") == pytest.approx((LEAST, 1.0))
    assert score_interval(first, "average_precision") is None  # there is nothing else to rank
    assert score_interval(first * [1, 0], "average_precision") is None


def test_one_item_that_carries_nearly_all_counts_as_one():
    for items, statistic in (
        (np.array([[1000, 1000, 1000]] + [[1, 1, 1]] * 99), "f1"),
        (np.array([[0.5, 0.5]] + [[0.5 / 999, 0.5 / 999]] * 999), "ratio"),
    ):
        low, high = score_interval(items, statistic)
        assert (low, high) == (pytest.approx(0.025, abs=0.01), 1.0)


def test_verdicts_count_the_items_that_carry_the_score():
    """Three sentences with an entity, all of which one finds and the other does not: the sign test gives a quarter."""
    entities = padded(np.array([[1, 1, 1]] * 3), 997)
    rows = [Sample(np.array([score]), (entities * [score, 1, 1],), "f1", varies=False) for score in (1, 0)]
    assert 0.1 < Differences(rows).uncertainty(0, 1).p_value(1.0) < 0.3


@pytest.mark.parametrize(
    ("statistic", "items"),
    [
        ("spearman", np.arange(5)[:, None].repeat(2, axis=1)),
        ("spearman", np.stack([np.zeros(5), np.arange(5)], axis=1)),
        ("v_measure", np.array([[0, 0]] * 5)),
        ("f1", np.array([[1, 2, 2]] * 5)),
        ("mean", np.full(5, 7.0)),
    ],
)
def test_other_scores_that_no_item_moves_have_no_interval(statistic, items):
    assert score_interval(items, statistic) is None


def test_an_accuracy_of_weighted_pairs_stays_in_its_range():
    items = DECIDED.copy()
    items[0, 0] = 0
    assert score_interval(items, "ratio")[1] == 1.0


def test_the_interval_of_a_score_is_over_groups_of_items():
    rng = np.random.default_rng(0)
    items = np.repeat(rng.normal(size=30), 10) + 1e-3 * rng.normal(size=300)
    groups = groups_of([n // 10 for n in range(300)])
    low, high = score_interval(items, "mean", groups=groups)
    expected = stats.t.interval(0.95, 29, items.mean(), stats.sem(items.reshape(30, 10).mean(axis=1)))
    assert (low, high) == pytest.approx(expected)
    assert score_interval(np.ones(300), "mean", groups=groups) == score_interval(np.ones(30), "mean")
    one = score_interval(items, "mean", groups=groups_of(["x"] * 300))
    assert one[1] - one[0] > 2 * 12 * items.std()  # of one group nothing is known
    two = groups_of([0, 0, 1, 1, 2, 2] * 50, [1, 2, 0, 2, 0, 1] * 50)
    assert np.diff(score_interval(items, "mean", groups=two)) > 2 * 3 * items.std()  # nor of three
    result = Result("accuracy", {"accuracy": items.mean()}, items=items, groups=groups)
    assert result_interval(result) == (low, high)
    assert RowResults([{"docs/knn": result}], True).sample(Column("docs/knn/accuracy", "", True)).groups is groups
    assert groups_of(["a", "b"]) is None and groups_of([1, 2], [3, 4]) is None
