"""The distribution of lengths against its formula, one length at a time."""

import math

import pytest
import torch

from ssl_nlp.objectives.lengths import length_log_probabilities


@pytest.mark.parametrize("counts", [[0, 3, 0, 5, 1, 0], [0] * 6, [0, 0, 0, 0, 0, 9], [7, 0, 0, 0, 0, 2]])
def test_probabilities_equal_the_formula_and_add_up_to_one(counts: list[int]) -> None:
    tokens = 40 * sum(counts[-1:]) + sum(n * count for n, count in enumerate(counts[:-1]))
    log_p, log_at_least = length_log_probabilities(torch.tensor(counts), torch.tensor(tokens))
    number, kinds = sum(counts), max(1, sum(count > 0 for count in counts))
    end = (number + 1) / (number + tokens + 2)
    for n, count in enumerate(counts[:-1]):
        expected = (count + kinds * (1 - end) ** n * end) / (number + kinds)
        assert math.exp(log_p[n]) == pytest.approx(expected, rel=1e-5)
    for n in range(len(counts)):
        assert math.exp(log_at_least[n]) == pytest.approx(1 - sum(log_p[:n].exp().tolist()), abs=1e-6)
    assert log_at_least[0] == pytest.approx(0, abs=1e-6)


def test_no_length_is_impossible_however_long() -> None:
    log_p, log_at_least = length_log_probabilities(torch.tensor([0, 1] + [0] * 8000), torch.tensor(1))
    assert log_p.isfinite().all()
    assert log_at_least.isfinite().all()
