"""Contrastive losses against a slow double loop, closed forms and finite differences."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data.batch import TokenBatch, concatenate
from ssl_nlp.objectives.contrastive import (
    info_nce,
    info_nce_with_queue,
    nearest_is_positive,
    sentence_ids,
    two_view_pairs,
)


def gaussian(rows: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def cosine(x: list[float], y: list[float]) -> float:
    return sum(map(float.__mul__, x, y)) / math.hypot(*x) / math.hypot(*y)


def oracle(
    anchors: Tensor, candidates: Tensor, positives: Tensor, temperature: float, excluded: Tensor, decoupled: bool
) -> list[float]:
    """One pair at a time."""
    losses = []
    for i, anchor in enumerate(anchors.tolist()):
        total, negatives = 0.0, 0
        for j, candidate in enumerate(candidates.tolist()):
            positive = j == positives[i]
            if positive or not excluded[i, j]:
                negatives += not positive
                total += 0 if positive and decoupled else math.exp(cosine(anchor, candidate) / temperature)
        similarity = cosine(anchor, candidates[positives[i]].tolist())
        losses.append(math.log(total) - similarity / temperature if negatives else 0.0)
    return losses


def problem(n: int, number: int, dim: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors, candidates, positives, and exclusions that sometimes hit the positive."""
    generator = torch.Generator().manual_seed(n)
    positives = torch.randint(number, (n,), generator=generator)
    excluded = torch.rand(n, number, generator=generator) < 0.3
    return gaussian(n, dim, dtype=dtype), gaussian(number, dim, 1, dtype), positives, excluded


SHAPES = [(1, 1, 3), (1, 6, 2), (4, 4, 5), (7, 20, 3)]
GRID = list(itertools.product(SHAPES, [0.05, 0.5, 3.0], [True, False], [True, False]))


@pytest.mark.parametrize(("shape", "temperature", "with_exclusions", "decoupled"), GRID)
def test_info_nce_equals_the_slow_loop(
    shape: tuple[int, int, int], temperature: float, with_exclusions: bool, decoupled: bool
) -> None:
    anchors, candidates, positives, excluded = problem(*shape)
    if not with_exclusions:
        excluded = torch.zeros_like(excluded)
    losses = info_nce(
        anchors, candidates, positives, temperature, excluded if with_exclusions else None, decoupled=decoupled
    )
    expected = oracle(anchors, candidates, positives, temperature, excluded, decoupled)
    assert losses.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("shape", "temperature", "with_exclusions", "decoupled"), GRID)
def test_the_queue_equals_the_slow_loop(
    shape: tuple[int, int, int], temperature: float, with_exclusions: bool, decoupled: bool
) -> None:
    """A query alone with its own key and the queue, a row at a time."""
    queries, queue, _, excluded = problem(*shape)
    keys = gaussian(len(queries), shape[2], seed=2)
    if not with_exclusions:
        excluded = torch.zeros_like(excluded)
    losses = info_nce_with_queue(
        queries, keys, queue, temperature, excluded if with_exclusions else None, decoupled=decoupled
    )
    for i, loss in enumerate(losses.tolist()):
        candidates = torch.cat([keys[i : i + 1], queue])
        hidden = F.pad(excluded[i : i + 1], (1, 0))
        expected = oracle(queries[i : i + 1], candidates, torch.tensor([0]), temperature, hidden, decoupled)
        assert loss == pytest.approx(expected[0], abs=1e-9)


@pytest.mark.parametrize("sentences", [2, 5, 64])
def test_nt_xent_of_identical_embeddings_is_ln_of_the_candidates(sentences: int) -> None:
    views, ids = torch.ones(2 * sentences, 4), torch.arange(sentences).repeat(2)
    positives, excluded = two_view_pairs(twice(ids), twice(ids))
    losses = info_nce(views, views, positives, 0.1, excluded)
    assert losses.tolist() == pytest.approx([math.log(2 * sentences - 1)] * len(losses), rel=1e-5)
    decoupled = info_nce(views, views, positives, 0.1, excluded, decoupled=True)
    assert decoupled.tolist() == pytest.approx([math.log(2 * sentences - 2)] * len(losses), rel=1e-5)


def test_the_queue_of_identical_embeddings_costs_ln_of_one_more() -> None:
    losses = info_nce_with_queue(torch.ones(3, 4), torch.ones(3, 4), torch.ones(9, 4), 0.1)
    assert losses.tolist() == pytest.approx([math.log(10)] * 3, rel=1e-5)


