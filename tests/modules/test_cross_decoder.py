"""The decoder with cross-attention against a decoder without a cache, one text at a time, and by what it must not see."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2Config, GPT2Model

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.modules import BeamSearch, CrossDecoder, LanguageModelHead
from ssl_nlp.modules.generation import Continuation, continue_rows
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(60))
SOURCES, TARGETS = random_texts(6, seed=1, longest=9), random_texts(6, seed=2, longest=9)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


def rows(tokenizer: Tokenizer, texts: list[str]) -> TokenBatch:
    return pad_rows([ids for ids, _ in tokenizer.encode(texts)], None, tokenizer, 64)


@pytest.fixture(scope="module")
def model(tokenizer) -> tuple[Transformer, CrossDecoder]:
    """An encoder and a decoder of other widths, with weights so large that attention is far from uniform."""
    torch.manual_seed(0)
    encoder = Transformer(size=None, dim=24, layers=1, heads=2, max_length=64)
    encoder.build(tokenizer.vocab_size, tokenizer.pad_id, causal=False)
    decoder = CrossDecoder(2, encoder, tokenizer, width=32, dropout=0.0, tied=False)
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *decoder.parameters()]:
            if parameter.dim() == 2:
                parameter.mul_(8)
    return encoder.eval(), decoder.eval()


@torch.no_grad()
def test_the_states_equal_a_decoder_written_out(tokenizer, model):
    """The oracle computes one source and target alone, one head and one query at a time."""
    encoder, decoder = model
    source, target = rows(tokenizer, SOURCES), rows(tokenizer, TARGETS)
    states = decoder(encoder(source), source, target)
    for row in range(len(source)):
        real = source.is_text[row]
        memory = encoder(TokenBatch(source.input_ids[row, real][None], real[real].long()[None], packed=False))[0]
        ids = target.input_ids[row, target.is_text[row]]
        x = decoder.transformer.embeddings.norm(decoder.transformer.embedding.weight[ids])
        turn = decoder.transformer.rotary[: len(ids)]
        for layer in decoder.transformer.layers:
            x = x + attention_written_out(layer.attn, layer.attn_norm(x), None, turn)
            x = x + attention_written_out(layer.cross_attn, layer.cross_norm(x), memory, None)
            x = x + layer.mlp(layer.mlp_norm(x))
        expected = decoder.transformer.final_norm(x)
        torch.testing.assert_close(states[row, : len(ids)], expected, atol=1e-4, rtol=1e-4)


def attention_written_out(attention, x, memory, turn):
    q, keys = attention.q_proj(x), x if memory is None else memory
    k, v = attention.k_proj(keys), attention.v_proj(keys)
    size = q.shape[1] // attention.heads
    mixed = torch.zeros_like(q)
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            seen = i + 1 if memory is None else len(k)
            query, key = q[i, part], k[:seen, part]
            if turn is not None:
                query, key = turned(query, turn[i]), torch.stack([turned(key[j], turn[j]) for j in range(seen)])
            weights = (key @ query / size**0.5).softmax(0)
            mixed[i, part] = weights @ v[:seen, part]
    return attention.Wo(mixed)


def turned(vector, angles):
    (x, y), (cos, sin) = (vector[0::2], vector[1::2]), angles.unbind(-1)
    return torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1).flatten()


@torch.no_grad()
def test_a_later_target_token_changes_nothing_before_it(tokenizer, model):
    encoder, decoder = model
    source, target = rows(tokenizer, SOURCES), rows(tokenizer, TARGETS)
    states = encoder(source)
    before = decoder(states, source, target)
    for place in (1, 3):
        ids = target.input_ids.clone()
        ids[:, place] = (ids[:, place] + 1) % tokenizer.vocab_size
        after = decoder(states, source, target.with_input_ids(ids))
        assert torch.equal(after[:, :place], before[:, :place])
        assert (after[:, place] != before[:, place]).any(dim=1).all()


@torch.no_grad()
def test_padding_of_the_source_is_not_seen_and_its_text_is(tokenizer, model):
    encoder, decoder = model
    source, target = rows(tokenizer, SOURCES), rows(tokenizer, TARGETS)
    states = encoder(source)
    before = decoder(states, source, target)
    noise = torch.where(source.is_text[..., None], states, torch.randn_like(states))
    assert torch.equal(decoder(noise, source, target), before)
    shortest = int(source.is_text.sum(1).argmin())
    states[shortest, int(source.is_text[shortest].sum()) - 1] += 1
    after = decoder(states, source, target)
    others = torch.arange(len(source)) != shortest
    assert torch.equal(after[others], before[others])
    assert (after[shortest] != before[shortest]).any(dim=1).all()


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
def test_what_is_written_does_not_depend_on_the_other_texts_of_the_batch(beams, tokenizer, model):
    encoder, decoder = model
    search = BeamSearch(beams=beams)

    def written(texts: list[str]) -> list[list[int]]:
        source = rows(tokenizer, texts)
        longest = [search.longest(int(n)) for n in source.is_text.sum(dim=1)]
        return search.search(decoder.begin(encoder(source), source, max(longest) + 1), longest)

    together = written(SOURCES)
    assert together == [written([text])[0] for text in SOURCES]
    assert len(set(map(len, together))) > 1


@torch.no_grad()
def test_one_beam_writes_what_greedy_decoding_without_a_cache_writes(tokenizer, model):
    encoder, decoder = model
    source = rows(tokenizer, SOURCES)
    states = encoder(source)
    found = BeamSearch(beams=1).search(decoder.begin(states, source, 13), [12] * len(source))
    for row, tokens in enumerate(found):
        ids = list(tokenizer.prefix)
        alone = replace(source, input_ids=source.input_ids[[row]], segment_ids=source.segment_ids[[row]])
        while len(ids) < 13:
            target = TokenBatch(torch.tensor([ids]), torch.ones(1, len(ids)).long(), packed=False, padded=False)
            logits = decoder.head(decoder(states[[row]], alone, target)[0, -1])
            logits[[i for i in tokenizer.special_ids if i != tokenizer.end_id]] = -torch.inf
            if (token := int(logits.argmax())) == tokenizer.end_id:
                break
            ids.append(token)
        assert tokens == ids[1:]
    sampled = continue_rows(decoder.begin(states, source, 12), 12).tolist()
    assert found == [row[: row.index(tokenizer.end_id)] if tokenizer.end_id in row else row for row in sampled]


@torch.no_grad()
def test_the_loss_is_that_of_the_head_on_all_target_tokens(tokenizer, model):
    encoder, decoder = model
    source, target = rows(tokenizer, SOURCES), rows(tokenizer, TARGETS)
    states = encoder(source)
    for smoothing in (0.0, 0.1):
        total, targets = decoder.loss(states, source, target, smoothing)
        logits = decoder.head(decoder(states, source, target)).flatten(0, 1)
        expected = F.cross_entropy(logits, target.next_ids.flatten(), reduction="sum", label_smoothing=smoothing)
        assert float(total) == pytest.approx(float(expected), rel=1e-5)
        assert int(targets) == int(target.is_text.sum())
    nats = decoder.losses(states, source, target)
    assert float(nats.sum()) == pytest.approx(float(decoder.loss(states, source, target)[0]), rel=1e-5)


def test_widths(tokenizer, model):
    encoder, decoder = model
    assert decoder.transformer.dim == 32 and encoder.dim == 24
    tied = CrossDecoder(1, encoder, tokenizer, width=None, dropout=0.0, tied=True)
    assert tied.transformer.embedding is encoder.embedding
    assert tied.head.output_weight is encoder.embedding.weight
    with pytest.raises(UserError, match="width 32 cannot share the encoder's token embedding of width 24"):
        CrossDecoder(1, encoder, tokenizer, width=32, dropout=0.0, tied=True)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["Transformer", "GPT-2"])
def test_rows_of_a_continuation_can_be_chosen_anew(kind, tokenizer, tmp_path):
    """The oracle begins again with the rows as they are then."""
    torch.manual_seed(0)
    if kind == "GPT-2":
        config = GPT2Config(vocab_size=320, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.5)
        GPT2Model(config).save_pretrained(tmp_path)
        encoder = PretrainedEncoder(str(tmp_path), dropout=0.0)
    else:
        encoder = Transformer(size=None, dim=16, layers=2, heads=2, max_length=64)
    encoder.build(tokenizer.vocab_size, tokenizer.pad_id, causal=True)
    encoder.eval()
    head = LanguageModelHead(16, encoder.embedding)
    texts = [ids for ids, _ in tokenizer.encode(["the dog", "a small cat sees the tree"])]
    rows = Continuation(encoder, head, tokenizer, texts, steps=4)
    rows.logits()
    rows.select(torch.tensor([1, 0, 1, 1]))
    rows.append(torch.tensor([5, 6, 7, 8]))
    texts = [[*texts[1], 5], [*texts[0], 6], [*texts[1], 7], [*texts[1], 8]]
    expected = Continuation(encoder, head, tokenizer, texts, steps=2).logits()
    torch.testing.assert_close(rows.logits(), expected, atol=1e-4, rtol=1e-4)
    rows.select(torch.tensor([0, 2, 2, 1]))
    rows.append(torch.tensor([5, 6, 7, 8]))
    texts = [[*texts[0], 5], [*texts[2], 6], [*texts[2], 7], [*texts[1], 8]]
    expected = Continuation(encoder, head, tokenizer, texts, steps=1).logits()
    torch.testing.assert_close(rows.logits(), expected, atol=1e-4, rtol=1e-4)
    rows.select(torch.tensor([3]))
    rows.append(torch.tensor([9]))
    expected = Continuation(encoder, head, tokenizer, [[*texts[3], 9]], steps=1).logits()
    torch.testing.assert_close(rows.logits(), expected, atol=1e-4, rtol=1e-4)
