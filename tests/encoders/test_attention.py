"""The positions that a position of the Transformer sees (documents, past, window, padding, cache), by a slow oracle."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from tests.encoders.test_transformer import PAD, VOCAB, build

KINDS = [
    pytest.param(True, None, id="causal"),
    pytest.param(False, None, id="bidirectional"),
    pytest.param(True, 3, id="causal-window"),
    pytest.param(False, 3, id="bidirectional-window"),
]
SEGMENTS = torch.tensor([[1] * 5 + [2] * 8 + [3] * 3 + [0] * 4, [1] * 11 + [2] * 9, [1] * 2 + [0] * 18, [0] * 20])


def draw(segment_ids: Tensor) -> Tensor:
    ids = torch.randint(4, VOCAB, segment_ids.shape, generator=torch.Generator().manual_seed(2))
    return torch.where(segment_ids > 0, ids, PAD)


def spread(encoder: Transformer) -> Transformer:
    """Larger weights, so that attention is far from uniform and what it sees matters."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    return encoder


@torch.no_grad()
def oracle(encoder: Transformer, ids: Tensor) -> Tensor:
    """One document (T,) at a time, one query and head at a time, from the definition."""
    norm = torch.nn.functional.layer_norm
    half = encoder.dim // encoder.heads // 2

    def turn(vector: Tensor, position: int) -> Tensor:
        angle = position * 10000.0 ** (-torch.arange(half) / half)
        a, b = vector[0::2], vector[1::2]
        return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()))

    size = (encoder.dim,)
    x = norm(encoder.embedding.weight[ids], size, encoder.embeddings.norm.weight)
    layer: Any
    for number, layer in enumerate(encoder.layers):
        y = x if number == 0 else norm(x, size, layer.attn_norm.weight)
        q, k, v = (y @ m.weight.T for m in (layer.attn.q_proj, layer.attn.k_proj, layer.attn.v_proj))
        mixed = torch.zeros_like(x)
        for i, head in itertools.product(range(len(ids)), range(encoder.heads)):
            part = slice(head * 2 * half, (head + 1) * 2 * half)
            seen = list(range(i + 1 if encoder.causal else len(ids)))
            if encoder.window is not None and number % encoder.global_every:
                reach = encoder.window - 1 if encoder.causal else encoder.window
                seen = [j for j in seen if abs(i - j) <= reach]
            scores = torch.stack([turn(q[i, part], i) @ turn(k[j, part], j) for j in seen]) / (2 * half) ** 0.5
            mixed[i, part] = scores.softmax(0) @ v[seen][:, part]
        x = x + mixed @ layer.attn.Wo.weight.T
        y = norm(x, size, layer.mlp_norm.weight)
        gelu = torch.nn.functional.gelu(y @ layer.mlp.input_proj.weight.T)
        x = x + (gelu * (y @ layer.mlp.gate_proj.weight.T)) @ layer.mlp.Wo.weight.T
    return norm(x, size, encoder.final_norm.weight)


def documents(segment_ids: Tensor):
    for row in range(len(segment_ids)):
        for document in range(1, int(segment_ids[row].max()) + 1):
            yield row, segment_ids[row] == document


