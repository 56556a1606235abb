"""The fused output layer against slow loops, the dense layer, and closed forms."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.objectives import cross_entropy
from ssl_nlp.objectives.cross_entropy import linear_cross_entropy, token_losses

SHAPES = [(1, 2, 1), (7, 5, 3), (40, 33, 8), (65, 257, 16)]


@pytest.fixture(params=["dense", "blocks of several rows", "blocks of one row"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the ways through the code, at sizes that would all take the first."""
    if request.param != "dense":
        monkeypatch.setattr(cross_entropy, "SMALL", -1)
        monkeypatch.setattr(cross_entropy, "CPU_BLOCK", 1 if "one" in request.param else 1000)


Inputs = tuple[Tensor, Tensor, Tensor]


def problem(rows: int, vocab: int, dim: int, dtype: torch.dtype = torch.float32) -> tuple[Inputs, Tensor]:
    """Hidden states, weight and bias; and targets, every third of them ignored."""
    generator = torch.Generator().manual_seed(rows)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    hidden, weight, bias = leaf(rows, dim), leaf(vocab, dim), leaf(vocab)
    targets = torch.randint(vocab, (rows,), generator=generator)
    targets[::3] = IGNORE_INDEX
    return (hidden, weight, bias), targets


def oracle(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> list[float]:
    """Minus the log probability of each target, one scalar at a time in float64."""
    losses = []
    for state, target in zip(hidden.tolist(), targets.tolist(), strict=True):
        if target == IGNORE_INDEX:
            losses.append(0.0)
            continue
        offsets = [0.0] * len(weight) if bias is None else bias.tolist()
        logits = [sum(map(float.__mul__, row, state)) + o for row, o in zip(weight.tolist(), offsets, strict=True)]
        losses.append(math.log(sum(math.exp(logit) for logit in logits)) - logits[target])
    return losses


def dense(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias).float(), targets, reduction="sum")


