"""AdaGrad by rows against a loop over rows."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ssl_nlp.errors import UserError
from ssl_nlp.training.row_adagrad import RowAdagrad


def train(table: nn.Parameter, steps: range, optimizer: RowAdagrad, sparse: bool) -> None:
    for step in steps:
        torch.manual_seed(step)
        ids, wanted = torch.randint(6, (8,)), torch.randn(8, 3)
        optimizer.zero_grad()
        ((F.embedding(ids, table, sparse=sparse) - wanted) ** 2).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("sparse", [True, False])
def test_each_row_moves_by_its_gradient_over_the_root_of_its_mean_squares_so_far(sparse):
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(10, 3))
    expected, squares = table.detach().clone(), [0.0] * 10
    train(table, range(5), RowAdagrad([table], lr=0.1), sparse)
    for step in range(5):
        torch.manual_seed(step)
        ids, wanted = torch.randint(6, (8,)), torch.randn(8, 3)
        gradients = {row: torch.zeros(3) for row in ids.tolist()}
        for row, goal in zip(ids.tolist(), wanted, strict=True):
            gradients[row] += 2 * (expected[row] - goal)
        for row, gradient in gradients.items():
            squares[row] += float((gradient**2).mean())
            expected[row] -= 0.1 * gradient / squares[row] ** 0.5
    torch.testing.assert_close(table.detach(), expected)


def test_a_resumed_optimizer_goes_on_to_the_bit():
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(10, 3))
    whole = copy.deepcopy(table)
    train(whole, range(6), RowAdagrad([whole], lr=0.1), sparse=True)
    first = RowAdagrad([table], lr=0.1)
    train(table, range(3), first, sparse=True)
    second = RowAdagrad([table], lr=0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(table, range(3, 6), second, sparse=True)
    assert torch.equal(table, whole)


def test_weight_decay_is_refused():
    with pytest.raises(UserError, match="set weight_decay to 0"):
        RowAdagrad([nn.Parameter(torch.zeros(2, 2))], lr=0.1, weight_decay=0.1)
