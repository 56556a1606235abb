"""Recurrent encoders: states by a slow oracle, documents in packed rows, directions of sight, continuing a text."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders import Recurrent, recurrent
from ssl_nlp.encoders.adapters import PromptTuning
from ssl_nlp.encoders.recurrent import cpu_has_bfloat16
from ssl_nlp.errors import UserError
from tests.encoders.small_recurrent import DIRECTIONS, KINDS, PAD, SEGMENTS, VOCAB, WAYS, build, documents, draw, row


@pytest.fixture(autouse=True)
def read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that are shorter than most documents."""
    monkeypatch.setattr(recurrent, "CPU_STEPS", 3)


@torch.no_grad()
def oracle(encoder: Recurrent, ids: Tensor) -> Tensor:
    """One document (T,), one token after the other, from the equations."""

    def run(cell, inputs: Tensor) -> Tensor:
        states = []
        h = c = torch.zeros(cell.hidden_size)
        for x in inputs:
            read = cell.weight_ih_l0 @ x + cell.bias_ih_l0
            kept = cell.weight_hh_l0 @ h + cell.bias_hh_l0
            if encoder.kind == "rnn":
                h = (read + kept).tanh()
            elif encoder.kind == "lstm":
                i, f, g, o = (read + kept).chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            else:
                (r, z, n), (hr, hz, hn) = read.chunk(3), kept.chunk(3)
                r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
                h = (1 - z) * (n + r * hn).tanh() + z * h
            states.append(h)
        return torch.stack(states)

    weight, size = encoder.embeddings.norm.weight, (encoder.embedding.embedding_dim,)
    x = torch.nn.functional.layer_norm(encoder.embedding.weight[ids], size, weight)
    for number, layer in enumerate(encoder.layers):
        half = encoder.dim // 2 if encoder.separate and number else None  # of what a direction sees
        states = [run(layer.cells["forwards"], x[:, :half])]
        if not encoder.causal:
            start = 0 if half is None else half
            states.append(run(layer.cells["backwards"], x[:, start:].flip(0)).flip(0))
        x = torch.cat(states, dim=1)
    return x


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_packed_documents_are_the_documents_alone(kind, way):
    encoder, ids = build(kind, way), draw(SEGMENTS)
    states = encoder(TokenBatch(ids, SEGMENTS))
    assert not states[SEGMENTS == 0].any()
    for line, place in documents(SEGMENTS):
        torch.testing.assert_close(states[line, place], oracle(encoder, ids[line, place]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_a_changed_document_leaves_the_others_alone(kind, way):
    encoder, ids = build(kind, way), draw(SEGMENTS)
    before = encoder(TokenBatch(ids, SEGMENTS))
    for line, place in documents(SEGMENTS):
        changed = ids.clone()
        spot = place.nonzero()[len(place.nonzero()) // 2].item()
        changed[line, spot] = (changed[line, spot] + 1) % VOCAB
        after = encoder(TokenBatch(changed, SEGMENTS))
        others = torch.ones_like(SEGMENTS, dtype=torch.bool)
        others[line] = ~place
        assert torch.equal(after[others], before[others])
        assert not torch.equal(after[line, place], before[line, place])


@pytest.mark.parametrize("way", DIRECTIONS)
def test_padded_rows_are_the_rows_alone(way):
    encoder = build(way=way)
    segment_ids = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] + [0] * 5])
    ids = draw(segment_ids)
    states = encoder(TokenBatch(ids, segment_ids, packed=False))
    for line, place in documents(segment_ids):
        torch.testing.assert_close(states[line, place], oracle(encoder, ids[line, place]), atol=1e-5, rtol=1e-5)


