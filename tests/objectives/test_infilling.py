"""Missing spans against a loop that replaces them one by one, and against all that the noise may do, enumerated."""

import itertools
import math
from collections import Counter

import pytest
import torch

from ssl_nlp.data.batch import IGNORE_INDEX, TokenBatch
from ssl_nlp.errors import UserError
from ssl_nlp.objectives.infilling import Frame, Noise, corrupt_spans, mask_spans, permute_sentences, whole_text
from tests.objectives.sentences import (
    FIRST,
    FRAMES,
    LAST,
    MASK,
    PAD,
    VOCAB,
    distinct,
    examples,
    rows_of,
    sentences,
    within,
)

SENTINELS = list(range(VOCAB + 9, VOCAB, -1))  # descending, as T5's are
NOISES = [Noise(0.15, 3.0), Noise(0.5, 1.0), Noise(0.9, 2.5), Noise(0.4, 20.0)]


def framed(frame, begin=(FIRST,)) -> Frame:
    prefix, suffix = frame
    return Frame(prefix, suffix, list(begin), LAST if suffix else FIRST, PAD)


def spans_corrupted(batch: TokenBatch, noise: Noise, frame: Frame, seed: int = 0) -> tuple[TokenBatch, TokenBatch]:
    torch.manual_seed(seed)
    return corrupt_spans(batch, noise, torch.tensor(SENTINELS), frame)


