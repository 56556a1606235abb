"""Recurrent encoders: states by a slow oracle, documents in packed rows, directions of sight, continuing a text."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders import Recurrent, recurrent
from ssl_nlp.encoders.adapters import IA3, LoRA, PromptTuning
from ssl_nlp.encoders.depth import parameter_depths
from ssl_nlp.errors import UserError
from ssl_nlp.modules.heads import LanguageModelHead

VOCAB, PAD = 50, 3
KINDS = ("rnn", "lstm", "gru")
DIRECTIONS = {"causal": {}, "bidirectional": {}, "separate": {"separate": True}}
WAYS = [pytest.param(kind, way, id=f"{kind}-{way}") for kind, way in itertools.product(KINDS, DIRECTIONS)]
SEGMENTS = torch.tensor([[1] * 5 + [2] * 8 + [3] * 3 + [0] * 4, [1] * 11 + [2] * 9, [1] * 2 + [0] * 18, [0] * 20])


@pytest.fixture(autouse=True)
def read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that are shorter than most documents."""
    monkeypatch.setattr(recurrent, "CPU_STEPS", 3)


def build(kind: str = "lstm", way: str = "causal", **arguments) -> Recurrent:
    torch.manual_seed(0)
    encoder = Recurrent(kind, **{"dim": 12, "embedding_dim": 10, **DIRECTIONS[way], **arguments})
    encoder.build(VOCAB, PAD, causal=way == "causal")
    with torch.no_grad():
        for parameter in encoder.parameters():  # so that biases and states matter
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder.eval()


def draw(segment_ids: Tensor) -> Tensor:
    ids = torch.randint(4, VOCAB, segment_ids.shape, generator=torch.Generator().manual_seed(2))
    return torch.where(segment_ids > 0, ids, PAD)


def row(*size: int) -> TokenBatch:
    ids = draw(torch.ones(size))
    return TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)


def documents(segment_ids: Tensor):
    for line in range(len(segment_ids)):
        for document in range(1, int(segment_ids[line].max()) + 1):
            yield line, segment_ids[line] == document


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


# ----------------------------------------------------------------------------------------------------- settings and weights


@pytest.mark.parametrize(
    ("arguments", "causal", "message"),
    [
        ({"bidirectional": True}, True, "needs a causal encoder, and encoder.bidirectional is true: make another one"),
        ({"bidirectional": False}, False, "needs a bidirectional encoder, and encoder.bidirectional is false"),
        ({"separate": True}, True, "needs a causal encoder, and encoder.separate is true"),
        ({"dim": 9}, False, "dim 9 is odd, and each of two directions has half of it: make it even"),
    ],
)
def test_it_refuses_a_direction_that_it_is_not_made_for(arguments, causal, message):
    with pytest.raises(UserError, match=message) as caught:
        Recurrent(**arguments).build(VOCAB, PAD, causal)
    assert "\n" not in str(caught.value)


def test_a_batch_cannot_change_the_direction():
    with pytest.raises(UserError, match="bidirectional encoder, and the weights of this gru are those of a causal one"):
        build("gru")(replace(row(1, 3), causal=False))
    with pytest.raises(UserError, match="causal encoder, and the weights of this gru are those of a bidirectional one"):
        build("gru", "bidirectional")(replace(row(1, 3), causal=True))
    assert torch.equal(build()(replace(row(1, 3), causal=True)), build()(row(1, 3)))


