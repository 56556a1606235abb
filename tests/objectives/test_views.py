"""Views against what they promise, row by row in plain Python, and against the distributions that they draw from."""

import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from jsonargparse import auto_cli

from ssl_nlp.errors import UserError
from ssl_nlp.objectives.views import (
    Crop,
    Delete,
    Mask,
    Repeat,
    Replace,
    ShuffleSpans,
    View,
    Vocabulary,
    apply_views,
)
from tests.objectives.sentences import (
    CONTENT,
    FRAMES,
    MASK,
    PAD,
    UNKNOWN,
    VOCAB,
    Frame,
    contents_of,
    corrupted,
    distinct,
    examples,
    is_subsequence,
    rows_of,
    sentences,
    texts,
    vocabulary,
    within,
)

VIEWS: list[View] = [
    Delete(0.0),
    Delete(0.3),
    Delete(1.0),
    Crop(0.0),
    Crop(0.6),
    Crop(1.0),
    ShuffleSpans(1),
    ShuffleSpans(3),
    ShuffleSpans(100),
    Replace(0.4),
    Replace(1.0),
    Mask(0.4),
    Repeat(0.0),
    Repeat(0.3),
    Repeat(1.0),
]


@pytest.fixture(params=FRAMES, ids=["<s> x", "[CLS] x [SEP]"])
def frame(request: pytest.FixtureRequest) -> Frame:
    return request.param


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_frames_special_tokens_and_all_else_of_the_batch_stay(view: View, frame: Frame) -> None:
    batch = sentences(examples(), frame)
    before = [tensor.clone() for tensor in (batch.input_ids, batch.segment_ids)]
    torch.manual_seed(0)
    seen = view(batch, vocabulary())
    for content, original in zip(contents_of(seen, frame), examples(), strict=True):
        assert content.count(UNKNOWN) == original.count(UNKNOWN)
        assert (
            {*content} <= {*original, MASK} if not isinstance(view, Replace) else {*content} <= {*range(UNKNOWN, VOCAB)}
        )
        assert bool(texts(original)) == bool([token for token in content if token != UNKNOWN])
    assert torch.equal(batch.input_ids, before[0]) and torch.equal(batch.segment_ids, before[1])
    assert (seen.next_ids, seen.starts_word, seen.packed, seen.padded) == (None, None, False, True)
    assert (seen.documents is batch.documents, seen.causal, seen.n_tokens) == (True, True, batch.n_tokens)
    extra = math.ceil(view.rate * batch.input_ids.shape[1]) if isinstance(view, Repeat) else 0
    assert seen.input_ids.shape == seen.segment_ids.shape == (30, batch.input_ids.shape[1] + extra)
    assert seen.input_ids.dtype == seen.segment_ids.dtype == torch.int64


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_padding_is_no_content_even_where_its_id_is_a_word(view: View, frame: Frame) -> None:
    batch = sentences(examples(), frame)
    words = CONTENT.clone()
    torch.manual_seed(0)
    expected = view(batch, vocabulary())
    words[PAD] = True
    torch.manual_seed(0)
    counts = torch.ones(VOCAB, dtype=torch.int64).index_fill(0, torch.tensor([PAD]), 0)
    seen = view(batch, Vocabulary(PAD, MASK, words, counts))
    assert torch.equal(seen.input_ids, expected.input_ids) and torch.equal(seen.segment_ids, expected.segment_ids)


def test_only_views_that_change_lengths_make_padding(frame: Frame) -> None:
    batch = sentences(distinct(4, 9), frame)
    assert not batch.padded
    for view in VIEWS:
        assert view(batch, vocabulary()).padded == isinstance(view, Delete | Crop | Repeat)


def test_deletion_keeps_the_order_and_one_token(frame: Frame) -> None:
    contents = examples()
    for rate in (0.0, 0.3, 1.0):
        for seen, original in zip(corrupted(Delete(rate), contents, frame), contents, strict=True):
            assert is_subsequence(seen, original)
            if rate == 0:
                assert seen == original
            if rate == 1:
                assert len(texts(seen)) == min(1, len(texts(original)))


def test_deletion_has_its_rate_everywhere(frame: Frame) -> None:
    rows = 4000
    kept = Counter(token for row in corrupted(Delete(0.3), distinct(rows, 8), frame) for token in row)
    assert all(within(kept[token], rows, 0.7) for token in distinct(1, 8)[0])
    pairs = sum(5 in row and 6 in row for row in corrupted(Delete(0.3), distinct(rows, 8), frame))
    assert within(pairs, rows, 0.49), "tokens are not deleted independently"


def test_whichever_token_outlives_all_others() -> None:
    left = Counter(row[0] for row in corrupted(Delete(1.0), distinct(4000, 4), FRAMES[0]))
    assert all(within(left[token], 4000, 1 / 4) for token in distinct(1, 4)[0])


