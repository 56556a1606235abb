"""Metrics of a matrix of scores, against loops over the papers' formulas and against matrices solved by hand."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.continual import (
    PartRecord,
    average,
    backward_transfer,
    forgetting,
    forward_transfer,
    read_part_record,
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


def record(rows=2):
    return PartRecord.of(["a", "long name", "c"], False, ("accuracy", True), BEFORE.tolist(), HAND[:rows].tolist())


def test_the_table_has_a_row_for_each_training():
    lines = record().table().split("\n")
    assert lines[0] == "accuracy on each part"
    assert lines[1].split() == ["after", "a", "long", "name", "c"]
    assert lines[3].split() == ["a", "0.900", "0.100", "0.200"]
    assert lines[-1].startswith("average 0.700, forgetting 0.300")
    assert len({len(line) for line in lines[1:-1]}) == 1


def test_a_record_is_read_as_it_was_written_and_a_broken_one_is_refused(tmp_path):
    path = tmp_path / "continual.json"
    assert read_part_record(path) is None
    path.write_text(json.dumps(asdict(record())))
    assert read_part_record(path) == record()
    whole = asdict(record())
    for change in ({"before": [1.0]}, {"matrix": []}, {"matrix": None}, {"parts": [1, 2, 3]}, {"metrics": {"a": "b"}}):
        path.write_text(json.dumps(whole | change))
        with pytest.raises(UserError, match="continual.json is broken"):
            read_part_record(path)
    path.write_text("{")
    with pytest.raises(UserError, match="remove it, or train the run again"):
        read_part_record(path)
