"""Metrics of a matrix of scores, against loops over the papers' formulas and against matrices solved by hand."""

import numpy as np
import pytest

from ssl_nlp.evaluation.continual import (
    average,
    backward_transfer,
    forgetting,
    forward_transfer,
    table,
    transfer_metrics,
)

HAND = np.array([[0.9, 0.1, 0.2], [0.6, 0.8, 0.3], [0.7, 0.5, 1.0]])
BEFORE = np.array([0.2, 0.2, 0.1])


def test_a_matrix_solved_by_hand():
    assert transfer_metrics(HAND, BEFORE) == pytest.approx(
        {
            "average": (0.7 + 0.5 + 1.0) / 3,
            "forgetting": ((0.9 - 0.7) + (0.8 - 0.5)) / 2,
            "backward_transfer": ((0.7 - 0.9) + (0.5 - 0.8)) / 2,
            "forward_transfer": ((0.1 - 0.2) + (0.3 - 0.1)) / 2,
        }
    )


@pytest.mark.parametrize("parts", [2, 3, 7])
@pytest.mark.parametrize("done", [2, 3, 7])
def test_they_equal_loops_over_the_formulas(parts, done):
    if done > parts:
        return
    random = np.random.default_rng(parts * 10 + done)
    matrix, before = random.random((done, parts)), random.random(parts)
    last = done - 1
    lost = [max(matrix[i, j] for i in range(last)) - matrix[last, j] for j in range(last)]
    backward = [matrix[last, j] - matrix[j, j] for j in range(last)]
    forward = [matrix[j - 1, j] - before[j] for j in range(1, done)]
    assert average(matrix) == pytest.approx(sum(matrix[last, j] for j in range(done)) / done)
    assert forgetting(matrix) == pytest.approx(sum(lost) / last)
    assert backward_transfer(matrix) == pytest.approx(sum(backward) / last)
    assert forward_transfer(matrix, before) == pytest.approx(sum(forward) / last)


def test_a_part_may_be_best_before_its_own_training_and_help_later_ones():
    matrix = np.array([[0.5, 0.9], [0.8, 0.6]])
    assert forgetting(matrix) == pytest.approx(-0.3)  # of the first part only: the second one is the last
    assert backward_transfer(matrix) == pytest.approx(0.3)


def test_one_row_has_an_average_only():
    assert transfer_metrics(HAND[:1], BEFORE) == {"average": pytest.approx(0.4)}


def test_a_score_that_is_better_when_lower_changes_the_signs():
    turned = transfer_metrics(1 - HAND, 1 - BEFORE, higher_is_better=False)
    expected = transfer_metrics(HAND, BEFORE)
    assert turned == pytest.approx(expected | {"average": 1 - expected["average"]})


def test_the_table_has_a_row_for_each_training():
    record = {"parts": ["a", "long name", "c"], "joint": False, "metric": "accuracy", "before": BEFORE.tolist()}
    lines = table(record | {"matrix": HAND[:2].tolist(), "metrics": {"average": 0.7}}).split("\n")
    assert lines[0] == "accuracy on each part"
    assert lines[1].split() == ["after", "a", "long", "name", "c"]
    assert lines[3].split() == ["a", "0.900", "0.100", "0.200"]
    assert lines[-1] == "average 0.700"
    assert len({len(line) for line in lines[1:-1]}) == 1
