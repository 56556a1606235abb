"""Diagonal Gaussians against torch.distributions, exact models and closed forms."""

import itertools
import math
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from ssl_nlp.objectives.gaussian import (
    annealing,
    free_bits,
    gaussian_log_density,
    importance_weighted_nll,
    kl_to_standard_normal,
    mutual_information,
    reparameterize,
)


def posterior(rows: int, dim: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    mean, log_variance = torch.randn(2, rows, dim, generator=generator, dtype=dtype)
    return mean, log_variance


def normal(mean: Tensor, log_variance: Tensor) -> Normal:
    return Normal(mean, (log_variance / 2).exp())


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2, 40)])
def test_divergence_and_density_equal_torch_distributions(shape: tuple[int, int]) -> None:
    mean, log_variance = posterior(*shape)
    expected = kl_divergence(normal(mean, log_variance), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = normal(mean, log_variance).log_prob(x).sum(dim=1)
    torch.testing.assert_close(gaussian_log_density(x, mean, log_variance), expected)


def test_the_standard_normal_is_at_no_distance_from_itself() -> None:
    assert kl_to_standard_normal(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [[0, 0, 0]] * 2
    near = kl_to_standard_normal(torch.zeros(1), torch.tensor([1e-3]))  # x^2 / 4 for a small log variance x
    assert near.item() == pytest.approx(2.5e-7, rel=1e-2)


def test_draws_have_the_moments_and_gradients_of_the_posterior() -> None:
    mean = torch.tensor([[-1.0, 3.0]], dtype=torch.float64, requires_grad=True)
    log_variance = torch.tensor([[-2.0, 1.0]], dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    z = reparameterize(mean.expand(100_000, 2), log_variance.expand(100_000, 2))
    deviation = (log_variance[0] / 2).exp()
    torch.testing.assert_close(z.mean(dim=0), mean[0], rtol=0, atol=0.03)
    torch.testing.assert_close(z.std(dim=0), deviation, rtol=0.02, atol=0)
    (of_mean, of_log_variance) = torch.autograd.grad(z.square().sum(dim=1).mean(), (mean, log_variance))
    torch.testing.assert_close(of_mean, 2 * mean, rtol=0.02, atol=0)  # E z^2 = mean^2 + variance
    torch.testing.assert_close(of_log_variance, log_variance.exp(), rtol=0.05, atol=0)


def test_draws_differ_and_the_seed_decides() -> None:
    torch.manual_seed(3)
    first, second = (reparameterize(torch.zeros(2, 3), torch.zeros(2, 3)) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(reparameterize(torch.zeros(2, 3), torch.zeros(2, 3)), first)
    assert not torch.equal(first, second)


class LinearGaussian:
    """z ~ N(0, I), x | z ~ N(W z, s^2 I): its marginal is known, and so is what a wrong posterior loses."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(3, 2, generator=generator, dtype=torch.float64)
        self.log_variance = torch.tensor(-1.0, dtype=torch.float64)
        covariance = self.weight @ self.weight.T + self.log_variance.exp() * torch.eye(3, dtype=torch.float64)
        self.marginal = MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance)
        self.x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        precision = torch.eye(2, dtype=torch.float64) + self.weight.T @ self.weight / self.log_variance.exp()
        self.posterior_covariance = precision.inverse()
        self.posterior_mean = self.x @ self.weight @ self.posterior_covariance / self.log_variance.exp()

    def bound(self, samples: int, repeats: int) -> Tensor:
        """(repeats, B): the bound with a diagonal posterior, which is near the true one but not equal."""
        shape = samples * repeats, *self.posterior_mean.shape
        mean = (self.posterior_mean + 0.1).expand(shape)
        log_variance = self.posterior_covariance.diagonal().log().expand(shape)
        z = reparameterize(mean, log_variance)
        x_given_z = gaussian_log_density(self.x, z @ self.weight.T, self.log_variance)
        prior = gaussian_log_density(z, torch.zeros_like(z), torch.zeros_like(z))
        weights = (x_given_z, prior, gaussian_log_density(z, mean, log_variance))
        return torch.stack(
            [importance_weighted_nll(*parts) for parts in zip(*(w.chunk(repeats) for w in weights), strict=True)]
        )


def test_the_importance_weighted_bound_tightens_with_the_samples() -> None:
    model = LinearGaussian()
    exact = -model.marginal.log_prob(model.x)
    torch.manual_seed(0)
    gaps = [(model.bound(k, 2000).mean(dim=0) - exact).mean().item() for k in (1, 4, 16)]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0
    torch.testing.assert_close(model.bound(100_000, 1)[0], exact, rtol=0, atol=0.02)


def test_one_sample_is_the_negative_elbo_and_large_numbers_do_not_overflow() -> None:
    terms = [torch.tensor([[value]]) for value in (-5000.0, -7.0, -3.0)]
    assert importance_weighted_nll(*terms).item() == pytest.approx(5004)
    assert importance_weighted_nll(*(term.expand(8, 1) for term in terms)).item() == pytest.approx(5004)


def free_bits_by_loop(kl: list[list[float]], nats: float, per: str) -> float:
    """Its mean over sentences: each group's mean, but at least `nats`."""
    if per == "total":
        kl = [[sum(row)] for row in kl]
    return sum(max(nats, sum(column) / len(column)) for column in zip(*kl, strict=True))


@pytest.mark.parametrize("per", ["dimension", "total"])
@pytest.mark.parametrize("nats", [0.0, 0.5, 2.0, 50.0])
def test_free_bits_equal_the_slow_loop(nats: float, per: Literal["dimension", "total"]) -> None:
    kl = kl_to_standard_normal(*posterior(6, 8)).requires_grad_()
    clamped = free_bits(kl, nats, per)
    expected = free_bits_by_loop(kl.tolist(), nats, per)
    assert clamped.shape == (6,)
    assert clamped.mean().item() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(clamped.sum(), kl)
    kept = kl.mean(dim=0) > nats if per == "dimension" else (kl.sum(dim=1).mean() > nats).expand(8)
    assert torch.equal(gradient, kept.double().expand(6, 8))
    if nats == 0:
        torch.testing.assert_close(clamped, kl.sum(dim=1))


def test_free_bits_judge_the_batch_not_the_sentence() -> None:
    kl = torch.tensor([[0.0, 0.1], [2.0, 0.3]])
    assert free_bits(kl, 0.5, "dimension").tolist() == pytest.approx([0.0 + 0.5, 2.0 + 0.5])
    assert free_bits(kl, 1.0, "total").tolist() == pytest.approx([0.1, 2.3])
    assert free_bits(kl, 1.5, "total").tolist() == [1.5, 1.5]


def test_mutual_information_lies_between_nothing_and_all_sentences() -> None:
    torch.manual_seed(0)
    log_variance = torch.zeros(32, 4)
    alike = torch.randn(4).expand(32, 4)
    torch.testing.assert_close(
        mutual_information(reparameterize(alike, log_variance), alike, log_variance), torch.zeros(32), atol=1e-5, rtol=0
    )
    apart = 1000 * torch.randn(32, 4)
    torch.testing.assert_close(
        mutual_information(reparameterize(apart, log_variance), apart, log_variance), torch.full((32,), math.log(32))
    )
    between = 0.7 * torch.randn(32, 4)
    values = mutual_information(reparameterize(between, log_variance), between, log_variance)
    assert (values <= math.log(32) + 1e-5).all()
    assert 0.1 < values.mean() < math.log(32) - 0.5


def test_mutual_information_of_a_known_channel() -> None:
    """Means ~ N(0, 3) seen through unit noise: I = ln(1 + 3) / 2. A batch estimates it with a deviation of 0.02."""
    torch.manual_seed(0)
    estimates = []
    for _ in range(25):
        mean, log_variance = math.sqrt(3) * torch.randn(2000, 1), torch.zeros(2000, 1)
        estimates.append(mutual_information(reparameterize(mean, log_variance), mean, log_variance).mean().item())
    assert sum(estimates) / 25 == pytest.approx(math.log(4) / 2, abs=0.02)


def test_bfloat16_is_widened_under_autocast_too() -> None:
    mean, log_variance = posterior(6, 3, torch.bfloat16)

    def values(mean: Tensor, log_variance: Tensor) -> list[Tensor]:
        torch.manual_seed(0)
        z = torch.randn(6, 3).to(mean.dtype)
        return [
            kl_to_standard_normal(mean, log_variance),
            gaussian_log_density(z, mean, log_variance),
            mutual_information(z, mean, log_variance),
            importance_weighted_nll(mean, log_variance, z),
        ]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = [*values(mean, log_variance), reparameterize(mean, log_variance)]
    assert {value.dtype for value in actual} == {torch.float32}
    torch.manual_seed(0)
    z = torch.randn(6, 3).bfloat16().float()
    wide = mean.float(), log_variance.float()
    torch.testing.assert_close(actual[0], kl_to_standard_normal(*wide))
    torch.testing.assert_close(actual[1], gaussian_log_density(z, *wide))
    torch.testing.assert_close(actual[2], mutual_information(z, *wide))
    torch.testing.assert_close(actual[3], importance_weighted_nll(*wide, z))


def test_gradients_equal_finite_differences() -> None:
    mean, log_variance = (x.requires_grad_() for x in posterior(3, 2))
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(kl_to_standard_normal, (mean, log_variance))
    assert torch.autograd.gradcheck(gaussian_log_density, (x, mean, log_variance))
    assert torch.autograd.gradcheck(importance_weighted_nll, (x, mean, log_variance))


def test_annealing_follows_its_schedule() -> None:
    assert [annealing(step, "none", 10) for step in (0, 5, 99)] == [1, 1, 1]
    assert [annealing(step, "linear", 4) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    weights = [annealing(step, "cyclical", 16, cycles=2, ratio=0.5) for step in range(18)]
    assert weights == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1] * 2 + [1, 1]
    sawtooth = [annealing(step, "cyclical", 8, cycles=2, ratio=1.0) for step in range(9)]
    assert sawtooth == [0, 0.25, 0.5, 0.75, 0, 0.25, 0.5, 0.75, 1]
    assert annealing(0, "linear", 0) == annealing(0, "cyclical", 0) == 1
    uneven = [annealing(step, "cyclical", 1000, cycles=7, ratio=0.3) for step in range(1000)]
    assert sum(later < earlier for earlier, later in itertools.pairwise(uneven)) == 6
    assert sum(weight == 1 for weight in uneven) == pytest.approx(700, abs=7)
