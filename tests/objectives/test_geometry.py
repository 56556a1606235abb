"""Geometry of embeddings against closed forms and slow loops."""

import itertools
import math
import statistics

import pytest
import torch
from torch import Tensor

from ssl_nlp.objectives.geometry import alignment, effective_rank, embedding_spread, uniformity

SHAPES = [(2, 1), (3, 5), (12, 4), (9, 9)]


def gaussian(rows: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normalized(x: Tensor) -> list[list[float]]:
    return [[value / math.hypot(*row) for value in row] for row in x.tolist()]


@pytest.mark.parametrize("shape", SHAPES)
def test_spread_equals_the_slow_loop(shape: tuple[int, int]) -> None:
    x = gaussian(*shape)
    expected = statistics.mean(map(statistics.stdev, zip(*normalized(x), strict=True))) * math.sqrt(shape[1])
    assert embedding_spread(x).item() == pytest.approx(expected)
    assert embedding_spread(x * torch.rand(shape[0], 1) * 9).item() == pytest.approx(expected), "lengths play a part"


def test_spread_of_closed_forms() -> None:
    assert embedding_spread(torch.eye(7)).item() == pytest.approx(1)
    assert embedding_spread(gaussian(4000, 32)).item() == pytest.approx(1, abs=0.01)
    assert embedding_spread(torch.ones(5, 3)).item() == 0
    assert embedding_spread(torch.ones(1, 3)).item() == 0


@pytest.mark.parametrize("shape", [*SHAPES, (40, 6)])
def test_effective_rank_equals_the_eigenvalues_of_the_covariance(shape: tuple[int, int]) -> None:
    x = gaussian(*shape)
    covariance = torch.cov(x.T).reshape(shape[1], shape[1])
    singular = [math.sqrt(value) for value in torch.linalg.eigvalsh(covariance).tolist() if value > 1e-12]
    shares = [value / sum(singular) for value in singular]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert effective_rank(x).item() == pytest.approx(expected)
    assert effective_rank(1000 + x).item() == pytest.approx(expected), "the common mean counts as a direction"


def test_effective_rank_of_closed_forms() -> None:
    # Centred, D orthonormal vectors span D - 1 directions alike.
    assert effective_rank(torch.eye(7)).item() == pytest.approx(6)
    assert effective_rank(torch.cat([torch.eye(5), -torch.eye(5)])).item() == pytest.approx(5)
    assert effective_rank(gaussian(20_000, 8)).item() == pytest.approx(8, rel=0.01)
    assert effective_rank(torch.arange(4.0)[:, None] * torch.ones(6)).item() == pytest.approx(1)
    assert effective_rank(torch.ones(1, 3)).item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rounding_is_no_direction(dtype: torch.dtype) -> None:
    """Embeddings that differ in their last digit alone have collapsed."""
    x = gaussian(1, 16, dtype=dtype).expand(50, 16) * (1 + gaussian(50, 16, 1, dtype) * torch.finfo(dtype).eps / 2)
    assert len(x.unique(dim=0)) > 10
    assert effective_rank(x).item() == 1
    assert embedding_spread(x).item() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_alignment_and_uniformity_equal_slow_loops(shape: tuple[int, int]) -> None:
    x, y = gaussian(*shape), gaussian(*shape, seed=1)
    partners = zip(normalized(x), normalized(y), strict=True)
    assert alignment(x, y).item() == pytest.approx(statistics.mean(math.dist(*pair) ** 2 for pair in partners))
    for t in (0.5, 2.0):
        potentials = [math.exp(-t * math.dist(*pair) ** 2) for pair in itertools.combinations(normalized(x), 2)]
        assert uniformity(x, t).item() == pytest.approx(math.log(statistics.mean(potentials)), abs=1e-9)


def test_alignment_and_uniformity_of_closed_forms() -> None:
    x = gaussian(20, 8, dtype=torch.float32)
    assert alignment(x, 3 * x).item() == pytest.approx(0, abs=1e-6)
    assert alignment(x, -x).item() == pytest.approx(4)
    assert alignment(torch.eye(6), torch.eye(6).roll(1, 0)).item() == pytest.approx(2)
    assert uniformity(torch.ones(9, 4)).item() == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.eye(6)).item() == pytest.approx(-4)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), t=200).item() == pytest.approx(-800), "it underflows"
    with pytest.raises(ValueError, match="2 rows, not 1"):
        uniformity(torch.ones(1, 4))


def test_bfloat16_is_widened_under_autocast_too() -> None:
    x, y = gaussian(60, 8, dtype=torch.bfloat16), gaussian(60, 8, 1, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = [embedding_spread(x), effective_rank(x), alignment(x, y), uniformity(x)]
    x, y = x.double(), y.double()
    exact = [embedding_spread(x), effective_rank(x), alignment(x, y), uniformity(x)]
    assert {value.dtype for value in actual} == {torch.float32}
    for value, wanted in zip(actual, exact, strict=True):
        assert value.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_gradients_equal_finite_differences() -> None:
    x, y = gaussian(4, 3).requires_grad_(), gaussian(4, 3, 1).requires_grad_()
    assert torch.autograd.gradcheck(alignment, (x, y))
    assert torch.autograd.gradcheck(uniformity, (x,))
