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


def test_an_interval_needs_two_items_that_count_unless_the_score_is_bounded():
    for groups in (None, groups_of(["a", "a", "b"])):
        for other in (np.array([3.4, np.nan, np.nan]), np.full(3, np.nan)):
            assert score_interval(other, "mean", groups=groups) is None
        rows = [Sample(np.array([own]), (np.array([own, np.nan, np.nan]),), groups=groups) for own in (3.4, 2.0)]
        assert Differences(rows).uncertainty(0, 1) is None
    assert score_interval(np.array([[3.0, 2.0]]), "ratio") is None
    assert score_interval(np.array([[3.0, 2.0], [2.0, 3.0]]), "ratio") is not None


@pytest.mark.parametrize(
    ("statistic", "items", "expected"),
    [
        ("ratio", DECIDED, (LEAST, 1.0)),
        ("ratio", DECIDED * [0, 1], (0.0, 1 - LEAST)),
        ("f1", np.array([[2, 2, 2]] * 5), (LEAST, 1.0)),
        ("bleu", np.zeros((5, 10)), (0.0, 100 * (1 - LEAST))),
        ("average_precision", np.array([[1.0, 1.0]] * 5), (LEAST, 1.0)),
        ("spearman", np.arange(5)[:, None].repeat(2, axis=1), (1 - 2 * (1 - LEAST), 1.0)),
        ("spearman", np.stack([np.zeros(5), np.arange(5)], axis=1), (0.0, 0.0)),  # a constant: it ranks nothing
        ("mean", np.full(5, 7.0), (7.0, 7.0)),
    ],
)
def test_a_few_items_that_are_all_right_or_all_wrong_are_no_certainty(statistic, items, expected):
    assert score_interval(items, statistic) == pytest.approx(expected, abs=1e-9)


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
