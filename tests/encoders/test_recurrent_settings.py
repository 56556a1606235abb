"""Recurrent encoders: settings that decide or contradict each other, and how many weights there are."""

from dataclasses import replace

import pytest
import torch

from ssl_nlp.encoders import Recurrent
from ssl_nlp.encoders.adapters import IA3, LoRA
from ssl_nlp.encoders.depth import parameter_depths
from ssl_nlp.errors import UserError
from ssl_nlp.modules.heads import LanguageModelHead
from tests.encoders.small_recurrent import DIRECTIONS, PAD, VOCAB, build, row


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
