"""Masking against a slow loop over tokens, and against the distributions that it promises."""

import itertools
import math
from collections import Counter
from typing import Literal

import pytest
import torch
from torch import Tensor

from ssl_nlp.data.batch import IGNORE_INDEX, TokenBatch
from ssl_nlp.errors import UserError
from ssl_nlp.objectives.masking import choose_positions, mask_tokens

MASK, SEPARATOR, FIRST = 1, 2, 3
VOCAB = 50
UNITS: list[Literal["token", "word", "span"]] = ["token", "word", "span"]


def choose(batch: TokenBatch, count: int, unit: str, seed: int) -> tuple[Tensor, Tensor]:
    """The positions that are drawn after this seed."""
    torch.manual_seed(seed)
    return choose_positions(batch, maskable(), count, unit)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maskable() -> Tensor:
    """(V,): all but pad, mask and separator."""
    return torch.arange(VOCAB) > SEPARATOR


def only(*tokens: int) -> Tensor:
    """(V,): these alone."""
    return torch.isin(torch.arange(VOCAB), torch.tensor(tokens))


def packed_batch(rows: int = 8, columns: int = 64, seed: int = 0) -> TokenBatch:
    """Rows of packed documents with separators inside, padding (of any id) at the end, and words of about two tokens."""
    generator = seeded(seed)
    ids = torch.randint(FIRST, VOCAB, (rows, columns), generator=generator)
    ids[torch.rand(ids.shape, generator=generator) < 0.05] = SEPARATOR
    segments = 1 + (torch.rand(ids.shape, generator=generator) < 0.05).cumsum(1)
    lengths = torch.randint(columns // 2, columns + 1, (rows, 1), generator=generator)
    lengths[::2] = columns
    padding = torch.arange(columns) >= lengths
    starts = torch.rand(ids.shape, generator=generator) < 0.5
    return TokenBatch(ids, segments.masked_fill(padding, 0), starts_word=starts)


def units_by_loop(batch: TokenBatch, starts: Tensor) -> list[set[int]]:
    """Flat positions of maskable text, grouped into runs that begin at `starts`, row, document or special token."""
    units: list[set[int]] = []
    rows, columns = batch.input_ids.shape
    for row in range(rows):
        for column in range(columns):
            if batch.segment_ids[row, column] == 0 or batch.input_ids[row, column] <= SEPARATOR:
                continue
            continues = (
                column > 0
                and not starts[row, column]
                and batch.segment_ids[row, column] == batch.segment_ids[row, column - 1]
                and batch.input_ids[row, column - 1] > SEPARATOR
            )
            if not continues:
                units.append(set())
            units[-1].add(row * columns + column)
    return units


def eligible_by_loop(batch: TokenBatch) -> set[int]:
    return set().union(*units_by_loop(batch, torch.ones_like(batch.input_ids, dtype=torch.bool)))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("count", [0, 1, 20, 100, 300, 512])
def test_a_fixed_number_of_distinct_maskable_positions(unit: Literal["token", "word", "span"], count: int) -> None:
    batch = packed_batch()
    eligible = eligible_by_loop(batch)
    for seed in range(20):
        positions, chosen = choose(batch, count, unit, seed)
        assert positions.shape == chosen.shape == (count,)
        assert (positions.dtype, chosen.dtype) == (torch.int64, torch.bool)
        assert len(set(positions.tolist())) == count
        assert set(positions[chosen].tolist()) <= eligible
        if unit == "token" or count == 512:
            assert chosen.sum() == min(count, len(eligible))


@pytest.mark.parametrize("count", [1, 20, 100, 250])
def test_words_stay_whole_and_the_budget_is_used(count: int) -> None:
    batch = packed_batch()
    assert batch.starts_word is not None
    words = units_by_loop(batch, batch.starts_word)
    longest = max(map(len, words))
    draws = []
    for seed in range(100):
        positions, chosen = choose(batch, count, "word", seed)
        taken = set(positions[chosen].tolist())
        assert all(word <= taken or not word & taken for word in words)
        assert count - longest < len(taken) <= count
        draws.append(taken)
    if count >= 100:
        for word, following in itertools.pairwise(words):
            assert any((word <= taken) != (following <= taken) for taken in draws), "two words went as one"


@pytest.mark.parametrize("unit", ["word", "span"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_small_batch_never_chooses_nothing(unit: Literal["word", "span"], count: int) -> None:
    """Words of one to four tokens: whole ones, if any is short enough; otherwise as much of one as fits."""
    starts = torch.tensor([[True, True, False, False, False, True, False, True, False, False]])
    ids = torch.full_like(starts, FIRST, dtype=torch.int64)
    batch = TokenBatch(ids, torch.ones_like(ids), starts_word=starts)
    words = units_by_loop(batch, starts)
    long = TokenBatch(ids[:, 1:5], torch.ones_like(ids[:, 1:5]), starts_word=starts[:, 1:5])
    drawn = Counter[frozenset[int]]()
    for seed in range(200):
        positions, chosen = choose(batch, count, unit, seed)
        taken = set(positions[chosen].tolist())
        assert taken
        if unit == "word":
            assert all(word <= taken or not word & taken for word in words)
            drawn.update(frozenset(word) for word in words if word <= taken)
        positions, chosen = choose(long, count, unit, seed)
        assert chosen.all()
        assert sorted(positions.tolist()) == list(range(count))
    if unit == "word":
        assert set(drawn) == {frozenset(word) for word in words if len(word) <= count}


def test_spans_are_runs_of_whole_words() -> None:
    batch = packed_batch()
    assert batch.starts_word is not None
    words = units_by_loop(batch, batch.starts_word)
    follows = {max(word) + 1: word for word in words}
    runs = Counter[bool]()
    for seed in range(50):
        positions, chosen = choose(batch, 60, "span", seed)
        taken = set(positions[chosen].tolist())
        assert all(word <= taken or not word & taken for word in words)
        for word in words:
            if min(word) in follows and word <= taken:
                runs[follows[min(word)] <= taken] += 1
    share = runs[True] / runs.total()
    assert share > 0.6, "the neighbour of a chosen word is chosen as rarely as any other"


def span_lengths(seed: int, columns: int = 20_000) -> list[int]:
    """Lengths in words of the spans that one draw picks from a single document of words of two tokens."""
    ids = torch.full((1, columns), FIRST)
    starts = (torch.arange(columns) % 2 == 0).unsqueeze(0)
    batch = TokenBatch(ids, torch.ones_like(ids), starts_word=starts)
    positions, chosen = choose(batch, columns // 200, "span", seed)
    lengths, last = [0], None
    for position in sorted(positions[chosen].tolist()):
        if last is not None and position != last + 1:
            lengths.append(0)
        lengths[-1] += 1
        last = position
    assert all(length % 2 == 0 for length in lengths)
    return [length // 2 for length in lengths]


def test_span_lengths_are_geometric_with_mean_five() -> None:
    # One position in 200 is chosen, so that neighbouring spans rarely melt into one.
    lengths = [length for seed in range(300) for length in span_lengths(seed)]
    number = len(lengths)
    deviation = math.sqrt(20 / number)  # of the mean of geometric variables with p = 0.2
    # The span that the budget cuts is dropped, and long ones are cut more often: the mean may lie a little lower.
    assert 5 - 0.5 - 4 * deviation < sum(lengths) / number < 5 + 4 * deviation
    for length in range(1, 6):
        expected = 0.2 * 0.8 ** (length - 1)
        assert lengths.count(length) / number == pytest.approx(expected, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_equally_likely(unit: Literal["token", "word", "span"]) -> None:
    batch = packed_batch(rows=2, columns=32)
    assert batch.starts_word is not None
    eligible = sorted(eligible_by_loop(batch))
    draws, count = 2000, 24
    hits = Counter[int]()
    for seed in range(draws):
        positions, chosen = choose(batch, count, unit, seed)
        hits.update(positions[chosen].tolist())
    mean = hits.total() / len(eligible)
    share = mean / draws
    slack = 5 * math.sqrt(draws * share * (1 - share)) + (0 if unit == "token" else 0.2 * mean)
    assert all(abs(hits[position] - mean) < slack for position in eligible)


def test_equal_scores_do_not_mix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches of many thousand tokens some units draw the same float32."""
    batch = packed_batch()
    assert batch.starts_word is not None
    words = units_by_loop(batch, batch.starts_word)
    monkeypatch.setattr(torch, "rand", lambda *size, generator=None, device=None: torch.full(size, 0.5))
    positions, chosen = choose_positions(batch, maskable(), 101, "word")
    taken = set(positions[chosen].tolist())
    assert taken
    assert all(word <= taken or not word & taken for word in words)


def test_the_seed_decides() -> None:
    batch = packed_batch()
    for unit in UNITS:
        first, again, other = (choose(batch, 50, unit, s) for s in (1, 1, 2))
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])
        assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("unit", ["word", "span"])
def test_words_need_a_tokenizer_that_marks_them(unit: Literal["word", "span"]) -> None:
    batch = packed_batch()
    with pytest.raises(UserError, match=f"^masking by {unit} needs a tokenizer that .* token instead$"):
        choose_positions(TokenBatch(batch.input_ids, batch.segment_ids), maskable(), 5, unit)


def test_more_positions_than_the_batch_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="513 of 512"):
        choose_positions(packed_batch(), maskable(), 513, "token")


def test_eighty_ten_ten() -> None:
    number, replacements = 60_000, only(*range(10, 20))
    ids = torch.full((10, 10_000), 30)
    positions = torch.randperm(ids.numel(), generator=seeded(0))[:number]
    chosen = torch.ones(number, dtype=torch.bool)
    torch.manual_seed(1)
    corrupted, targets = mask_tokens(ids, positions, chosen, MASK, replacements)
    seen = corrupted.flatten()[positions]
    shares = {"mask": seen == MASK, "random": replacements[seen], "same": seen == 30}
    for name, expected in (("mask", 0.8), ("random", 0.1), ("same", 0.1)):
        bound = 4 * math.sqrt(expected * (1 - expected) / number)
        assert shares[name].float().mean().item() == pytest.approx(expected, abs=bound)
    assert sum(share.sum() for share in shares.values()) == number
    assert set(seen.tolist()) == {MASK, 30, *range(10, 20)}, "every replacement is drawn, and nothing else"
    drawn = seen[shares["random"]].bincount()[10:] / shares["random"].sum()
    assert drawn.tolist() == pytest.approx([0.1] * 10, abs=4 * math.sqrt(0.09 / 6000)), "and all as often"
    assert (targets == 30).all()
    untouched = torch.ones(ids.numel(), dtype=torch.bool)
    untouched[positions] = False
    assert (corrupted.flatten()[untouched] == 30).all()


def test_probabilities_can_be_set() -> None:
    ids = torch.arange(10, 40).view(2, 15)
    positions, chosen = torch.arange(30), torch.ones(30, dtype=torch.bool)
    for probabilities, expected in (((1.0, 0.0, 0.0), {MASK}), ((0.0, 1.0, 0.0), {7}), ((0.0, 0.0, 1.0), None)):
        corrupted, _ = mask_tokens(ids, positions, chosen, MASK, only(7), probabilities)
        assert torch.equal(corrupted, ids) if expected is None else set(corrupted.flatten().tolist()) == expected


def test_positions_that_are_not_chosen_stay_and_are_no_targets() -> None:
    ids = torch.arange(10, 40).view(2, 15)
    before = ids.clone()
    positions, chosen = torch.tensor([3, 29, 0]), torch.tensor([True, False, False])
    corrupted, targets = mask_tokens(ids, positions, chosen, MASK, only(7), (1.0, 0.0, 0.0))
    assert torch.equal(ids, before)
    assert targets.tolist() == [13, IGNORE_INDEX, IGNORE_INDEX]
    assert (corrupted != ids).nonzero().tolist() == [[0, 3]]
    assert corrupted[0, 3] == MASK


def test_no_value_of_the_batch_reaches_the_host() -> None:
    """Shapes must follow from shapes alone: on tensors without data every look at a value is an error."""
    real = packed_batch()
    assert real.starts_word is not None
    batch = TokenBatch(real.input_ids.to("meta"), real.segment_ids.to("meta"), starts_word=real.starts_word.to("meta"))
    for unit in UNITS:
        positions, chosen = choose_positions(batch, maskable().to("meta"), 40, unit)
        corrupted, targets = mask_tokens(batch.input_ids, positions, chosen, MASK, only(7).to("meta"))
        assert (positions.shape, targets.shape, corrupted.shape) == ((40,), (40,), (8, 64))