def test_two_views_of_two_ranks_equal_one_rank_that_has_all() -> None:
    """Sentences 0 to 3 on one rank, 4 to 6 on the other, 5 equal to 1: the same losses, and those of SimCLR's formula."""
    first, second = gaussian(7, 3), gaussian(7, 3, 1)
    ids = torch.tensor([0, 1, 2, 3, 4, 1, 6])
    views, of = torch.cat([first, second]), ids.repeat(2)
    together = info_nce(views, views, *two_view_pairs_at(of, of, 0.3))
    for i in range(14):
        mate = (i + 7) % 14
        others = [k for k in range(14) if of[k] != of[i] or k == mate]
        total = sum(math.exp(cosine(views[i].tolist(), views[k].tolist()) / 0.3) for k in others)
        expected = math.log(total) - cosine(views[i].tolist(), views[mate].tolist()) / 0.3
        assert together[i].item() == pytest.approx(expected)

    local = [torch.cat([first[rows], second[rows]]) for rows in (slice(0, 4), slice(4, 7))]
    local_ids = [ids[rows].repeat(2) for rows in (slice(0, 4), slice(4, 7))]
    apart = [
        info_nce(views_here, torch.cat(local), *two_view_pairs_at(ids_here, torch.cat(local_ids), 0.3, offset))
        for views_here, ids_here, offset in zip(local, local_ids, (0, 8), strict=True)
    ]
    rows = torch.tensor([0, 1, 2, 3, 7, 8, 9, 10, 4, 5, 6, 11, 12, 13])
    torch.testing.assert_close(torch.cat(apart), together[rows])


def two_view_pairs_at(
    ids: Tensor, all_ids: Tensor, temperature: float, offset: int = 0
) -> tuple[Tensor, float, Tensor]:
    positives, excluded = two_view_pairs(twice(ids), twice(all_ids), offset)
    return positives, temperature, excluded


def twice(ids: Tensor) -> Tensor:
    """(n, 2): both texts of a row are the same sentence."""
    return torch.stack([ids, ids], dim=1)


def test_rows_that_share_a_text_are_no_negatives_of_each_other() -> None:
    """Four translations: the first two have one source, the last two one target, and the last equals the first's source."""
    first, second = torch.tensor([10, 10, 11, 20]), torch.tensor([20, 21, 22, 22])
    rows = torch.stack([torch.cat([first, second]), torch.cat([second, first])], dim=1)
    positives, excluded = two_view_pairs(rows, rows)
    assert positives.tolist() == [4, 5, 6, 7, 0, 1, 2, 3]
    shared = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1]], dtype=torch.bool)
    assert torch.equal(excluded, shared.repeat(2, 2))


def test_an_excluded_candidate_is_as_good_as_absent() -> None:
    anchors, candidates, positives, _ = problem(4, 6, 3)
    positives = positives.clamp(max=4)
    excluded = torch.zeros(4, 6, dtype=torch.bool)
    excluded[:2, 5] = True
    losses = info_nce(anchors, candidates, positives, 0.2, excluded)
    torch.testing.assert_close(losses[:2], info_nce(anchors, candidates[:5], positives, 0.2)[:2])
    torch.testing.assert_close(losses[2:], info_nce(anchors, candidates, positives, 0.2)[2:])
    assert (losses[:2] < info_nce(anchors, candidates, positives, 0.2)[:2]).all()


def test_decoupled_gradients_do_not_fade_with_the_positive() -> None:
    """The closed form behind DCL: plain gradients are the decoupled ones times 1 - p(positive)."""
    anchors, candidates, positives, excluded = problem(5, 9, 4)
    excluded[:, :2] = False
    anchors.requires_grad_()
    plain = info_nce(anchors, candidates, positives, 0.2, excluded)
    decoupled = info_nce(anchors, candidates, positives, 0.2, excluded, decoupled=True)
    (of_plain,) = torch.autograd.grad(plain.sum(), anchors)
    (of_decoupled,) = torch.autograd.grad(decoupled.sum(), anchors)
    torch.testing.assert_close(of_plain, of_decoupled * (1 - (-plain.detach()).exp())[:, None])


@pytest.mark.parametrize("decoupled", [True, False])
def test_gradients_equal_finite_differences(decoupled: bool) -> None:
    anchors, candidates, positives, excluded = problem(4, 6, 3)
    excluded[0] = True  # an anchor without negatives
    temperature = torch.tensor(0.4, dtype=torch.float64)
    inputs = tuple(x.requires_grad_() for x in (anchors, candidates, temperature))
    assert torch.autograd.gradcheck(lambda a, c, t: info_nce(a, c, positives, t, excluded, decoupled), inputs)
    assert torch.autograd.gradcheck(
        lambda q, k, t: info_nce_with_queue(q, q.roll(1, 0), k, t, excluded, decoupled), inputs
    )


@pytest.mark.parametrize("decoupled", [True, False])
def test_no_negatives_cost_and_teach_nothing(decoupled: bool) -> None:
    x = gaussian(2, 3).requires_grad_()
    ids = torch.zeros(2, dtype=torch.int64)
    positives, excluded = two_view_pairs(twice(ids), twice(ids))
    loss = info_nce(x, x, positives, 0.1, excluded, decoupled)
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert x.grad is not None and not x.grad.any()


