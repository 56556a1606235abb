import torch

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import concatenate


def rows(number, width, first, **more):
    ids = torch.arange(first, first + number * width).view(number, width)
    return TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False, n_tokens=ids.numel(), **more)


def test_rows_below_rows_are_padded_to_the_widest():
    both = concatenate([rows(1, 2, 10), rows(2, 3, 20)], pad_id=7)
    assert both.input_ids.tolist() == [[10, 11, 7], [20, 21, 22], [23, 24, 25]]
    assert both.segment_ids.tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert (both.padded, both.packed, both.n_tokens) == (True, False, 8)
    assert both.next_ids is None


def test_what_only_one_batch_has_is_left_out():
    known = rows(1, 2, 0, documents=torch.tensor([4]))
    assert concatenate([known, known], 0).documents.tolist() == [4, 4]
    assert concatenate([known, rows(1, 2, 0)], 0).documents is None


def test_a_pair_moves_and_counts_with_its_rows():
    batch = rows(2, 3, 0, pair=rows(2, 2, 9))
    assert batch.all_tokens == batch.all_positions == 10
    moved = batch.to("meta")
    assert moved.input_ids.device.type == moved.pair.input_ids.device.type == "meta"


def test_rows_are_chosen_with_all_that_belongs_to_them():
    batch = rows(4, 3, 0, documents=torch.arange(4), labels=torch.arange(4), pair=rows(4, 2, 50), causal=True)
    chosen = batch.select(torch.tensor([2, 0]))
    assert chosen.input_ids.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert chosen.pair.input_ids.tolist() == [[54, 55], [50, 51]]
    assert chosen.documents.tolist() == chosen.labels.tolist() == [2, 0]
    assert (chosen.n_tokens, chosen.all_tokens, chosen.causal, chosen.next_ids) == (6, 10, True, None)
    assert len(batch.select(torch.tensor([], dtype=torch.int64))) == 0
