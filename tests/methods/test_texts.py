"""Embeddings of texts: every pooling, from one pass through the encoder."""

import pytest
import torch
from transformers import GPT2TokenizerFast

from ssl_nlp.data import TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer, load_pretrained
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import ARAE, VAE, Autoencoder, CausalLM, MaskedLM, Method, SimCLR
from ssl_nlp.modules.pooling import pool
from ssl_nlp.objectives.views import Delete
from tests.corpus import ListCorpus, random_texts

TEXTS = [*random_texts(9, seed=1), "a", ""]


@pytest.fixture(scope="module")
def tokenizer():
    return get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(random_texts(40)))


def connected(method, tokenizer):
    torch.manual_seed(0)
    method.connect(tokenizer)
    return method.eval()


def encoder():
    return Transformer(size=None, dim=16, layers=2, heads=2, max_length=64)


METHODS = {
    "method": lambda: Method(encoder()),
    "causal": lambda: CausalLM(encoder()),
    "masked": lambda: MaskedLM(encoder()),
    "masked pairs": lambda: MaskedLM(encoder(), sentence_pairs="next"),
    "simclr": lambda: SimCLR(encoder(), views=[Delete(0.2)]),
    "autoencoder": lambda: Autoencoder(encoder()),
    "bottleneck": lambda: Autoencoder(encoder(), latent_dim=5),
    "vae": lambda: VAE(encoder(), latent_dim=4),
    "arae": lambda: ARAE(encoder(), latent_dim=6),
}
OWN = {"bottleneck": 5, "vae": 4, "arae": 6}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_pooled_in_the_same_ways_from_one_pass(name, tokenizer, monkeypatch):
    method = connected(METHODS[name](), tokenizer)
    read = []
    states = method.states
    monkeypatch.setattr(method, "states", lambda batch: (read.append(len(batch)), states(batch))[1])
    passes = []
    method.encoder.register_forward_hook(lambda *args: passes.append(1))
    found = method.embed_all(TEXTS, batch_size=4)
    assert list(found) == ["mean", "last", "first"] + (["own"] if name in OWN else [])
    assert sum(read) == len(TEXTS)
    assert len(passes) == len(read) == 3
    batch = pad_rows([ids for ids, _ in tokenizer.encode(TEXTS)], None, tokenizer, 64)
    with torch.no_grad():
        hidden = states(batch)
    for how in ("mean", "last", "first"):
        assert torch.allclose(found[how], pool(hidden, batch, how), atol=1e-5)
        assert torch.allclose(method.embed(TEXTS, pooling=how), found[how], atol=1e-5)
    own = found["own"] if name in OWN else found[method.pooling]
    assert own.shape[1] == OWN.get(name, 16)
    assert torch.allclose(method.embed(TEXTS), own, atol=1e-5)


def test_a_class_that_overrides_embed_batch_keeps_its_embedding(tokenizer):
    class Doubled(Method):
        def embed_batch(self, batch):
            return 2 * pool(self.states(batch), batch, "mean")

    method = connected(Doubled(encoder()), tokenizer)
    found = method.embed_all(TEXTS)
    assert torch.allclose(found["own"], 2 * found["mean"], atol=1e-6)
    assert torch.allclose(method.embed(TEXTS), found["own"], atol=1e-6)


def test_an_unknown_pooling_is_refused(tokenizer):
    with pytest.raises(UserError, match="pooling 'max' is unknown: use mean, last, first"):
        connected(Method(encoder()), tokenizer).embed(TEXTS, pooling="max")


def test_no_texts_have_no_embeddings(tokenizer):
    assert connected(Method(encoder()), tokenizer).embed([]).shape == (0, 16)


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_it_covers_the_words_whose_tokens_are_known(kind):
    method = Method(encoder())
    method.connect(get_tokenizer(TokenizerSettings(kind, 400), ListCorpus(random_texts(40))))
    assert method.covers("dog") and method.covers("the dog")
    assert method.covers("quokka") == (kind == "bpe")
    assert method.covers("dog quokka") == (kind == "bpe")


def test_the_unknown_token_of_gpt2_is_its_frame_and_no_word(tmp_path):
    GPT2TokenizerFast(vocab={"<|endoftext|>": 0, "d": 1, "o": 2, "g": 3, "a": 4}, merges=[]).save_pretrained(tmp_path)
    method = Method(encoder())
    method.connect(load_pretrained(str(tmp_path)))
    assert method.tokenizer.unk_id in method.tokenizer.prefix
    assert method.covers("dog")
