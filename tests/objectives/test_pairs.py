"""Pairs of texts: the promises of pairings, and joined rows against lists of tokens."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.sampler import BatchSampler
from ssl_nlp.data.units import item_sizes
from ssl_nlp.objectives.pairs import Pairing, join_pairs, next_sentence_pairing, pair_loss, sentence_order_pairing

PAD = 9


def drawn(pairing_of: Callable[[TokenBatch], Pairing], batch: TokenBatch, seed: int) -> Pairing:
    """The pairing that is drawn after this seed."""
    torch.manual_seed(seed)
    return pairing_of(batch)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texts(lengths: list[int], first: int, width: int) -> TokenBatch:
    """Rows of the given lengths, whose tokens tell where they come from, padded to `width` with tokens other than PAD."""
    ids = first + torch.arange(len(lengths) * width).view(len(lengths), width)
    real = torch.arange(width) < torch.tensor(lengths)[:, None]
    starts = torch.rand(ids.shape, generator=seeded(first)) < 0.5
    documents = torch.arange(len(lengths))
    return TokenBatch(
        ids.masked_fill(~real, 0), real.long(), None, starts, packed=False, n_tokens=sum(lengths), documents=documents
    )


def batch_of_pairs() -> TokenBatch:
    return replace(texts([3, 5, 2, 4], 100, 5), pair=texts([7, 1, 6, 2], 200, 7))


@pytest.mark.parametrize("drop", [0, 1])
@pytest.mark.parametrize("pairing_of", [next_sentence_pairing, sentence_order_pairing])
def test_rows_are_the_first_text_then_the_second_without_a_gap(pairing_of, drop: int) -> None:
    batch = batch_of_pairs()
    assert batch.pair is not None
    every = [
        list(zip(ids[:size], words[:size], strict=True))
        for part in (batch, batch.pair)
        for ids, words, size in zip(
            part.input_ids.tolist(), part.starts_word.tolist(), part.is_text.sum(1).tolist(), strict=True
        )
    ]
    seen = set()
    for seed in range(8):
        pairing = drawn(pairing_of, batch, seed)
        seen.add(tuple(pairing.true.tolist()))
        rows, parts = join_pairs(batch, pairing, PAD, drop)
        assert rows.input_ids.shape == parts.shape == (4, 12 - drop)
        for row, (one, other) in enumerate(zip(pairing.first.tolist(), pairing.second.tolist(), strict=True)):
            expected = every[one] + every[other][drop:]
            rest = rows.input_ids.shape[1] - len(expected)
            assert rows.input_ids[row].tolist() == [token for token, _ in expected] + [PAD] * rest
            assert rows.segment_ids[row].tolist() == [1] * len(expected) + [0] * rest
            assert parts[row].tolist() == [0] * len(every[one]) + [1] * (len(every[other]) - drop) + [0] * rest
            assert rows.starts_word is not None
            assert rows.starts_word[row].tolist() == [starts for _, starts in expected] + [True] * rest
        assert rows.n_tokens == int(rows.is_text.sum())
        assert (rows.packed, rows.padded, rows.next_ids, rows.pair) == (False, True, None, None)
    assert len(seen) > 1


def test_what_no_text_has_the_rows_have_not() -> None:
    batch = batch_of_pairs()
    assert batch.pair is not None
    batch = replace(batch, starts_word=None, causal=False)
    rows, _ = join_pairs(batch, Pairing(torch.arange(4), torch.arange(4, 8), torch.ones(4, dtype=torch.bool)), PAD)
    assert rows.starts_word is None
    assert rows.causal is False


def pairs_of(documents: list[int], lengths: list[int] | None = None) -> TokenBatch:
    """Rows of the given documents, whose followers have the given lengths; all texts differ."""
    lengths = lengths or [3] * len(documents)
    second = texts(lengths, 10_000, max(lengths))
    return replace(texts([2] * len(documents), 100, 2), pair=second, documents=torch.tensor(documents))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 8])
def test_next_sentences_are_exchanged_between_documents_and_all_are_used_once(rows: int) -> None:
    documents = [0, 0, 1, 2, 2, 2, 3, 4][:rows]
    batch, falses = pairs_of(documents, [4, 1, 4, 2, 2, 3, 2, 1][:rows]), 0
    for seed in range(50):
        first, second, true = drawn(next_sentence_pairing, batch, seed)
        assert first.tolist() == list(range(rows))
        assert sorted(second.tolist()) == list(range(rows, 2 * rows))
        for row, follower in enumerate((second - rows).tolist()):
            assert bool(true[row]) == (follower == row)
            assert follower == row or documents[follower] != documents[row]
        falses += int((~true).sum())
    assert (falses > 0) == (rows > 2)


@pytest.mark.slow
def test_half_of_the_pairs_are_false_and_every_other_document_is_as_likely() -> None:
    draws, rows = 4000, 6
    batch, false, partners = pairs_of([*range(rows)]), 0, Counter[int]()
    for seed in range(draws):
        _, second, true = drawn(next_sentence_pairing, batch, seed)
        false += int((~true).sum())
        if not true[0]:
            partners[int(second[0]) - rows] += 1
    assert false / (draws * rows) == pytest.approx(0.5, abs=0.02)
    assert set(partners) == {1, 2, 3, 4, 5}
    for count in partners.values():
        assert count / partners.total() == pytest.approx(1 / 5, abs=0.04)


def test_of_an_odd_number_any_row_is_left_out() -> None:
    batch = pairs_of([0, 1, 2], [1, 2, 3])
    false = torch.stack([~drawn(next_sentence_pairing, batch, seed).true for seed in range(1000)]).double().mean(dim=0)
    assert false.tolist() == pytest.approx([1 / 3] * 3, abs=0.06)


def test_half_are_false_though_neighbours_in_length_are_of_one_document() -> None:
    batch = pairs_of([0, 0, 1, 1, 2, 3, 3, 2], [1, 2, 3, 4, 5, 6, 7, 8])
    true = torch.stack([drawn(next_sentence_pairing, batch, seed).true for seed in range(1000)])
    assert true.double().mean(dim=0).tolist() == pytest.approx([0.5] * 8, abs=0.06)


@pytest.mark.parametrize("shared", ["first", "second"])
def test_rows_that_share_a_text_exchange_nothing(shared: str) -> None:
    """The exchanged pairs would be true: the same tokens are a pair of the corpus."""
    batch = pairs_of([*range(6)])
    assert batch.pair is not None
    part = batch if shared == "first" else batch.pair
    part.input_ids[1] = part.input_ids[4] = part.input_ids[0]
    exchanged = set()
    for seed in range(100):
        _, second, true = drawn(next_sentence_pairing, batch, seed)
        exchanged |= {(row, int(second[row]) - 6) for row in range(6) if not true[row]}
    alike = {(i, j) for i in (0, 1, 4) for j in (0, 1, 4)}
    assert exchanged == {(i, j) for i in range(6) for j in range(6) if i != j} - alike


@pytest.mark.parametrize("longest", [6, 30])
def test_lengths_do_not_tell_false_rows_from_true_ones(longest: int) -> None:
    """In batches as they are sampled, sorted by the longer text.

    The best rule that knows both lengths is learned from half of the batches and tested on the others.
    """
    lengths = np.random.default_rng(0).integers(1, longest + 1, size=(12_800, 2))
    sampler = BatchSampler(len(lengths), item_sizes(lengths), 64, 0, 1, seed=0, shuffle=True)
    seen = (Counter[tuple[int, int]](), Counter[tuple[int, int]]())  # by the half: true rows less false ones
    for number, rows in enumerate(sampler):
        own, others = lengths[rows].T
        batch = pairs_of([*range(64)], others.tolist())
        _, second, true = drawn(next_sentence_pairing, batch, number)
        given = others[second - 64]
        for a, b, label in zip(own.tolist(), given.tolist(), true.tolist(), strict=True):
            cell = (a * 6 // (longest + 1), b * 6 // (longest + 1))
            seen[number % 2][cell] += 1 if label else -1
    advantage = sum(balance * (1 if seen[0][cell] > 0 else -1) for cell, balance in seen[1].items())
    assert advantage / 6400 < 0.04  # right in less than 52 % of the rows


def test_rows_of_followers_of_the_same_lengths_keep_their_lengths() -> None:
    lengths = [1, 5, 2, 1, 9, 5, 9, 2]
    batch, falses = pairs_of([*range(8)], lengths), 0
    for seed in range(50):
        _, second, true = drawn(next_sentence_pairing, batch, seed)
        assert [lengths[i] for i in (second - 8).tolist()] == lengths
        falses += int((~true).sum())
    assert falses > 100


def test_half_of_the_orders_are_swapped_and_both_texts_stay_together() -> None:
    first, second, true = drawn(sentence_order_pairing, pairs_of([0] * 4000), 0)
    own = torch.arange(4000)
    assert float(true.float().mean()) == pytest.approx(0.5, abs=0.04)
    assert torch.equal(first[true], own[true]) and torch.equal(second[true], 4000 + own[true])
    assert torch.equal(second[~true], own[~true]) and torch.equal(first[~true], 4000 + own[~true])


def test_loss_and_accuracy_are_those_of_two_classes() -> None:
    logits, true = torch.randn(9, 2, generator=seeded(0)), torch.rand(9, generator=seeded(1)) < 0.5
    expected, right = 0.0, 0
    for (no, yes), label in zip(logits.exp().tolist(), true.tolist(), strict=True):
        probability = (yes if label else no) / (yes + no)
        expected -= float(torch.tensor(probability).log())
        right += probability > 0.5
    loss, correct, pairs = pair_loss(logits, true)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert (int(correct), int(pairs)) == (right, 9)


def test_no_value_of_the_batch_reaches_the_host() -> None:
    """Shapes must follow from shapes alone: on tensors without data every look at a value is an error."""
    batch = batch_of_pairs().to("meta")
    for pairing_of in (next_sentence_pairing, sentence_order_pairing):
        pairing = pairing_of(batch)
        rows, parts = join_pairs(batch, pairing, PAD, 1)
        loss, _, _ = pair_loss(torch.zeros(4, 2, device="meta"), pairing.true)
        assert (rows.input_ids.shape, parts.shape, loss.shape) == ((4, 11), (4, 11), ())
