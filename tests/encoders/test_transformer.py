"""The Transformer as an encoder: shape, sizes, errors, initial weights, gradients."""

import math

import pytest
import torch
from torch import nn

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders import Transformer
from ssl_nlp.encoders.layers import AttentionMask, attend
from ssl_nlp.errors import UserError

VOCAB, PAD = 50, 3


def build(causal: bool = True, **arguments) -> Transformer:
    torch.manual_seed(0)
    encoder = Transformer(size=None, **{"dim": 32, "layers": 3, "heads": 4, **arguments})
    encoder.build(VOCAB, PAD, causal)
    return encoder.eval()


def rows(count: int = 2, length: int = 10) -> TokenBatch:
    ids = torch.randint(4, VOCAB, (count, length), generator=torch.Generator().manual_seed(1))
    return TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)


def test_has_no_parameters_before_build():
    encoder = Transformer("tiny")
    assert list(encoder.parameters()) == []
    encoder.build(VOCAB, PAD, causal=True)
    assert (encoder.vocab_size, encoder.pad_id, encoder.causal, encoder.dim) == (VOCAB, PAD, True, 128)
    assert encoder.embedding.weight.shape == (VOCAB, 128)
    assert encoder(rows()).shape == (2, 10, 128)


def test_build_again():
    encoder = build()
    weight = encoder.embedding.weight
    encoder.build(VOCAB, PAD, causal=True)
    assert encoder.embedding.weight is weight
    with pytest.raises(UserError, match="vocab_size=50, .*vocab_size=51.*make a new one"):
        encoder.build(VOCAB + 1, PAD, causal=True)
    with pytest.raises(UserError, match="causal=False"):
        encoder.build(VOCAB, PAD, causal=False)


@pytest.mark.parametrize(
    ("size", "layers", "dim", "hidden", "millions"),
    [
        ("tiny", 4, 128, 344, 0.79),
        ("small", 6, 256, 688, 4.74),
        ("medium", 8, 512, 1368, 25.2),
        ("base", 12, 768, 2048, 84.9),
    ],
)
def test_presets(size, layers, dim, hidden, millions):
    with torch.device("meta"):
        encoder = Transformer(size)
        encoder.build(VOCAB, PAD, causal=False)
    assert (encoder.depth, encoder.dim, encoder.hidden) == (layers, dim, hidden)
    matrices = sum(p.numel() for n, p in encoder.named_parameters() if p.dim() == 2 and "embeddings" not in n)
    assert matrices / 1e6 == pytest.approx(millions, rel=0.01)


def test_parameter_count():
    """Four D x D and three D x H matrices a layer; norms: embedding, final, and two a layer but for the first."""
    encoder = build(dim=32, layers=3, heads=4, hidden=40)
    matrices = 3 * (4 * 32 * 32 + 3 * 32 * 40)
    assert sum(p.numel() for p in encoder.parameters()) == VOCAB * 32 + matrices + (2 + 2 * 3 - 1) * 32


def test_what_is_given_overrides_the_size():
    encoder = Transformer("tiny", layers=2, hidden=64)
    assert (encoder.depth, encoder.dim, encoder.heads, encoder.hidden) == (2, 128, 4, 64)
    assert Transformer("tiny", dim=192).hidden == 512