@pytest.mark.parametrize(("shape", "biased"), list(itertools.product(SHAPES, [True, False])))
def test_losses_equal_the_slow_loop(path: None, shape: tuple[int, int, int], biased: bool) -> None:
    (hidden, weight, bias), targets = problem(*shape)
    expected = oracle(hidden, weight, bias if biased else None, targets)
    total, number = linear_cross_entropy(hidden, weight, bias if biased else None, targets)
    losses, _ = token_losses(hidden, weight, bias if biased else None, targets)
    with torch.no_grad():
        without_gradient, _ = linear_cross_entropy(hidden, weight, bias if biased else None, targets)
    assert total.dtype == losses.dtype == torch.float32
    assert total.item() == pytest.approx(sum(expected), rel=1e-5)
    assert without_gradient.item() == pytest.approx(sum(expected), rel=1e-5)
    assert losses.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert number.item() == sum(target != IGNORE_INDEX for target in targets.tolist())


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_the_dense_layer(path: None, shape: tuple[int, int, int]) -> None:
    inputs, targets = problem(*shape)
    expected = torch.autograd.grad(dense(*inputs, targets) * 3, inputs)
    actual = torch.autograd.grad(linear_cross_entropy(*inputs, targets)[0] * 3, inputs)
    for gradient, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_smoothed_losses_and_gradients_equal_the_dense_layer(path: None, shape: tuple[int, int, int]) -> None:
    inputs, targets = problem(*shape)
    logits = F.linear(*inputs)
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.2)
    total, number = linear_cross_entropy(*inputs, targets, smoothing=0.2)
    with torch.no_grad():
        without_gradient, _ = linear_cross_entropy(*inputs, targets, smoothing=0.2)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert without_gradient.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert number.item() == (targets != IGNORE_INDEX).sum().item()
    wanted = torch.autograd.grad(expected * 3, inputs)
    for gradient, right in zip(torch.autograd.grad(total * 3, inputs), wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_are_multiplied_by_their_factors(path: None, shape: tuple[int, int, int]) -> None:
    inputs, targets = problem(*shape)
    factors = torch.linspace(0.5, 3, len(targets))
    each = F.cross_entropy(F.linear(*inputs), targets, reduction="none")
    expected = (each * factors).sum()
    total, number = linear_cross_entropy(*inputs, targets, factors=factors)
    with torch.no_grad():
        without_gradient, _ = linear_cross_entropy(*inputs, targets, factors=factors)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert without_gradient.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert number.item() == (targets != IGNORE_INDEX).sum().item()
    wanted = torch.autograd.grad(expected * 3, inputs)
    for gradient, right in zip(torch.autograd.grad(total * 3, inputs), wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-5)


def test_a_token_with_an_infinite_bias_is_excluded(path: None) -> None:
    (hidden, weight, bias), targets = problem(7, 5, 3)
    targets[targets == 4] = 0
    excluded = bias.masked_fill(torch.arange(5) == 4, -torch.inf)
    total, _ = linear_cross_entropy(hidden, weight, excluded, targets)
    expected = dense(hidden, weight[:4], bias[:4], targets)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    inputs = (hidden, weight, bias)
    wanted = torch.autograd.grad(expected, inputs)
    for gradient, right in zip(torch.autograd.grad(total, inputs), wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-5)


def test_gradients_equal_finite_differences(path: None) -> None:
    inputs, targets = problem(5, 4, 3, torch.float64)
    assert linear_cross_entropy(*inputs, targets)[0].dtype == torch.float64
    assert torch.autograd.gradcheck(lambda h, w, b: linear_cross_entropy(h, w, b, targets)[0], inputs)


def test_equal_logits_cost_ln_vocab(path: None) -> None:
    weight, targets = torch.zeros(50, 4), torch.arange(6)
    total, number = linear_cross_entropy(torch.randn(6, 4), weight, torch.full((50,), 700.0), targets)
    assert (total / number).item() == pytest.approx(math.log(50), rel=1e-6)


def test_large_logits_neither_overflow_nor_vanish(path: None) -> None:
    weight = torch.tensor([[1e4], [0.0]], requires_grad=True)
    total, _ = linear_cross_entropy(torch.ones(2, 1), weight, None, torch.tensor([0, 1]))
    total.backward()
    assert total.item() == 1e4
    assert weight.grad is not None and weight.grad.tolist() == [[1.0], [-1.0]]


@pytest.mark.parametrize("rows", [0, 4])
def test_no_targets_cost_nothing(path: None, rows: int) -> None:
    inputs, _ = problem(4, 5, 3)
    hidden = inputs[0][:rows]
    total, number = linear_cross_entropy(hidden, *inputs[1:], torch.full((rows,), IGNORE_INDEX))
    total.backward()
    assert (total.item(), number.item()) == (0, 0)
    assert all(x.grad is not None and x.grad.shape == x.shape and not x.grad.any() for x in inputs)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_inputs_leave_the_other_gradients(path: None, frozen: int) -> None:
    inputs, targets = problem(7, 5, 3)
    expected = torch.autograd.grad(dense(*inputs, targets), inputs)
    inputs[frozen].requires_grad_(False)
    linear_cross_entropy(*inputs, targets)[0].backward()
    for i, (x, wanted) in enumerate(zip(inputs, expected, strict=True)):
        if i == frozen:
            assert x.grad is None
        else:
            torch.testing.assert_close(x.grad, wanted, rtol=1e-4, atol=1e-5)


def test_a_tied_weight_gets_both_gradients(path: None) -> None:
    (_, weight, _), targets = problem(7, 5, 3)
    ids = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    expected = torch.autograd.grad(dense(weight[ids], weight, None, targets), weight)[0]
    actual = torch.autograd.grad(linear_cross_entropy(weight[ids], weight, None, targets)[0], weight)[0]
    torch.testing.assert_close(actual, expected)


def test_autocast_matches_the_dense_layer_to_bfloat16(path: None) -> None:
    inputs, targets = problem(65, 257, 16)
    exact_total = dense(*inputs, targets)
    exact = torch.autograd.grad(exact_total, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = linear_cross_entropy(*inputs, targets)
    actual = torch.autograd.grad(total, inputs)
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(exact_total.item(), rel=5e-3)
    assert total.item() != exact_total.item(), "the products did not run in bfloat16"
    for gradient, wanted in zip(actual, exact, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - wanted).norm() < 0.01 * wanted.norm()


def test_bfloat16_weights_get_bfloat16_gradients_of_float32_sums(path: None) -> None:
    inputs, targets = problem(65, 257, 16, torch.bfloat16)
    total, _ = linear_cross_entropy(*inputs, targets)
    gradients = torch.autograd.grad(total, inputs)
    hidden, weight, bias = (x.detach().float().requires_grad_() for x in inputs)
    expected = torch.autograd.grad(dense(hidden, weight, bias, targets), (hidden, weight, bias))
    assert total.dtype == torch.float32
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.bfloat16
        assert (gradient.float() - wanted).norm() < 0.01 * wanted.norm()


def test_weight_gradient_is_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand equal contributions of 1: a bfloat16 sum would stop at 256."""
    monkeypatch.setattr(cross_entropy, "SMALL", -1)
    monkeypatch.setattr(cross_entropy, "CPU_BLOCK", 1)
    weight = torch.tensor([[-100.0], [100.0]], dtype=torch.bfloat16, requires_grad=True)
    hidden = torch.ones(1000, 1, dtype=torch.bfloat16)
    linear_cross_entropy(hidden, weight, None, torch.zeros(1000, dtype=torch.int64))[0].backward()
    assert weight.grad is not None and weight.grad.tolist() == [[-1000.0], [1000.0]]


def test_whole_logits_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor of any operation has more elements than a block, apart from the weight."""
    rows, vocab, dim, block = 64, 300, 4, 3000
    monkeypatch.setattr(cross_entropy, "SMALL", -1)
    monkeypatch.setattr(cross_entropy, "CPU_BLOCK", block)
    sizes: list[int] = []

    class Record(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, Tensor))
            return result

    inputs, targets = problem(rows, vocab, dim)
    with Record():
        linear_cross_entropy(*inputs, targets)[0].backward()
        token_losses(*inputs, targets)
    assert max(sizes) <= block < rows * vocab


def test_correct_says_whether_the_target_is_the_likeliest(path: None) -> None:
    hidden = torch.eye(3)
    weight = torch.eye(3)
    _, correct = token_losses(hidden, weight, None, torch.tensor([0, 2, IGNORE_INDEX]))
    assert correct.tolist() == [True, False, False]


def test_ties_are_not_all_correct(path: None) -> None:
    _, correct = token_losses(torch.zeros(5, 1), torch.zeros(5, 1), None, torch.arange(5))
    assert correct.sum() == 1


def test_a_target_outside_the_vocabulary_is_an_error(path: None) -> None:
    with pytest.raises((IndexError, RuntimeError)):
        linear_cross_entropy(torch.zeros(2, 1), torch.zeros(3, 1, requires_grad=True), None, torch.tensor([0, -1]))
    with pytest.raises((IndexError, RuntimeError)):
        token_losses(torch.zeros(2, 1), torch.zeros(3, 1), None, torch.tensor([0, -1]))


@pytest.mark.parametrize("small", [-1, 10_000])
def test_compiled_equals_eager(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "SMALL", small)
    monkeypatch.setattr(cross_entropy, "CPU_BLOCK", 1000)
    inputs, targets = problem(40, 33, 8)

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, bias, targets)[0] * 2

    expected = torch.autograd.grad(loss(*inputs), inputs)
    torch._dynamo.reset()
    actual = torch.autograd.grad(torch.compile(loss, backend="aot_eager")(*inputs), inputs)
    for gradient, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, wanted)