@pytest.mark.parametrize(("causal", "window"), KINDS)
def test_packed_documents_are_the_documents_alone(causal, window):
    encoder = spread(build(causal, window=window))
    ids = draw(SEGMENTS)
    states = encoder(TokenBatch(ids, SEGMENTS))
    assert states.isfinite().all()
    for row, place in documents(SEGMENTS):
        torch.testing.assert_close(states[row, place], oracle(encoder, ids[row, place]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("causal", "window"), KINDS)
def test_a_changed_document_leaves_the_others_alone(causal, window):
    encoder = spread(build(causal, window=window))
    ids = draw(SEGMENTS)
    before = encoder(TokenBatch(ids, SEGMENTS))
    for row, place in documents(SEGMENTS):
        changed = ids.clone()
        spot = place.nonzero()[len(place.nonzero()) // 2].item()
        changed[row, spot] = (changed[row, spot] + 1) % VOCAB
        after = encoder(TokenBatch(changed, SEGMENTS))
        others = torch.ones_like(SEGMENTS, dtype=torch.bool)
        others[row] = ~place
        assert torch.equal(after[others], before[others])
        assert not torch.equal(after[row, place], before[row, place])


def test_long_packed_rows():
    """Attention kernels go through the keys in blocks: some see nothing of a document far down the row."""
    segment_ids = torch.arange(1, 4).repeat_interleave(500)[None]
    for causal in (True, False):
        encoder = spread(build(causal, max_length=1500, layers=2))
        ids = draw(segment_ids)
        states = encoder(TokenBatch(ids, segment_ids))
        alone = encoder(TokenBatch(ids.view(3, 500), torch.ones(3, 500), packed=False, padded=False))
        torch.testing.assert_close(states.view_as(alone), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("packed", [True, False])
def test_causal_states_do_not_see_the_future(window, packed):
    encoder = spread(build(causal=True, window=window))
    ids = draw(torch.ones(2, 16))
    segment_ids = torch.ones_like(ids)
    before = encoder(TokenBatch(ids, segment_ids, packed=packed, padded=False))
    for spot in (0, 7, 15):
        changed = ids.clone()
        changed[:, spot] = (changed[:, spot] + 1) % VOCAB
        after = encoder(TokenBatch(changed, segment_ids, packed=packed, padded=False))
        assert torch.equal(after[:, :spot], before[:, :spot])
        assert (after[:, spot:] != before[:, spot:]).any(dim=-1)[:, 0].all()


@pytest.mark.parametrize(("causal", "window"), KINDS)
@pytest.mark.parametrize("padded", [True, False])
def test_the_fast_ways_are_the_masked_way(causal, window, padded):
    encoder = spread(build(causal, window=window))
    segment_ids = torch.ones(4, 12, dtype=torch.long)
    if padded:
        segment_ids[1, 5:] = 0
        segment_ids[2, 1:] = 0
        segment_ids[3] = 0
    ids = draw(segment_ids)
    masked = encoder(TokenBatch(ids, segment_ids))
    fast = encoder(TokenBatch(ids, segment_ids, packed=False, padded=padded))
    assert fast.isfinite().all()
    text = segment_ids > 0
    torch.testing.assert_close(fast[text], masked[text], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("causal", "window"), KINDS)
@pytest.mark.parametrize("packed", [True, False])
def test_gradients_of_padded_rows_are_finite(causal, window, packed):
    encoder = spread(build(causal, window=window))
    segment_ids = SEGMENTS if packed else (SEGMENTS == 1).long()
    (encoder(TokenBatch(draw(segment_ids), segment_ids, packed=packed)) ** 2).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize(("causal", "window"), KINDS)
@pytest.mark.parametrize("packed", [True, False])
def test_no_position_sees_nothing(causal, window, packed):
    """A softmax over nothing is undefined; what kernels make of it differs."""
    encoder = build(causal, window=window)
    segment_ids = SEGMENTS if packed else (SEGMENTS == 1).long()
    for mask in encoder._masks(TokenBatch(draw(segment_ids), segment_ids, packed=packed), None, causal):
        assert mask.added is None or (mask.added == 0).any(dim=-1).all()


@pytest.mark.parametrize("causal", [True, False])
def test_a_window_over_the_whole_row_is_none(causal):
    ids = draw(torch.ones(2, 8))
    batch = TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)
    whole = spread(build(causal))(batch)
    reach = 8 if causal else 7
    assert torch.equal(spread(build(causal, window=reach))(batch), whole)
    assert not torch.allclose(spread(build(causal, window=reach - 1))(batch), whole, atol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("pieces", [(1,) * 12, (5, 1, 1, 5), (4, 8), (12,)])
def test_cached_states_are_the_states(window, pieces):
    encoder = spread(build(causal=True, window=window))
    ids = draw(torch.ones(2, 12))
    segment_ids = torch.ones_like(ids)
    whole = encoder(TokenBatch(ids, segment_ids, packed=False, padded=False))
    with torch.no_grad():
        cache = encoder.new_cache(2, 12)
        parts = zip(ids.split(pieces, dim=1), segment_ids.split(pieces, dim=1), strict=True)
        states = [encoder(TokenBatch(*part, packed=False, padded=False), cache) for part in parts]
    torch.testing.assert_close(torch.cat(states, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
def test_cached_rows_of_unequal_length(window):
    """Padded on the left; each row goes on where it would alone."""
    encoder = spread(build(causal=True, window=window))
    lengths, more = (6, 2, 4), 5
    text = draw(torch.ones(3, 6 + more))
    ids = torch.full((3, 6 + more), PAD)
    segment_ids = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, 6 - length :] = text[row, : length + more]
        segment_ids[row, 6 - length :] = 1
    with torch.no_grad():
        cache = encoder.new_cache(3, 6 + more)
        states = [encoder(TokenBatch(ids[:, :6], segment_ids[:, :6]), cache)]
        for at in range(6, 6 + more):
            step = TokenBatch(ids[:, at : at + 1], segment_ids[:, at : at + 1], packed=False, padded=False)
            states.append(encoder(step, cache))
    together = torch.cat(states, dim=1)
    for row, length in enumerate(lengths):
        alone = oracle(encoder, text[row, : length + more])
        torch.testing.assert_close(together[row, 6 - length :], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("window", [None, 2])
def test_a_batch_may_override_the_direction_of_sight(built, window):
    """One set of weights is causal or not, as each batch says, also in packed and padded rows and with a cache."""
    as_built, other = build(causal=built, window=window), build(causal=not built, window=window)
    other.load_state_dict(as_built.state_dict())
    segment_ids = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
    batch = TokenBatch(draw(segment_ids), segment_ids)
    assert torch.equal(as_built(replace(batch, causal=not built)), other(batch))
    assert torch.equal(as_built(replace(batch, causal=built)), as_built(batch))
    ids = draw(torch.ones(1, 6, dtype=torch.long))
    row = TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False, causal=True)
    cached = as_built(row, as_built.new_cache(1, 6))
    torch.testing.assert_close(cached, as_built(row), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["row", "column"])
def test_added_states_join_the_embeddings(kind):
    encoder = build(causal=False)
    segment_ids = torch.tensor([[1, 1, 1, 1], [1, 1, 2, 0]])
    batch = TokenBatch(draw(segment_ids), segment_ids)
    added = torch.randn(2, 4 if kind == "row" else 1, encoder.dim)
    plain = encoder(batch, added=added)
    # The oracle gives every position a token of its own, whose embedding is the sum.
    summed = encoder.embedding(batch.input_ids) + added
    encoder.embedding.weight = torch.nn.Parameter(torch.cat([encoder.embedding.weight, summed.flatten(0, 1)]))
    ids = VOCAB + torch.arange(8).view(2, 4)
    torch.testing.assert_close(plain, encoder(TokenBatch(ids, segment_ids)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_cache_errors():
    encoder = build(causal=False)
    ids = draw(torch.ones(1, 4, dtype=torch.long))
    row = TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)
    with pytest.raises(UserError, match="bidirectional encoder cannot continue"):
        encoder(row, encoder.new_cache(1, 4))
    encoder = build(causal=True, max_length=8)
    with pytest.raises(UserError, match="9 tokens .* max_length of 8"):
        encoder.new_cache(1, 9)
    ids = draw(torch.ones(1, 5))
    batch = TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)
    cache = encoder.new_cache(1, 8)
    encoder(batch, cache)
    with pytest.raises(UserError, match="10 tokens .* max_length of 8"):
        encoder(batch, cache)
    cache = encoder.new_cache(1, 4)
    with pytest.raises(ValueError, match="do not fit"):
        encoder(batch, cache)
    with pytest.raises(ValueError, match="padded on the left"):
        encoder(TokenBatch(ids, torch.ones_like(ids), packed=False, padded=True), encoder.new_cache(1, 8))