def restored(source: list[int], target: list[int]) -> tuple[list[int], list[bool]]:
    """The row whose spans a target holds, and for each of its tokens whether it was missing."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in SENTINELS:
            assert token not in spans
            spans[token] = []
        else:
            spans[list(spans)[-1]].append(token)
    row, missing = [], []
    for token in source:
        found = spans.get(token, [token])
        row += found
        missing += [token in spans] * len(found)
    return row, missing


def corrupted_by_loop(row: list[int], missing: list[bool]) -> tuple[list[int], list[int]]:
    source, target, number = [], [], 0
    for i, token in enumerate(row):
        if missing[i] and not (i > 0 and missing[i - 1]):
            source.append(SENTINELS[number])
            target.append(SENTINELS[number])
            number += 1
        (target if missing[i] else source).append(token)
    return source, target


def test_the_numbers_of_missing_tokens_and_spans_are_those_of_t5():
    for noise in NOISES:
        missing, spans = noise.counts(torch.arange(300))
        for length in range(300):
            tokens = min(max(round(length * noise.rate), 1), length - 1) if length > 1 else 0
            expected = min(max(round(tokens / noise.mean_span), 1), length - tokens) if length > 1 else 0
            assert (int(missing[length]), int(spans[length])) == (tokens, expected)
        assert noise.most(299) == (int(missing.max()), int(spans.max()))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("begin", [[FIRST], [PAD], [LAST, FIRST]])
def test_source_and_target_are_those_of_a_loop_and_give_the_text_back(frame, noise, begin):
    batch = sentences(examples(rows=44, longest=14), frame)
    known = framed(frame, begin)
    for seed in range(5):
        source, target = spans_corrupted(batch, noise, known, seed)
        assert (source.packed, source.documents is batch.documents, source.n_tokens) == (False, True, batch.n_tokens)
        assert target.next_ids is not None
        for before, after, ids, text, following in zip(
            rows_of(batch), rows_of(source), target.input_ids.tolist(), target.is_text.tolist(), target.next_ids.tolist(),
            strict=True,
        ):  # fmt: skip
            written = ids[len(begin) : sum(text)]
            row, missing = restored(after, written)
            assert row == before
            assert corrupted_by_loop(row, missing) == (after, written)
            assert following == [*ids[1 : sum(text)], known.end, *[IGNORE_INDEX] * (len(ids) - sum(text))]
            assert ids == [*begin, *written, *[PAD] * (len(ids) - sum(text))]
            content = missing[len(frame[0]) : len(missing) - len(frame[1])]
            tokens, spans = noise.counts(torch.tensor(len(content)))
            assert (sum(content), sum(token in SENTINELS for token in written)) == (int(tokens), int(spans))
            assert sum(missing) == sum(content)


def test_all_divisions_of_a_text_into_spans_are_equally_likely():
    """Of 9 tokens 4 are missing in 2 spans: 3 divisions of these, and 15 pairs of gaps between the 5 that stay."""
    noise, number = Noise(0.45, 2.0), 12000
    source, _ = spans_corrupted(sentences(distinct(number, 9), FRAMES[0]), noise, framed(FRAMES[0]))
    drawn = Counter(map(tuple, rows_of(source)))
    assert len(drawn) == 45
    assert all(within(count, number, 1 / 45) for count in drawn.values())


def infilled(batch: TokenBatch, noise: Noise, frame: Frame, longest: int = 1000) -> TokenBatch:
    return mask_spans(batch, noise, MASK, frame, longest)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("noise", [*NOISES, Noise(0.3, 3.0), Noise(0.1, 1.0)])
def test_infilling_leaves_the_other_tokens_in_order_around_single_masks(frame, noise):
    batch = sentences(examples(rows=44, longest=14), frame)
    for seed in range(5):
        torch.manual_seed(seed)
        source = infilled(batch, noise, framed(frame))
        assert source.next_ids is None
        for before, after in zip(rows_of(batch), rows_of(source), strict=True):
            assert (MASK, MASK) not in itertools.pairwise(after)
            kept = [token for token in after if token != MASK]
            remaining = iter(before)
            assert all(token in remaining for token in kept)
            assert len(kept) >= len(frame[0]) + len(frame[1]) + max(
                after.count(MASK), len(before) > len(frame[0] + frame[1])
            )
            assert after[: len(frame[0])] == frame[0] and after[len(after) - len(frame[1]) :] == frame[1]


def poisson(mean: float, k: int) -> float:
    return math.exp(-mean) * mean**k / math.factorial(k)


def totals(spans: int, mean_span: float, length: int) -> list[float]:
    """The distribution of the number of missing tokens, a Poisson variable cut so that a token stays for each span."""
    found = [poisson(spans * mean_span, k) for k in range(length - spans)]
    return [*found, 1 - sum(found)]


def numbers(noise: Noise, length: int) -> dict[tuple[int, int], float]:
    """The distribution of the numbers of missing tokens and spans, whose neighbours are searched for one by one."""

    def mean(spans: int) -> float:
        return sum(k * p for k, p in enumerate(totals(spans, noise.mean_span, length)))

    high = next(k for k in range(length // 2 + 1) if mean(k) >= noise.rate * length)
    more = (noise.rate * length - mean(high - 1)) / (mean(high) - mean(high - 1))
    return {
        (missing, spans): share * p
        for spans, share in ((high - 1, 1 - more), (high, more))
        for missing, p in enumerate(totals(spans, noise.mean_span, length))
    }


@pytest.mark.parametrize(("noise", "size"), [(Noise(0.3, 1.0), 5), (Noise(0.3, 3.0), 4)])
def test_infilling_draws_numbers_gaps_and_lengths_independently(noise, size):
    """All that may become of a short text, enumerated: one or two spans or none, any gaps, and a span for each token."""
    number, text = 20000, distinct(1, size)[0]
    expected: dict[tuple[int, ...], float] = {}
    for (missing, spans), share in numbers(noise, size).items():
        stay = size - missing
        every_gaps = [*itertools.combinations(range(stay + 1), spans)]
        choices = [*itertools.product(range(spans), repeat=missing)]
        for gaps, chosen in itertools.product(every_gaps, choices):
            rest, row = iter(text), [FIRST]
            for gap in range(stay + 1):
                if gap in gaps:
                    row.append(MASK)
                    for _ in range(chosen.count(gaps.index(gap))):
                        next(rest)
                row += itertools.islice(rest, int(gap < stay))
            probability = share / len(every_gaps) / len(choices)
            expected[tuple(row)] = expected.get(tuple(row), 0.0) + probability
    assert sum(expected.values()) == pytest.approx(1)
    torch.manual_seed(0)
    source = infilled(sentences([text] * number, FRAMES[0]), noise, framed(FRAMES[0]))
    drawn = Counter(map(tuple, rows_of(source)))
    assert drawn.keys() <= expected.keys()
    assert all(
        within(drawn[row], number, probability) for row, probability in expected.items() if probability * number > 5
    )


@pytest.mark.parametrize("length", [2, 3, 7, 12, 40])
@pytest.mark.parametrize("noise", [Noise(0.3, 3.0), Noise(0.15, 3.0), Noise(0.25, 1.0), Noise(0.01, 3.0)])
def test_the_share_of_missing_tokens_is_the_rate_on_average_in_texts_of_any_length(noise, length):
    number = 5000
    torch.manual_seed(0)
    source = infilled(sentences(distinct(number, length), FRAMES[1]), noise, framed(FRAMES[1]))
    missing = torch.tensor([length + 2 - sum(token != MASK for token in row) for row in rows_of(source)]).double()
    assert abs(float(missing.mean()) - noise.rate * length) <= 5 * float(missing.std()) / math.sqrt(number)


def test_what_is_missing_from_a_short_text_cannot_be_told_from_its_length():
    """Twelve tokens lack 3.6 on average: from one mask or two, of any length, none included."""
    torch.manual_seed(0)
    rows = rows_of(infilled(sentences(distinct(2000, 12), FRAMES[1]), Noise(0.3, 3.0), framed(FRAMES[1])))
    drawn = Counter((row.count(MASK), 14 - sum(token != MASK for token in row)) for row in rows)
    assert {spans for spans, _ in drawn} == {1, 2}
    alone = {missing: count for (spans, missing), count in drawn.items() if spans == 1}
    assert {*range(9)} <= {*alone}
    for missing in range(7):
        assert within(alone[missing], sum(alone.values()), poisson(3, missing))


def test_a_text_that_fills_the_encoder_does_not_become_longer():
    torch.manual_seed(0)
    batch = sentences(distinct(500, 12), FRAMES[1])
    assert max(map(len, rows_of(infilled(batch, Noise(0.3, 3.0), framed(FRAMES[1]))))) == 15
    source = infilled(batch, Noise(0.3, 3.0), framed(FRAMES[1]), longest=14)
    assert source.input_ids.shape[1] == max(map(len, rows_of(source))) == 14


@pytest.mark.parametrize("noise", [Noise(0.9, 2.5), Noise(0.6, 1.0), Noise(0.5, 0.5)])
def test_where_spans_have_no_room_their_numbers_are_those_of_t5(noise):
    torch.manual_seed(0)
    for row in rows_of(infilled(sentences(distinct(50, 14), FRAMES[0]), noise, framed(FRAMES[0]))):
        missing, spans = noise.counts(torch.tensor(14))
        assert (15 - sum(token != MASK for token in row), row.count(MASK)) == (int(missing), int(spans))


def test_lengths_of_missing_spans_in_long_texts_are_poisson():
    number, size = 400, 400
    batch = TokenBatch(
        torch.arange(size).repeat(number, 1), torch.ones(number, size).long(), packed=False, padded=False
    )
    torch.manual_seed(0)
    source = mask_spans(batch, Noise(0.3, 3.0), size, Frame([], [], [], 0, 0), longest=size)
    lengths: Counter[int] = Counter()
    for row in rows_of_ids(source):
        kept = [-1, *row, size + 1]
        for i, token in enumerate(kept):
            if token == size and i > 0:
                following = kept[i + 1] if kept[i + 1] <= size else size
                lengths[following - kept[i - 1] - 1] += 1
    total = lengths.total()
    assert total == number * 40
    for k in range(6):
        assert lengths[k] / total == pytest.approx(poisson(3, k), abs=0.01)


def rows_of_ids(batch: TokenBatch) -> list[list[int]]:
    return [ids[: sum(text)] for ids, text in zip(batch.input_ids.tolist(), batch.is_text.tolist(), strict=True)]


@pytest.mark.parametrize("length", [1, 2, 3, 20])
def test_texts_that_were_cut_have_no_end_in_their_frame(length):
    """They fill the batch, which is as wide as they are long."""
    batch = TokenBatch(
        torch.arange(5, 5 + length).repeat(3, 1), torch.ones(3, length).long(), packed=False, padded=False
    )
    batch.input_ids[:, 0] = FIRST
    for noise in NOISES:
        source, target = spans_corrupted(batch, noise, framed(FRAMES[1]))
        for before, after, ids in zip(rows_of_ids(batch), rows_of_ids(source), rows_of_ids(target), strict=True):
            assert restored(after, ids[1:])[0] == before
        assert source.input_ids.shape[1] <= length
        assert infilled(batch, noise, framed(FRAMES[1]), longest=length).input_ids.shape[1] <= length


@pytest.mark.parametrize("frame", FRAMES)
def test_all_orders_of_sentences_are_equally_likely(frame):
    """Of 7, 8. 9. 10, 11 there are 6; frame and padding stay."""
    number, ends = 6000, torch.isin(torch.arange(VOCAB), torch.tensor([8, 9, FIRST, LAST]))
    batch = sentences([[7, 8, 9, 10, 11]] * number + [list(range(20, 28)), []], frame)
    torch.manual_seed(0)
    *drawn, whole, empty = rows_of(permute_sentences(batch, ends, framed(frame)))
    parts = itertools.permutations([[7, 8], [9], [10, 11]])
    expected = {(*frame[0], *itertools.chain(*order), *frame[1]) for order in parts}
    counts = Counter(map(tuple, drawn))
    assert counts.keys() == expected
    assert all(within(count, number, 1 / 6) for count in counts.values())
    assert (whole, empty) == ([*frame[0], *range(20, 28), *frame[1]], [*frame[0], *frame[1]])


def test_a_whole_text_is_predicted_with_its_end_unless_it_was_cut():
    batch = sentences([[5, 6, 7], [8, 9]], FRAMES[0])
    batch.next_ids = torch.tensor([[5, 6, 7, 40], [8, 9, FIRST, IGNORE_INDEX]])
    assert whole_text(batch, framed(FRAMES[0])).next_ids.tolist() == [
        [5, 6, 7, IGNORE_INDEX],
        [8, 9, FIRST, IGNORE_INDEX],
    ]


def test_what_cannot_be_corrupted_is_said_in_one_line():
    packed = TokenBatch(torch.ones(1, 8).long(), torch.tensor([[1, 1, 1, 2, 2, 2, 3, 3]]))
    for corrupted in (spans_corrupted, infilled):
        with pytest.raises(UserError, match="one text a row"):
            corrupted(packed, NOISES[0], framed(FRAMES[0]))
    with pytest.raises(UserError, match=r"10 missing spans, and the tokenizer has 9 sentinels .* to 10 or more"):
        spans_corrupted(sentences(distinct(1, 20), FRAMES[0]), Noise(0.5, 1.0), framed(FRAMES[0]))
