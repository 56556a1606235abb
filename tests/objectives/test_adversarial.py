"""The gradient penalty against closed forms."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssl_nlp.objectives.adversarial import gradient_penalties


def points(number: int = 6, dim: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    real, made = torch.randn(2, number, dim, generator=generator)
    return real, made


def test_of_a_linear_critic_it_is_the_same_everywhere_and_pulls_the_weights_to_length_1():
    """f(x) = <w, x> + b has the slope |w|, so that the gradient of (|w| - 1)^2 is 2 (|w| - 1) w / |w|."""
    critic = nn.Linear(3, 1)
    weight = torch.tensor([[1.0, 2.0, 2.0]])  # of length 3
    critic.weight.data = weight.clone()
    penalties = gradient_penalties(lambda x: critic(x).squeeze(1), *points())
    assert penalties.tolist() == pytest.approx([4.0] * 6)
    penalties.mean().backward()
    torch.testing.assert_close(critic.weight.grad, 2 * (3 - 1) * weight / 3)
    assert critic.bias.grad is None or not critic.bias.grad.any()


def test_of_a_square_it_is_taken_at_points_on_the_lines_and_leaves_the_points_alone():
    """f(x) = a |x|^2 / 2 has the slope a |x|; the points are those that the seed draws."""
    real, made = (x.requires_grad_() for x in points())
    a = torch.tensor(1.5, requires_grad=True)
    torch.manual_seed(3)
    penalties = gradient_penalties(lambda x: a * x.square().sum(dim=1) / 2, real, made)
    torch.manual_seed(3)
    shares = torch.rand(6, 1)
    expected, slope_of_a = [], 0.0
    for share, r, m in zip(shares, real.detach(), made.detach(), strict=True):
        length = float((share * r + (1 - share) * m).norm())
        expected.append((1.5 * length - 1) ** 2)
        slope_of_a += 2 * (1.5 * length - 1) * length
    assert penalties.tolist() == pytest.approx(expected, rel=1e-5)
    penalties.sum().backward()
    assert float(a.grad) == pytest.approx(slope_of_a, rel=1e-5)
    assert real.grad is None and made.grad is None


def test_it_needs_no_gradient_to_be_counted():
    """Counts of operations ask for none; a flat critic has a slope of 0, where a norm has no gradient."""
    critic = nn.Linear(3, 1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert gradient_penalties(lambda x: critic(x).squeeze(1), *points()).shape == (6,)
    assert counter.get_total_flops() == 2 * 2 * 6 * 3  # of the critic, forward and backward
    nn.init.zeros_(critic.weight)
    penalties = gradient_penalties(lambda x: critic(x).squeeze(1), *points())
    penalties.sum().backward()
    assert penalties.tolist() == [1.0] * 6
    assert critic.weight.grad.isfinite().all()