def test_hparams_rebuild_the_encoder():
    encoder = Transformer("tiny", layers=2, window=4, dropout=0.1, max_length=64)
    encoder.build(VOCAB, PAD, causal=False)
    again = Transformer(**encoder.hparams())
    again.build(VOCAB, PAD, causal=False)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(rows()), encoder.eval()(rows()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "huge"}, "'huge' is unknown: use one of tiny, small, medium, base, large"),
        ({"size": None, "dim": 64}, "needs heads, layers"),
        ({"size": "tiny", "heads": 3}, "dim 128 is not divisible by 3 heads"),
        ({"size": "tiny", "dim": 12, "heads": 4}, "dim 12 / heads 4 is odd"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, not 1.0"),
        ({"dropout": -0.1}, "not -0.1"),
        ({"window": 0}, "window must be at least 1, not 0"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"rope_theta": 0.0}, "rope_theta must be positive"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(UserError, match=message):
        Transformer(**arguments)


def test_all_problems_are_reported_together_in_one_line():
    with pytest.raises(UserError) as error:
        Transformer("tiny", heads=3, dropout=2.0, window=-1)
    assert "\n" not in str(error.value)
    assert all(part in str(error.value) for part in ("not divisible by 3 heads", "not 2.0", "window", "not -1"))


def test_a_row_longer_than_the_encoder():
    encoder = build(max_length=9)
    with pytest.raises(UserError, match="10 tokens is longer than the encoder's max_length of 9"):
        encoder(rows())


def test_initial_weights():
    """Truncated at two deviations of 0.02, outputs smaller by the root of twice the depth."""
    encoder = build(dim=128, heads=4, layers=8)
    small = 0.02 / math.sqrt(16)
    for name, weight in encoder.named_parameters():
        if weight.dim() == 1:
            assert torch.equal(weight, torch.ones_like(weight)), name
            continue
        std = small if name.endswith("Wo.weight") else 0.02
        assert weight.abs().max() <= 2 * std, name
        assert weight.std().item() == pytest.approx(0.88 * std, rel=0.05), name


@pytest.mark.parametrize("causal", [True, False])
def test_gradients_reach_every_parameter(causal):
    encoder = build(causal, window=3).train()
    batch = rows()
    (encoder(batch) * torch.randn(2, 10, 32)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_padding_embedding_gets_no_gradient():
    encoder = build(causal=False)
    ids = torch.tensor([[5, 6, PAD, PAD]])
    (encoder(TokenBatch(ids, torch.tensor([[1, 1, 0, 0]]))) ** 2).sum().backward()
    gradient = encoder.embedding.weight.grad
    assert gradient is not None
    assert gradient[PAD].abs().sum() == 0
    assert gradient[5].abs().sum() > 0


def test_dropout_acts_in_training_only():
    encoder = build(dropout=0.5)
    assert torch.equal(encoder(rows()), encoder(rows()))
    encoder.train()
    assert not torch.equal(encoder(rows()), encoder(rows()))


def test_what_dropout_acts_on():
    """The embeddings, and in each layer the attention's output and the (wider) feed-forward activations."""
    encoder = build(dropout=0.5, layers=2, hidden=48).train()
    widths = []
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            assert module.p == 0.5
            module.register_forward_hook(lambda module, inputs, output: widths.append(inputs[0].shape[-1]))
    encoder(rows())
    assert widths == [32, 32, 48, 32, 48]


def test_nothing_derived_is_in_the_state_dict():
    assert build().state_dict().keys() == dict(build().named_parameters()).keys()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_bfloat16_autocast(causal, packed):
    encoder = build(causal, window=3)
    ids = rows().input_ids
    segment_ids = torch.tensor([[1] * 4 + [2] * 6, [1] * 7 + [0] * 3])
    batch = TokenBatch(ids, segment_ids if packed else torch.ones_like(ids), packed=packed, padded=packed)
    exact = encoder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(batch)
    assert 0 < (rough.float() - exact).abs().max() < 0.1
    (rough.float() ** 2).sum().backward()


@pytest.mark.parametrize("packed", [False, True])
def test_attention_on_a_cpu_is_that_of_float32_under_autocast(packed):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 8, 4, dtype=torch.bfloat16)
    added = torch.zeros(8, 8, dtype=torch.bfloat16).masked_fill_(~torch.ones(8, 8).tril().bool(), -math.inf)
    mask = AttentionMask(added if packed else None, is_causal=not packed)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attend(query, key, value, mask)
    scores = query.float() @ key.float().mT / 2 + added.float()
    torch.testing.assert_close(mixed, scores.softmax(dim=-1) @ value.float())


def test_angles_keep_float32_under_autocast():
    """In bfloat16 position 1001 would be 1000: the farther a position, the wronger its rotation."""
    with torch.autocast("cpu", torch.bfloat16):
        encoder = build(dim=64, heads=1, layers=1, max_length=1002)
        turn = encoder._turn(0, 1002)
    position, pair = 1001, 3
    angle = position * 10000 ** (-2 * pair / 64)
    expected = [math.cos(angle), math.sin(angle)]
    assert turn[position, 0, pair].tolist() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_compiles_as_one_graph(causal):
    """Nothing in `forward` looks at values. (`eager` runs the captured graph without compiling it.)"""
    encoder = build(causal, window=3)
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    ids = rows().input_ids
    packed = TokenBatch(ids, torch.tensor([[1] * 4 + [2] * 6, [1] * 7 + [0] * 3]))
    for batch in (rows(), packed):
        torch.testing.assert_close(compiled(batch), encoder(batch))
