"""Hidden tokens of packed rows: how many, which, and their weights."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from ssl_nlp.objectives.masked_diffusion import BITS, hide_tokens, number_texts, reveal_steps, spread_times

CPU = torch.device("cpu")
SEGMENTS = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 3], [1, 1, 1, 1, 1, 1, 0, 0]])
TEXTS = [[0, 0, 0, 0, 1, 1, 1, 2], [3, 3, 3, 3, 3, 3, 3, 3]]
ELIGIBLE = torch.tensor([[0, 1, 1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1, 0, 0]]).bool()
LENGTHS = [3, 2, 0, 5]


def test_texts_are_numbered_through_all_rows() -> None:
    assert number_texts(SEGMENTS).tolist() == TEXTS


def times_of(counts: list[int]) -> Tensor:
    """Times at which so many tokens of the texts are hidden."""
    times = [(2 * k - 1) * 2**BITS // (2 * length) if length else 0 for k, length in zip(counts, LENGTHS, strict=True)]
    return torch.tensor(times + [0] * (SEGMENTS.numel() - len(times)))


def test_every_choice_of_k_tokens_of_a_text_is_equally_likely_and_weighs_l_over_k() -> None:
    seen: list[Counter[tuple[int, ...]]] = [Counter() for _ in LENGTHS]
    for seed in range(600):
        torch.manual_seed(seed)
        hidden = hide_tokens(number_texts(SEGMENTS), ELIGIBLE, times_of([2, 1, 0, 3]))
        assert not (hidden.tokens & ~ELIGIBLE).any()
        for text, (length, k) in enumerate(zip(LENGTHS, [2, 1, 0, 3], strict=True)):
            here = number_texts(SEGMENTS) == text
            chosen = (hidden.tokens & here).flatten().nonzero().flatten().tolist()
            assert len(chosen) == k
            assert hidden.weights.flatten()[chosen].tolist() == pytest.approx([length / k] * k if k else [])
            seen[text][tuple(chosen)] += 1
        assert not hidden.weights[~hidden.tokens].any()
    assert [len(counter) for counter in seen] == [3, 2, 1, 10]
    for counter in seen:
        expected = 600 / len(counter)
        assert all(abs(count - expected) < 5 * expected**0.5 for count in counter.values())


def test_even_weights_are_those_of_the_bound_on_average_over_the_number_of_hidden_tokens() -> None:
    """And the mean loss of k hidden tokens has 2k/(L + 1) times its weight in the bound."""
    texts = number_texts(SEGMENTS)
    for text, length in enumerate(LENGTHS):
        sums = []
        for k in range(1, length + 1):
            counts = [min(1, each) for each in LENGTHS]
            counts[text] = k
            hidden = hide_tokens(texts, ELIGIBLE, times_of(counts), "even")
            weights = hidden.weights[(texts == text) & hidden.tokens]
            assert weights.tolist() == pytest.approx([2 * length / (length + 1)] * k)
            assert not hidden.weights[~hidden.tokens].any()
            sums.append(float(weights.sum()))
        assert sums == pytest.approx([length * 2 * k / (length + 1) for k in range(1, length + 1)])
        assert not sums or sum(sums) / length == pytest.approx(length)


@pytest.mark.parametrize("weighting", ["even", "bound"])
def test_at_most_a_share_of_each_text_is_hidden_and_all_weights_of_a_text_add_up_to_its_length(weighting) -> None:
    """On average over the number of hidden tokens, which is uniform between 1 and the share."""
    texts = number_texts(SEGMENTS)
    for most, largest in ((0.7, [2, 1, 0, 3]), (0.01, [1, 1, 0, 1]), (1.0, LENGTHS)):
        torch.manual_seed(0)
        drawn = [
            hide_tokens(texts, ELIGIBLE, each, weighting, most) for each in spread_times(SEGMENTS.numel(), 12, CPU)
        ]
        for text, (length, number) in enumerate(zip(LENGTHS, largest, strict=True)):
            counts = Counter(int((hidden.tokens & (texts == text)).sum()) for hidden in drawn)
            assert set(counts) == (set(range(1, number + 1)) or {0})
            if 12 % max(number, 1) == 0:
                assert len(set(counts.values())) == 1
                sums = [float(hidden.weights[texts == text].sum()) for hidden in drawn]
                assert sum(sums) / 12 == pytest.approx(length)


def test_the_number_of_hidden_tokens_is_uniform_and_spread_over_draws_exactly() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        times = spread_times(SEGMENTS.numel(), 15, CPU)  # a multiple of 3 and of 5
        counts = []
        for each in times:
            tokens = hide_tokens(number_texts(SEGMENTS), ELIGIBLE, each).tokens
            counts.append([int((tokens & (number_texts(SEGMENTS) == text)).sum()) for text in range(4)])
        first, second, third, fourth = zip(*counts, strict=True)
        assert Counter(first) == {1: 5, 2: 5, 3: 5}
        assert set(second) == {1, 2}
        assert set(third) == {0}
        assert Counter(fourth) == {1: 3, 2: 3, 3: 3, 4: 3, 5: 3}


def test_times_are_uniform_and_spread_over_texts() -> None:
    alone = []
    for seed in range(400):
        torch.manual_seed(seed)
        [times] = spread_times(50, 1, CPU).double() / 2**BITS
        alone.append(float(times[7]))
        for number in (8, 20, 50):
            gaps = times[:number].sort().values.diff()
            assert gaps.max() < 2 / number  # where independent times would leave about (ln number) / number
    counts = torch.tensor(alone).histc(10, 0, 1)
    assert counts.min() > 20 and counts.max() < 65


def test_hidden_tokens_are_revealed_in_random_order_and_evenly() -> None:
    hidden = torch.tensor([[1, 1, 0, 1, 1, 1], [0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0]]).bool()
    orders = set()
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        first, second, third = reveal_steps(hidden, None, generator).tolist()
        assert sorted(first) == [-1, 0, 1, 2, 3, 4]
        assert sorted(second) == [-1, -1, -1, -1, 0, 1]
        assert third == [-1] * 6
        orders.add(tuple(first))
        first, second, third = reveal_steps(hidden, 3, generator).tolist()
        assert Counter(first) in ({-1: 1, 0: 2, 1: 2, 2: 1}, {-1: 1, 0: 2, 1: 1, 2: 2})
        assert sorted(second) == [-1, -1, -1, -1, 0, 1]
        assert third == [-1] * 6
    assert len(orders) > 60