@pytest.mark.parametrize(
    ("arguments", "causal"),
    [({}, False), ({"bidirectional": False}, True), ({"bidirectional": True}, False), ({"separate": True}, False)],
)
def test_where_nobody_asks_the_settings_decide(arguments, causal):
    encoder = Recurrent(dim=4, **arguments)
    encoder.build(VOCAB, PAD, causal=None)
    assert encoder.causal == causal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "elman"}, "kind 'elman' is unknown: use rnn, lstm, gru"),
        ({"layers": 0}, "layers must be at least 1, not 0"),
        ({"dim": 0, "embedding_dim": -1}, "dim must be at least 1, not 0; embedding_dim must be at least 1, not -1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, not 1.0"),
        ({"separate": True, "bidirectional": False}, "separate directions are two: leave bidirectional out"),
        ({"separate": True, "tied": False}, "separate directions share their output layer .*: set tied to true"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        Recurrent(**arguments)
    assert "\n" not in str(caught.value)


def test_a_row_longer_than_the_encoder():
    with pytest.raises(UserError, match="10 tokens is longer than the encoder's max_length of 9"):
        build(max_length=9)(row(1, 10))


@pytest.mark.parametrize("way", DIRECTIONS)
def test_hparams_rebuild_the_encoder(way):
    encoder = build("gru", way, layers=3, dropout=0.1)
    again = Recurrent(**encoder.hparams())
    again.build(VOCAB, PAD, causal=way == "causal")
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(row(2, 5)), encoder(row(2, 5)))


def test_parameter_count():
    """A direction of an LSTM has four matrices for what it reads, four for its state, and two vectors of biases each."""

    def cell(width: int, units: int) -> int:
        return 4 * (width * units + units * units + 2 * units)

    embeddings = VOCAB * 10 + 10
    count = {way: sum(p.numel() for p in build(way=way).parameters()) - embeddings for way in DIRECTIONS}
    assert count == {
        "causal": cell(10, 12) + cell(12, 12),
        "bidirectional": 2 * (cell(10, 6) + cell(12, 6)),
        "separate": 2 * (cell(10, 6) + cell(6, 6)),
    }


def test_an_lstm_remembers_at_first():
    encoder = Recurrent(dim=4)
    encoder.build(VOCAB, PAD, causal=False)
    for layer in encoder.layers:
        for cell in layer.cells.values():
            assert (cell.bias_ih_l0 + cell.bias_hh_l0).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_an_output_layer_of_its_own_or_the_token_embedding():
    for tied in (True, False):
        encoder = build(tied=tied)
        head = LanguageModelHead(encoder.dim, encoder.embedding, encoder.language_head())
        assert (head.output_weight is encoder.embedding.weight) == tied
        assert head(encoder(row(2, 3))).shape == (2, 3, VOCAB)


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_gradients_reach_every_parameter(kind, way):
    encoder = build(kind, way).train()
    (encoder(row(2, 10)) * torch.randn(2, 10, 12)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_dropout_acts_on_embeddings_and_states_in_training_only():
    encoder = build(dropout=0.5)
    assert torch.equal(encoder(row(2, 6)), encoder(row(2, 6)))
    widths = []
    for module in encoder.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda module, inputs, output: widths.append(inputs[0].shape[-1]))
    assert not torch.equal(encoder(row(2, 6)), encoder(row(2, 6)))
    assert widths == [10, 12, 12] * 2


def test_freezing_and_layer_decay_know_its_layers():
    encoder = build(freeze=1)
    trained = {name.partition(".cells")[0] for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {"layers.1"}
    assert sorted(set(parameter_depths(encoder).values())) == [0, 1, 2]
    with pytest.raises(UserError, match="freeze 3: this encoder has 2 layers"):
        build(freeze=3)


@pytest.mark.parametrize("adapter", [LoRA(), IA3()], ids=["lora", "ia3"])
def test_adapters_of_linear_maps_are_refused(adapter):
    with pytest.raises(UserError, match="a Recurrent has no linear maps .*PromptTuning") as caught:
        build(adapter=adapter)
    assert "\n" not in str(caught.value)


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
    assert 0 < (rough.float() - exact).abs().max() < 0.1
    (rough.float() ** 2).sum().backward()


@pytest.mark.parametrize("way", DIRECTIONS)
def test_compiling_leaves_the_states_as_they_are(way):
    encoder = build(way=way)
    compiled = torch.compile(encoder, backend="eager")
    for batch in (row(2, 7), TokenBatch(draw(SEGMENTS), SEGMENTS)):
        torch.testing.assert_close(compiled(batch), encoder(batch))
