"""Encoders that no other test of learning has learn 64 sentences by heart."""

import math

import pytest
import torch

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Recurrent, TextCNN
from ssl_nlp.methods import CausalLM, MaskedLM, Method
from tests.corpus import ListCorpus, random_texts

TEXTS = random_texts(64, longest=6)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(random_texts(60)))


def trained(method: Method, tokenizer: Tokenizer, steps: int = 150) -> None:
    batch: TokenBatch = pad_rows([ids for ids, _ in tokenizer.encode(TEXTS)], None, tokenizer, 64)
    torch.manual_seed(0)
    method.connect(tokenizer)
    optimizer = torch.optim.AdamW(method.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for step in range(steps):
        torch.manual_seed(step)
        loss = method.loss(batch)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_recurrent_language_model_finds_each_sentence_as_likely_as_any_other(kind, tokenizer):
    method = CausalLM(Recurrent(kind, dim=96, layers=1, max_length=64))
    trained(method, tokenizer)
    assert len({*TEXTS}) == 64
    assert math.log(64) <= float(method.score(TEXTS).nats.mean()) < 1.05 * math.log(64)


def test_a_convolutional_masked_language_model_fills_each_gap(tokenizer):
    method = MaskedLM(TextCNN(dim=96, embedding_dim=96, max_length=64))
    trained(method, tokenizer)
    found = 0
    for words in map(str.split, TEXTS):
        middle = len(words) // 2
        [[(token, _)]] = method.fill_mask(" ".join([*words[:middle], "[MASK]", *words[middle + 1 :]]), top_k=1)
        found += token.strip() == words[middle]
    assert found >= 56  # guessing would find 4
