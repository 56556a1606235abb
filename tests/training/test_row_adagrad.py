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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_resumed_optimizer_keeps_its_squares_whatever_the_type_of_the_table(dtype):
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(10, 3, dtype=dtype))
    whole = copy.deepcopy(table)

    def train(table: nn.Parameter, optimizer: RowAdagrad) -> RowAdagrad:
        for step in range(3):
            optimizer.zero_grad()
            (F.embedding(torch.tensor([step, 4]), table, sparse=True) ** 2).sum().backward()
            optimizer.step()
        return optimizer

    train(whole, train(whole, RowAdagrad([whole], lr=0.1)))
    first = train(table, RowAdagrad([table], lr=0.1))
    second = RowAdagrad([table], lr=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(second.state[table]["squares"], first.state[table]["squares"])
    train(table, second)
    assert torch.equal(table, whole)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_table_without_a_gradient_stays_as_it_is(sparse):
    """Dense gradients of 0, and sparse ones without a row, are those of a batch without words."""
    table = nn.Parameter(torch.randn(10, 3))
    before, optimizer = table.detach().clone(), RowAdagrad([table], lr=0.1)
    F.embedding(torch.empty(0, dtype=torch.int64), table, sparse=sparse).sum().backward()
    optimizer.step()
    assert torch.equal(table, before)


def test_the_rows_of_a_vector_are_its_elements():
    vector = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    vector.grad = torch.tensor([0.5, 0.0, -2.0])
    RowAdagrad([vector], lr=0.1).step()
    torch.testing.assert_close(vector.detach(), torch.tensor([0.9, 2.0, 3.1]))


def test_weight_decay_is_refused():
    with pytest.raises(UserError, match="set weight_decay to 0"):
        RowAdagrad([nn.Parameter(torch.zeros(2, 2))], lr=0.1, weight_decay=0.1)
