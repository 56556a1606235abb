"""The decoder of one vector: a Transformer or a recurrent network, against torch's cells read one sentence at a time."""

from typing import get_args

import pytest
import torch

from ssl_nlp.data import TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Recurrent
from ssl_nlp.encoders.recurrent import Kind
from ssl_nlp.modules import Decoder
from ssl_nlp.modules.decoder import DecoderKind
from tests.corpus import ListCorpus, random_texts

TEXTS = random_texts(6, longest=8)
CELLS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
RECURRENT, KINDS = get_args(Kind), get_args(DecoderKind)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(TEXTS))


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    return pad_rows([ids for ids, _ in tokenizer.encode(TEXTS)], None, tokenizer, 64)


def made(kind: str, tokenizer: Tokenizer, tied: bool = False) -> Decoder:
    torch.manual_seed(0)
    encoder = Recurrent("gru", dim=16, embedding_dim=12, max_length=64)
    encoder.build(tokenizer.vocab_size, tokenizer.pad_id, causal=False)
    decoder = Decoder(kind, 5, 2, encoder, tokenizer, tied, scale=0.02)
    decoder.encoder = [encoder]  # a list: it is no part of the decoder
    with torch.no_grad():
        for parameter in decoder.parameters():  # so that biases and states matter
            parameter.add_(0.3 * torch.randn_like(parameter))
    return decoder.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", RECURRENT)
def test_states_are_those_of_torch_that_begin_with_the_vector_and_read_it_with_every_token(kind, tokenizer, batch):
    """Each sentence alone; the other rows of the batch, which are longer or shorter, change nothing."""
    decoder, vectors = made(kind, tokenizer), torch.randn(len(batch), 5)
    states = decoder(vectors, batch)
    embeddings = decoder.network.embeddings
    firsts = decoder.first.weight.unflatten(0, (2, 12)) @ vectors.T  # (layers, width, B)
    for row, (vector, real) in enumerate(zip(vectors, batch.is_text, strict=True)):
        token = embeddings.tok_embeddings.weight[batch.input_ids[row, real]]
        x = embeddings.norm(token + 0.02 * decoder.condition.weight @ vector)
        for layer, first in zip(decoder.network.layers, firsts[..., row], strict=True):
            cell = CELLS[kind](12, 12)
            cell.load_state_dict(layer.cells["forwards"].state_dict())
            begin = first.tanh()[None]
            x, _ = cell(x, (begin, first[None]) if kind == "lstm" else begin)
        torch.testing.assert_close(states[row, real], x, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_it_writes_what_is_likeliest_when_everything_is_read_anew_for_each_token(kind, tokenizer):
    decoder, vectors = made(kind, tokenizer), 3 * torch.randn(4, 5)
    written = decoder.write(vectors, 9)
    never = [token for token in tokenizer.special_ids if token != tokenizer.end_id]
    for vector, row in zip(vectors, written.tolist(), strict=True):
        ids = list(tokenizer.prefix)
        for token in row[: row.index(tokenizer.end_id) + 1] if tokenizer.end_id in row else row:
            logits = decoder.head(decoder(vector[None], pad_rows([ids], None, tokenizer, 64))[0, -1])
            logits[never] = -torch.inf
            assert int(logits.argmax()) == token
            ids.append(token)
    assert len({*map(tuple, written.tolist())}) == 4  # each vector has a sentence of its own


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_trained_and_a_tied_embedding_is_the_encoders(kind, tied, tokenizer, batch):
    decoder = made(kind, tokenizer, tied)
    total, number = decoder.loss(torch.randn(len(batch), 5), batch, batch.next_ids)
    (total / number).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in decoder.parameters())
    [encoder] = decoder.encoder
    assert (decoder.network.embedding is encoder.embedding) == tied
    assert decoder.head.output_weight is decoder.network.embedding.weight