def test_a_crop_is_one_span_of_its_share_at_every_place(frame: Frame) -> None:
    for share in (0.0, 0.25, 0.6, 1.0):
        contents = examples(unknown=0)
        for seen, original in zip(corrupted(Crop(share), contents, frame), contents, strict=True):
            size = min(max(1, round(share * len(original))), len(original))
            assert seen in [original[i : i + size] for i in range(len(original) - size + 1)]
    starts = Counter(row[0] for row in corrupted(Crop(0.5), distinct(4000, 8), frame))
    assert sorted(starts) == [5, 6, 7, 8, 9]
    assert all(within(count, 4000, 1 / 5) for count in starts.values())


def shuffled_by_enumeration(content: list[int], length: int) -> dict[tuple[int, ...], float]:
    """The probability of each row: all cuts are equally likely, and then all orders of the spans."""
    probabilities = Counter[tuple[int, ...]]()
    for phase in range(length):
        spans: dict[int, list[int]] = {}
        for place, token in enumerate(content):
            spans.setdefault((place + phase) // length, []).append(token)
        orders = list(itertools.permutations(spans.values()))
        for order in orders:
            probabilities[tuple(itertools.chain(*order))] += 1 / length / len(orders)
    return probabilities


@pytest.mark.parametrize(("size", "length"), [(4, 1), (5, 2), (7, 3), (8, 4), (3, 3), (5, 12), (0, 2)])
def test_spans_stay_whole_and_all_orders_are_equally_likely(size: int, length: int, frame: Frame) -> None:
    rows, content = 4000, distinct(1, size)[0]
    expected = shuffled_by_enumeration(content, length)
    found = Counter(map(tuple, corrupted(ShuffleSpans(length), [content] * rows, frame)))
    assert {*found} == {*expected}
    assert all(within(found[row], rows, min(1, probability)) for row, probability in expected.items())


def test_special_tokens_inside_a_sentence_are_not_moved() -> None:
    contents = [[5, UNKNOWN, 6, 7, UNKNOWN, 8]] * 50
    for seen in corrupted(ShuffleSpans(1), contents, FRAMES[1]):
        assert [token == UNKNOWN for token in seen] == [False, True, False, False, True, False]
        assert sorted(texts(seen)) == [5, 6, 7, 8]


def test_equal_scores_do_not_mix_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches of many thousand spans some draw the same float32."""
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: torch.full(size, 0.5))
    assert corrupted(ShuffleSpans(3), distinct(3, 10), FRAMES[1]) == distinct(3, 10)


def test_replacements_follow_the_counts_of_the_corpus(frame: Frame) -> None:
    counts = torch.arange(VOCAB) ** 2
    counts[[7, VOCAB - 1]] = 0
    number, rate = 3000 * 10, 0.4
    seen = corrupted(Replace(rate), [[VOCAB - 1] * 10] * 3000, frame, counts=counts)
    found = Counter(token for row in seen for token in row)
    assert within(number - found.pop(VOCAB - 1), number, rate)
    total = sum(found.values())
    shares = {token: token**2 / sum(t**2 for t in range(5, VOCAB - 1) if t != 7) for token in range(5, VOCAB - 1)}
    shares.pop(7)
    assert {token for token, share in shares.items() if total * share > 30} <= {*found} <= {*shares}
    chi_square = sum((found[token] - total * share) ** 2 / (total * share) for token, share in shares.items())
    freedom = len(shares) - 1
    assert abs(chi_square - freedom) < 5 * math.sqrt(2 * freedom)


def test_rare_tokens_are_drawn_beside_frequent_ones() -> None:
    """2**17 tokens that occur once, beside one that occurs 2**25 times: float32 counts that far in steps of 4."""
    counts = torch.ones(2**17, dtype=torch.int64)
    counts[5] = 2**25
    known = Vocabulary(PAD, MASK, torch.arange(2**17) > UNKNOWN, counts)
    torch.manual_seed(0)
    seen = Replace(1.0)(sentences([[5] * 1000] * 100, FRAMES[0]), known).input_ids[:, 1:]
    rare = Counter((seen[seen != 5] % 4).tolist())
    assert within(rare.total(), 100_000, 2**17 / (2**25 + 2**17))
    assert all(within(rare[i], rare.total(), 1 / 4) for i in range(4))


def test_the_smallest_draw_is_of_a_token_that_occurs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda size, dtype=None, device=None: torch.zeros(size, dtype=dtype))
    assert corrupted(Replace(1.0), [[9, 9]], FRAMES[0]) == [[UNKNOWN + 1] * 2]


def test_before_the_corpus_is_counted_all_tokens_are_alike() -> None:
    seen = corrupted(Replace(1.0), [[9] * 100] * 20, FRAMES[0], counts=torch.zeros(VOCAB, dtype=torch.int64))
    found = Counter(token for row in seen for token in row)
    assert sorted(found) == list(range(UNKNOWN + 1, VOCAB))
    assert all(within(count, 2000, 1 / 85) for count in found.values())


def test_masks_have_their_rate_and_hide_nothing_else(frame: Frame) -> None:
    contents = examples(rows=600, longest=30)
    masked = total = 0
    for seen, original in zip(corrupted(Mask(0.4), contents, frame), contents, strict=True):
        assert all(a in (b, MASK) for a, b in zip(seen, original, strict=True))
        masked += seen.count(MASK)
        total += len(texts(original))
    assert within(masked, total, 0.4)
    with pytest.raises(UserError, match="no mask token"):
        corrupted(Mask(0.4), contents, frame, mask_id=None)


def test_repeated_tokens_stand_beside_themselves_in_uniform_numbers(frame: Frame) -> None:
    contents = examples()
    for rate in (0.3, 1.0):
        for seen, original in zip(corrupted(Repeat(rate), contents, frame), contents, strict=True):
            assert is_subsequence(original, seen)
            assert len(seen) - len(original) <= math.ceil(rate * len(texts(original)))
    size, rate, rows = 10, 0.32, 4000
    numbers, tokens = Counter[int](), Counter[int]()
    for row in corrupted(Repeat(rate), distinct(rows, size), frame):
        twice = [token for token, count in Counter(row).items() if count == 2]
        assert row == sorted(distinct(1, size)[0] + twice)
        numbers[len(twice)] += 1
        tokens.update(twice)
    assert sorted(numbers) == [0, 1, 2, 3, 4]
    assert all(within(count, rows, 1 / 5) for count in numbers.values())
    assert all(within(tokens[token], rows, 2 / 10) for token in distinct(1, size)[0])


@pytest.mark.parametrize(("size", "rate"), [(25, 0.6), (50, 0.3), (50, 0.54), (75, 0.36)])
def test_no_row_grows_too_long_for_its_columns(size: int, rate: float) -> None:
    """In float32 these shares of rows come out above the whole numbers that they are."""
    for row in corrupted(Repeat(rate), distinct(500, size), ([], [])):
        assert is_subsequence(distinct(1, size)[0], row)
        assert len(row) <= size + math.ceil(rate * size)


def test_views_follow_each_other(frame: Frame) -> None:
    contents = examples(unknown=0)
    batch, views = sentences(contents, frame), [Repeat(1.0), Delete(0.2), ShuffleSpans(2), Mask(0.5)]
    torch.manual_seed(0)
    seen = apply_views(views, batch, vocabulary())
    torch.manual_seed(0)
    expected = batch
    for view in views:
        expected = view(expected, vocabulary())
    assert torch.equal(seen.input_ids, expected.input_ids)
    assert contents_of(seen, frame) != contents
    assert apply_views([], batch, vocabulary()) is batch


@pytest.mark.parametrize(
    "view", [Delete(0.3), Crop(0.6), ShuffleSpans(2), Replace(0.4), Mask(0.4), Repeat(0.3)], ids=str
)
def test_two_calls_differ_and_the_seed_decides(view: View) -> None:
    batch = sentences(examples(), FRAMES[1])
    torch.manual_seed(1)
    first, second = view(batch, vocabulary()), view(batch, vocabulary())
    torch.manual_seed(1)
    assert torch.equal(view(batch, vocabulary()).input_ids, first.input_ids)
    assert not torch.equal(second.input_ids, first.input_ids)
    with_equal_rows = view(sentences(distinct(8, 30), FRAMES[1]), vocabulary())
    assert len({tuple(row) for row in rows_of(with_equal_rows)}) > 1, "all rows draw alike"


def test_rows_are_packed_or_rates_impossible() -> None:
    batch = replace(sentences(examples(), FRAMES[0]), packed=True)
    with pytest.raises(UserError, match="Delete corrupts one sentence a row.*unit: sentence"):
        Delete(0.1)(batch, vocabulary())
    for kind in (Delete, Crop, Replace, Mask, Repeat):
        for value in (-0.1, 1.1, math.nan):
            with pytest.raises(UserError, match=f"{kind.__name__}: (rate|share) {value}"):
                kind(value)
    with pytest.raises(UserError, match="ShuffleSpans: length must be 1 or more, not 0"):
        ShuffleSpans(0)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_nothing_waits_for_the_device(view: View) -> None:
    """The meta device knows shapes and no values: whoever asks for one fails."""
    batch = sentences(examples(), FRAMES[1])
    known = vocabulary()
    seen = view(batch.to("meta"), known._replace(maskable=known.maskable.to("meta"), counts=known.counts.to("meta")))
    assert seen.input_ids.device.type == "meta"
    assert seen.input_ids.shape == seen.segment_ids.shape == view(batch, known).input_ids.shape


def test_a_configuration_names_views_by_class() -> None:

    def build(views: list[View]) -> list[View]:
        return views

    given = [
        {"class_path": "ssl_nlp.objectives.views.Delete", "init_args": {"rate": 0.25}},
        {"class_path": "ssl_nlp.objectives.views.ShuffleSpans", "init_args": {"length": 3}},
    ]
    assert auto_cli(build, args=[json.dumps(given)]) == [Delete(0.25), ShuffleSpans(3)]