def seen(encoder: Recurrent, spot: int) -> Tensor:
    """(T, D): which states change with the token at a place of a document."""
    batch = row(1, 9)
    changed = batch.input_ids.clone()
    changed[:, spot] = (changed[:, spot] + 1) % VOCAB
    return (encoder(batch) != encoder(batch.with_input_ids(changed)))[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spot", [0, 4, 8])
def test_what_each_direction_sees(kind, spot):
    """Separate directions see nothing of each other in the second layer either, where joined ones see everything."""
    causal = seen(build(kind), spot)
    assert not causal[:spot].any() and causal[spot:].any(dim=1).all()
    forwards, backwards = seen(build(kind, "separate"), spot).chunk(2, dim=1)
    assert not forwards[:spot].any() and forwards[spot:].any(dim=1).all()
    assert not backwards[spot + 1 :].any() and backwards[: spot + 1].any(dim=1).all()
    for half in seen(build(kind, "bidirectional"), spot).chunk(2, dim=1):
        assert half.any(dim=1).all()


def test_a_batch_without_a_token_has_states_of_0():
    ids = torch.full((2, 3), PAD)
    assert torch.equal(build()(TokenBatch(ids, torch.zeros_like(ids))), torch.zeros(2, 3, 12))


@torch.no_grad()
def test_added_states_join_the_embeddings():
    encoder, batch = build(), row(2, 4)
    for added in (torch.randn(2, 4, 10), torch.randn(2, 1, 10)):
        found = encoder(batch, added=added)
        # The oracle gives every position a token of its own, whose embedding is the sum.
        other = build()
        summed = encoder.embedding(batch.input_ids) + added
        other.embeddings.tok_embeddings = torch.nn.Embedding.from_pretrained(summed.flatten(0, 1))
        torch.testing.assert_close(found, other(batch.with_input_ids(torch.arange(8).view(2, 4))))


# ------------------------------------------------------------------------------------------------------- continuing a text


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [(1,) * 12, (5, 1, 1, 5), (12,)])
def test_cached_states_are_the_states(kind, pieces):
    encoder, batch = build(kind), row(2, 12)
    cache = encoder.new_cache(2, 12)
    states = []
    for ids in batch.input_ids.split(pieces, dim=1):
        assert cache.empty == (not states)
        states.append(encoder(TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False), cache))
    torch.testing.assert_close(torch.cat(states, dim=1), encoder(batch), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_cached_rows_of_unequal_length_some_of_which_are_kept(kind):
    """Padded on the left; each row goes on where it would alone. Then row 2 is kept twice, and row 0 is dropped."""
    encoder = build(kind)
    lengths, text = (6, 2, 4), draw(torch.ones(3, 11))
    segment_ids = torch.tensor([[0] * (6 - length) + [1] * length for length in lengths])
    ids = torch.full((3, 6), PAD)
    for number, length in enumerate(lengths):
        ids[number, 6 - length :] = text[number, :length]
    cache = encoder.new_cache(3, 9)
    first = encoder(TokenBatch(ids, segment_ids), cache)
    cache.select(kept := torch.tensor([2, 1, 2]))
    states = [first[kept]]
    for step in range(3):
        new = torch.stack([text[number, lengths[number] + step] for number in kept])[:, None]
        states.append(encoder(TokenBatch(new, torch.ones_like(new), packed=False, padded=False), cache))
    together = torch.cat(states, dim=1)
    for line, number in enumerate(kept.tolist()):
        alone = oracle(encoder, text[number, : lengths[number] + 3])
        torch.testing.assert_close(together[line, 6 - lengths[number] :], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_cache_errors():
    with pytest.raises(UserError, match="this lstm is bidirectional and cannot continue a text"):
        build(way="separate").new_cache(1, 4)
    encoder = build(max_length=8)
    with pytest.raises(UserError, match="9 tokens .* max_length of 8"):
        encoder.new_cache(1, 9)
    cache = encoder.new_cache(1, 8)
    encoder(row(1, 5), cache)
    with pytest.raises(UserError, match="10 tokens .* max_length of 8"):
        encoder(row(1, 5), cache)
    with pytest.raises(ValueError, match="2 rows do not fit into a cache for 1 rows"):
        encoder(row(2, 3), encoder.new_cache(1, 8))
    with pytest.raises(ValueError, match="padded on the left"):
        encoder(replace(row(1, 3), padded=True), encoder.new_cache(1, 8))
    with pytest.raises(ValueError, match="one document in each row"):
        encoder(TokenBatch(draw(SEGMENTS)[:1, :8], SEGMENTS[:1, :8]), encoder.new_cache(1, 8))


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_gradients_reach_every_parameter(kind, way):
    encoder = build(kind, way).train()
    (encoder(row(2, 10)) * torch.randn(2, 10, 12)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@torch.no_grad()
def test_a_tuned_prompt_is_read_before_the_text():
    encoder = build(adapter=PromptTuning(2), max_length=20)
    states = encoder(row(2, 5))
    plain = build(max_length=20)
    plain.load_state_dict({name: weight for name, weight in encoder.state_dict().items() if name != "prompt.weight"})
    plain.embeddings.tok_embeddings = torch.nn.Embedding.from_pretrained(
        torch.cat([encoder.embedding.weight, encoder.prompt.weight])
    )
    longer = torch.cat([torch.tensor([[VOCAB, VOCAB + 1]]).repeat(2, 1), row(2, 5).input_ids], dim=1)
    whole = plain(TokenBatch(longer, torch.ones_like(longer), packed=False, padded=False))
    torch.testing.assert_close(states, whole[:, 2:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", DIRECTIONS)
def test_bfloat16_autocast(kind, way):
    encoder = build(kind, way)
    batch = TokenBatch(draw(SEGMENTS), SEGMENTS)
    exact = encoder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(batch)
    difference = float((rough.float() - exact).abs().max())
    assert difference < 0.1
    assert (difference > 0) == (kind != "lstm" or cpu_has_bfloat16())
    (rough.float() ** 2).sum().backward()


@pytest.mark.parametrize("way", DIRECTIONS)
def test_an_lstm_stays_in_float32_where_the_cpu_has_none_in_bfloat16(way, monkeypatch):
    monkeypatch.setattr(recurrent, "cpu_has_bfloat16", lambda: False)
    encoder = build("lstm", way)
    batch = TokenBatch(draw(SEGMENTS), SEGMENTS)
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder(batch)
    assert torch.equal(states, encoder(batch))


@pytest.mark.parametrize("way", DIRECTIONS)
def test_compiling_leaves_the_states_as_they_are(way):
    encoder = build(way=way)
    compiled = torch.compile(encoder, backend="eager")
    for batch in (row(2, 7), TokenBatch(draw(SEGMENTS), SEGMENTS)):
        torch.testing.assert_close(compiled(batch), encoder(batch))
