"""Sampling from known distributions: what may be chosen, and how often."""

import inspect
import math

import pytest
import torch

from ssl_nlp.errors import UserError
from ssl_nlp.modules.sampling import Sampling, SamplingOptions, check_amount, most_probable

CPU = torch.device("cpu")
LOGITS = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log().repeat(2000, 1)


@pytest.mark.parametrize(
    ("options", "possible"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 9}, {0, 1, 2, 3}),
        ({"top_p": 0.65}, {0, 1}),
        ({"top_p": 0.71}, {0, 1, 2}),
        ({"top_p": 1e-9}, {0}),
        ({"top_k": 3, "top_p": 0.7}, {0, 1}),  # the nucleus of what the first leaves: 0.44, 0.33 and 0.22
        ({"temperature": 0}, {0}),
        ({"temperature": 1e-5}, {0}),
        ({"temperature": 1e-46}, {0}),  # 0 in float32
    ],
)
def test_it_keeps_to_the_most_probable_tokens_and_the_nucleus(options, possible):
    assert set(Sampling(CPU, seed=0, **options)(LOGITS).tolist()) == possible


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_token_is_as_frequent_as_its_probability_to_the_power_of_one_over_the_temperature(temperature):
    shares = Sampling(CPU, temperature, seed=0)(LOGITS).bincount(minlength=4) / len(LOGITS)
    powers = torch.tensor([0.4, 0.3, 0.2, 0.1]) ** (1 / temperature)
    assert torch.allclose(shares, powers / powers.sum(), atol=0.05)


def test_a_seed_repeats_the_draws_and_no_seed_does_not():
    state = torch.get_rng_state()
    first, again, other = (Sampling(CPU, seed=seed)(LOGITS) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(Sampling(CPU)(LOGITS), Sampling(CPU)(LOGITS))
    assert torch.equal(state, torch.get_rng_state())


def test_the_most_probable_tokens_are_those_of_temperature_0():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert Sampling(CPU, temperature=0)(logits).tolist() == most_probable(logits).tolist()
    assert most_probable(logits).tolist() == [max(range(7), key=row.__getitem__) for row in logits.tolist()]


def test_methods_take_the_options_that_it_takes():
    assert {"device", *SamplingOptions.__annotations__} == {*inspect.signature(Sampling).parameters}


def test_bad_options_are_refused_together():
    with pytest.raises(UserError, match="temperature must be 0 or more, not -1; top_k must be 1 or more, not 0; top_p"):
        Sampling(CPU, temperature=-1, top_k=0, top_p=1.5, seed=-1)
    for bad in (
        {"temperature": math.inf},
        {"temperature": math.nan},
        {"top_p": math.nan},
        {"top_p": 0.0},
        {"seed": 2**63},
    ):
        with pytest.raises(UserError, match=f"^{next(iter(bad))} must be .* {next(iter(bad.values()))}$"):
            Sampling(CPU, **bad)
    with pytest.raises(UserError, match="max_new_tokens must be 1 or more, not 0; number must be 0 or more, not -1"):
        check_amount(0, -1)
