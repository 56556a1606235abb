import itertools

import numpy as np
import pytest

from ssl_nlp.data.sampler import BatchSampler
from ssl_nlp.errors import UserError
from tests.corpus import caption_texts, padding_share


def sampler(rows=103, lengths=None, batch_size=4, rank=0, ranks=1, seed=0, shuffle=True):
    return BatchSampler(rows, lengths, batch_size, rank, ranks, seed, shuffle)


@pytest.mark.parametrize(
    ("rows", "batch_size", "ranks"), list(itertools.product([3, 8, 25, 64, 103], [1, 4, 7], [1, 2, 3]))
)
@pytest.mark.parametrize("bucketed", [False, True])
def test_every_row_is_seen_once_over_all_ranks(rows, batch_size, ranks, bucketed):
    lengths = np.random.default_rng(0).integers(1, 30, rows) if bucketed else None
    dealt = [list(sampler(rows, lengths, batch_size, rank, ranks)) for rank in range(ranks)]
    assert sorted(itertools.chain(*itertools.chain(*dealt))) == list(range(rows))
    assert {len(batches) for batches in dealt} == {len(sampler(rows, lengths, batch_size, 0, ranks))}
    assert all(batch for batches in dealt for batch in batches)


def test_two_ranks_see_what_one_rank_with_twice_the_batch_sees():
    lengths = np.random.default_rng(0).integers(1, 30, 103)
    whole = list(sampler(lengths=lengths, batch_size=8))
    halves = zip(*(list(sampler(lengths=lengths, rank=rank, ranks=2)) for rank in range(2)), strict=True)
    assert [sorted(a + b) for a, b in halves] == [sorted(batch) for batch in whole]


@pytest.mark.parametrize("bucketed", [False, True])
def test_resuming_continues_at_the_next_batch(bucketed):
    lengths = np.random.default_rng(0).integers(1, 30, 103) if bucketed else None
    first = sampler(lengths=lengths)
    first.set_epoch(2)
    resumed = sampler(lengths=lengths)
    resumed.epoch, resumed.position = 2, 5
    resumed.set_epoch(2)  # as Lightning does before the epoch goes on
    assert list(resumed) == list(first)[5:]
    resumed.set_epoch(3)
    first.set_epoch(3)
    assert list(resumed) == list(first)


def test_order_depends_on_seed_and_epoch_only_when_shuffled():
    a, b = sampler(), sampler(seed=1)
    assert list(a) == list(sampler())
    assert list(a) != list(b)
    before = list(a)
    a.set_epoch(1)
    assert list(a) != before
    fixed = sampler(shuffle=False)
    before = list(fixed)
    fixed.set_epoch(1)
    assert list(fixed) == before


def test_more_ranks_than_rows_is_refused():
    with pytest.raises(UserError, match="2 rows .* 3 processes"):
        sampler(rows=2, ranks=3)


def test_bucketed_batches_have_under_five_percent_padding():
    lengths = np.array([len(text.split()) for text, _ in caption_texts(20_000)])
    bucketed = list(BatchSampler(len(lengths), lengths, 64, 0, 1, 0, True))
    assert padding_share(lengths, bucketed) < 0.05
    assert padding_share(lengths, list(BatchSampler(len(lengths), None, 64, 0, 1, 0, True))) > 0.3
