"""Replacing tokens against a loop over them, drawing against the distribution, detection against the definition."""

import math

import pytest
import torch

from ssl_nlp.objectives.replaced_token import detection_loss, replace_tokens, sample_tokens


def sampled(logits: torch.Tensor, allowed: torch.Tensor, seed: int) -> torch.Tensor:
    """The tokens that are drawn after this seed."""
    torch.manual_seed(seed)
    return sample_tokens(logits, allowed)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_replacing_equals_a_loop_and_a_token_that_stays_the_same_is_not_replaced() -> None:
    ids = torch.randint(0, 4, (5, 7), generator=seeded(0))
    positions = torch.randperm(35, generator=seeded(1))[:20]
    chosen = torch.rand(20, generator=seeded(2)) < 0.7
    tokens = torch.randint(0, 4, (20,), generator=seeded(3))
    before = ids.clone()
    corrupted, replaced = replace_tokens(ids, positions, chosen, tokens)
    expected, flags = [row.copy() for row in ids.tolist()], [[False] * 7 for _ in range(5)]
    same = 0
    for position, take, token in zip(positions.tolist(), chosen.tolist(), tokens.tolist(), strict=True):
        row, column = divmod(position, 7)
        if take:
            flags[row][column] = expected[row][column] != token
            same += expected[row][column] == token
            expected[row][column] = token
    assert same > 0
    assert any(map(any, flags))
    assert corrupted.tolist() == expected
    assert replaced.tolist() == flags
    assert torch.equal(ids, before)


def test_tokens_are_drawn_in_proportion_among_those_that_may_be_without_a_gradient() -> None:
    probabilities = torch.tensor([0.1, 0.3, 0.2, 0.4, 0.0])
    logits = (probabilities.log().clamp(min=-50) + 3).repeat(20_000, 1).requires_grad_()
    allowed = torch.tensor([True, False, True, True])  # there are more logits than tokens: the last one is never drawn
    drawn = sampled(logits, allowed, 0)
    assert not drawn.requires_grad
    shares = drawn.bincount(minlength=5) / len(drawn)
    for share, expected in zip(shares.tolist(), [1 / 7, 0, 2 / 7, 4 / 7, 0], strict=True):
        assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / len(drawn)))
    assert torch.equal(drawn, sampled(logits, allowed, 0))
    assert not torch.equal(drawn, sampled(logits, allowed, 1))


def test_half_precision_logits_are_drawn_from_in_single_precision() -> None:
    logits = torch.randn(5000, 400, generator=seeded(0)).bfloat16()
    allowed = torch.ones(400, dtype=torch.bool)
    drawn = sampled(logits, allowed, 1)
    assert torch.equal(drawn, sampled(logits.float(), allowed, 1))


def test_detection_is_the_binary_cross_entropy_of_real_tokens() -> None:
    logits = torch.randn(4, 6, generator=seeded(0)) * 5
    replaced = torch.rand(4, 6, generator=seeded(1)) < 0.3
    real = torch.rand(4, 6, generator=seeded(2)) < 0.8
    expected = 0.0
    for logit, gone, here in zip(*(x.flatten().tolist() for x in (logits, replaced, real)), strict=True):
        probability = 1 / (1 + math.exp(-logit))
        expected -= here * math.log(probability if gone else 1 - probability)
    total, number = detection_loss(logits, replaced, real)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert int(number) == int(real.sum())
    assert detection_loss(logits.bfloat16(), replaced, real)[0].dtype == torch.float32


def test_no_value_of_the_batch_reaches_the_host() -> None:
    """Shapes must follow from shapes alone: on tensors without data every look at a value is an error."""
    ids, positions = (
        torch.zeros(4, 8, dtype=torch.int64, device="meta"),
        torch.zeros(6, dtype=torch.int64, device="meta"),
    )
    drawn = sample_tokens(torch.zeros(6, 20, device="meta"), torch.ones(20, dtype=torch.bool, device="meta"))
    corrupted, replaced = replace_tokens(ids, positions, positions > 0, drawn)
    total, number = detection_loss(torch.zeros(4, 8, device="meta"), replaced, replaced)
    assert (drawn.shape, corrupted.shape, total.shape, number.shape) == ((6,), (4, 8), (), ())