def test_autocast_leaves_similarities_in_float32() -> None:
    anchors, candidates, positives, excluded = problem(4, 50, 16, torch.float32)
    exact = info_nce(anchors, candidates, positives, 0.05, excluded)
    with_queue = info_nce_with_queue(anchors, candidates[:4], candidates, 0.05, excluded)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = info_nce(anchors, candidates, positives, 0.05, excluded)
        queued = info_nce_with_queue(anchors, candidates[:4], candidates, 0.05, excluded)
        rounded = info_nce(anchors.bfloat16(), candidates.bfloat16(), positives, 0.05, excluded)
    assert losses.dtype == queued.dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(losses, exact)
    torch.testing.assert_close(queued, with_queue)
    torch.testing.assert_close(
        rounded, info_nce(anchors.bfloat16().float(), candidates.bfloat16().float(), positives, 0.05, excluded)
    )


def test_a_cold_temperature_does_not_overflow() -> None:
    x = torch.eye(3, requires_grad=True)
    losses = info_nce(x, x, torch.tensor([0, 2, 0]), 1e-3)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([0, 1000, 1000])
    assert x.grad is not None and x.grad.isfinite().all()


def test_hits_equal_the_slow_loop() -> None:
    anchors, candidates, positives, excluded = problem(40, 5, 3)
    excluded[:3] = True  # anchors without negatives do not count
    for hidden in (excluded, torch.zeros_like(excluded)):
        expected, with_negatives = [], []
        for i, anchor in enumerate(anchors.tolist()):
            scores = [
                cosine(anchor, candidate)
                for j, candidate in enumerate(candidates.tolist())
                if j != positives[i] and not hidden[i, j]
            ]
            with_negatives.append(bool(scores))
            expected.append(cosine(anchor, candidates[positives[i]].tolist()) > max(scores, default=2))
        hits, counted = nearest_is_positive(anchors, candidates, positives, hidden)
        assert hits.tolist() == expected
        assert counted.tolist() == with_negatives
        assert 0 < sum(expected) < 37
    assert counted.all()
    assert nearest_is_positive(anchors, candidates, positives)[0].tolist() == expected
    assert nearest_is_positive(anchors, candidates, positives)[1].all()


def test_collapsed_embeddings_hit_nothing() -> None:
    ids = torch.arange(8).repeat(2)
    hits, counted = nearest_is_positive(torch.ones(16, 4), torch.ones(16, 4), *two_view_pairs(twice(ids), twice(ids)))
    assert not hits.any()
    assert counted.all()


def sentences(rows: list[list[int]], width: int, pad: int = 0) -> TokenBatch:
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    segments = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return TokenBatch(ids, segments, packed=False)


def test_equal_sentences_have_equal_ids_whatever_is_beside_them() -> None:
    rows = [[3, 4, 5], [3, 4], [3, 4, 5], [0], [9, 8, 7, 6]]
    ids = sentence_ids(sentences(rows, 4))
    assert ids.dtype == torch.int64 and (ids >= 0).all()
    assert ids[0] == ids[2]
    assert len(set(ids.tolist())) == 4
    torch.testing.assert_close(sentence_ids(sentences(rows, 9, pad=5)), ids)
    mixed = concatenate([sentences(rows[3:], 6), sentences(rows[:3], 3)], pad_id=1)
    torch.testing.assert_close(sentence_ids(mixed), ids[[3, 4, 0, 1, 2]])


def test_different_sentences_have_different_ids() -> None:
    """All strings of up to three of 40 tokens, as alike as sentences can be: order, length and every token count."""
    strings = [list(s) for size in range(4) for s in itertools.product(range(40), repeat=size)]
    ids = sentence_ids(sentences(strings, 3))
    assert len(ids.unique()) == len(strings) == 1 + 40 + 40**2 + 40**3


def test_ids_use_all_63_bits() -> None:
    ids = sentence_ids(sentences([[i, j] for i in range(50) for j in range(50)], 2))
    shares = torch.stack([(ids >> bit & 1).double().mean() for bit in range(63)])
    assert ((shares - 0.5).abs() < 5 * 0.5 / math.sqrt(len(ids))).all()


def test_ids_are_the_same_everywhere() -> None:
    """Ranks compare them: they hang on nothing but the tokens, and by unbounded integers they come out the same."""

    def scrambled(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    rows = [[3, 4, 5], [50_000, 0, 1, 2], [7]]
    batch = sentences(rows, 4)
    expected = [
        scrambled(sum(scrambled(token + place * 2**32) for place, token in enumerate(row)) % 2**64) % 2**63
        for row in rows
    ]
    assert sentence_ids(batch).tolist() == expected
    assert sentence_ids(replace(batch, packed=True, padded=True)).tolist() == expected
