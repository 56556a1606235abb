"""The convolutional encoder: states by torch's own convolution, documents in packed rows, direction, continuing a text."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders import TextCNN
from ssl_nlp.encoders.adapters import LoRA, merged
from ssl_nlp.errors import UserError
from ssl_nlp.modules.heads import LinearHead, text_head
from ssl_nlp.modules.pooling import pool
from tests.encoders.small_recurrent import PAD, SEGMENTS, VOCAB, documents, draw, row

WIDTHS = ([3, 4, 5], [1], [2, 7], [4])


def build(causal: bool = False, **arguments) -> TextCNN:
    torch.manual_seed(0)
    encoder = TextCNN(**{"dim": 12, "embedding_dim": 10, **arguments})
    encoder.build(VOCAB, PAD, causal)
    return encoder.eval()


@torch.no_grad()
def oracle(encoder: TextCNN, ids: Tensor) -> Tensor:
    """One document (T,) by `conv1d`, whose kernels are the rows of the linear maps."""
    x = F.layer_norm(encoder.embedding.weight[ids], (encoder.embedding.embedding_dim,), encoder.embeddings.norm.weight)
    found = []
    for size in encoder.widths:
        linear = encoder.layers[0].maps[str(size)]
        kernel = linear.weight.view(len(linear.weight), size, -1).transpose(1, 2)
        before = size - 1 if encoder.causal else size // 2
        found.append(F.conv1d(F.pad(x.T, (before, size - 1 - before)), kernel, linear.bias).relu().T)
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("causal", [True, False])
def test_packed_documents_are_the_documents_alone(causal, widths):
    encoder, ids = build(causal, widths=widths), draw(SEGMENTS)
    states = encoder(TokenBatch(ids, SEGMENTS))
    assert states.isfinite().all()
    for line, place in documents(SEGMENTS):
        torch.testing.assert_close(states[line, place], oracle(encoder, ids[line, place]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_a_changed_document_leaves_the_others_alone(causal):
    encoder, ids = build(causal), draw(SEGMENTS)
    before = encoder(TokenBatch(ids, SEGMENTS))
    for line, place in documents(SEGMENTS):
        changed = ids.clone()
        changed[line, place] = (changed[line, place] + 1) % VOCAB
        after = encoder(TokenBatch(changed, SEGMENTS))
        others = torch.ones_like(SEGMENTS, dtype=torch.bool)
        others[line] = ~place
        assert torch.equal(after[others], before[others])
        assert not torch.equal(after[line, place], before[line, place])


@pytest.mark.parametrize("causal", [True, False])
def test_a_position_sees_its_windows(causal):
    """The widest window has 5 tokens, those to its end if it is causal."""
    encoder, batch = build(causal), row(1, 11)
    changed = batch.input_ids.clone()
    changed[0, 5] += 1
    moved = (encoder(batch) != encoder(batch.with_input_ids(changed)))[0].any(dim=1)
    reached = range(5, 10) if causal else range(3, 8)
    assert moved.tolist() == [place in reached for place in range(11)]


def test_the_same_weights_serve_both_directions():
    batch = row(2, 9)
    causal, other = build(causal=True), build(causal=False)
    assert torch.equal(causal(replace(batch, causal=False)), other(batch))
    assert torch.equal(other(replace(batch, causal=True)), causal(batch))


@torch.no_grad()
def test_added_states_join_the_embeddings():
    encoder, batch = build(), row(2, 4)
    added = torch.randn(2, 4, 10)
    other = build()
    summed = encoder.embedding(batch.input_ids) + added
    other.embeddings.tok_embeddings = torch.nn.Embedding.from_pretrained(summed.flatten(0, 1))
    expected = other(batch.with_input_ids(torch.arange(8).view(2, 4)))
    torch.testing.assert_close(encoder(batch, added=added), expected)


@torch.no_grad()
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_cached_rows_of_unequal_length_some_of_which_are_kept(widths):
    """Padded on the left; each row goes on where it would alone. Then row 2 is kept twice, and row 0 is dropped."""
    encoder = build(causal=True, widths=widths)
    lengths, text = (6, 2, 4), draw(torch.ones(3, 11))
    segment_ids = torch.tensor([[0] * (6 - length) + [1] * length for length in lengths])
    ids = torch.full((3, 6), PAD)
    for number, length in enumerate(lengths):
        ids[number, 6 - length :] = text[number, :length]
    cache = encoder.new_cache(3, 9)
    assert cache.empty
    first = encoder(TokenBatch(ids, segment_ids), cache)
    cache.select(kept := torch.tensor([2, 1, 2]))
    states = [first[kept]]
    for step in range(3):
        assert not cache.empty
        new = torch.stack([text[number, lengths[number] + step] for number in kept])[:, None]
        states.append(encoder(TokenBatch(new, torch.ones_like(new), packed=False, padded=False), cache))
    together = torch.cat(states, dim=1)
    for line, number in enumerate(kept.tolist()):
        alone = oracle(encoder, text[number, : lengths[number] + 3])
        torch.testing.assert_close(together[line, 6 - lengths[number] :], alone, atol=1e-5, rtol=1e-5)


def test_cache_errors():
    with pytest.raises(UserError, match="bidirectional encoder cannot continue"):
        build()(row(1, 4), build().new_cache(1, 4))
    encoder = build(causal=True, max_length=8)
    with pytest.raises(UserError, match="9 tokens .* max_length of 8"):
        encoder.new_cache(1, 9)
    cache = encoder.new_cache(1, 8)
    encoder(row(1, 5), cache)
    with pytest.raises(UserError, match="10 tokens .* max_length of 8"):
        encoder(row(1, 5), cache)
    with pytest.raises(ValueError, match="padded on the left"):
        encoder(replace(row(1, 3), padded=True), encoder.new_cache(1, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 10}, "dim 10 cannot be divided among 3 widths"),
        ({"dim": 0, "max_length": 0}, "dim must be at least 1, not 0; max_length must be at least 1, not 0"),
        ({"widths": []}, r"widths must be one or more different numbers, at least 1 each, not \[\]"),
        ({"widths": [3, 3]}, r"not \[3, 3\]"),
        ({"widths": [0], "dropout": -1.0}, r"not \[0\]; dropout must be at least 0 and less than 1, not -1.0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        TextCNN(**arguments)
    assert "\n" not in str(caught.value)


def test_hparams_rebuild_the_encoder_and_all_of_it_is_trained():
    encoder = build(widths=[2, 3], dropout=0.1)
    again = TextCNN(**encoder.hparams())
    again.build(VOCAB, PAD, causal=False)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(row(2, 5)), encoder(row(2, 5)))
    (again(row(2, 9)) * torch.randn(2, 9, 12)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in again.parameters())
    assert sum(p.numel() for p in again.parameters()) == VOCAB * 10 + 10 + (2 + 3) * 10 * 6 + 12


def test_freezing_counts_its_convolutions_as_one_layer():
    encoder = build(freeze=1)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    with pytest.raises(UserError, match="freeze 2: this encoder has 1 layers"):
        build(freeze=2)


@torch.no_grad()
def test_adapters_of_linear_maps_fit():
    encoder = build(adapter=LoRA(rank=2))
    for parameter in encoder.parameters():
        parameter.add_(torch.randn_like(parameter))
    torch.testing.assert_close(merged(encoder)(row(2, 5)), encoder(row(2, 5)), atol=1e-4, rtol=1e-4)


def test_bfloat16_autocast_and_compiling():
    encoder, batch = build(), TokenBatch(draw(SEGMENTS), SEGMENTS)
    exact = encoder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert 0 < (encoder(batch).float() - exact).abs().max() < 0.1
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(batch), exact)


def test_a_classifier_of_texts_reads_the_maximum_over_their_tokens():
    head, pooling = text_head(build(), 3)
    assert (type(head), pooling) == (LinearHead, "max")
    hidden, segments = torch.tensor([[[-1.0, 2.0], [-3.0, -4.0], [9.0, 9.0]]] * 2), torch.tensor([[1, 1, 0], [0, 0, 0]])
    pooled = pool(hidden, TokenBatch(segments, segments, packed=False), pooling)
    assert pooled.tolist() == [[-1.0, 2.0], [0.0, 0.0]]  # padding never counts, and an empty text has zeros
