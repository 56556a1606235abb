"""A small masked diffusion, and the probabilities of texts under it by a pass for each set of places."""

import itertools
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import MaskedDiffusion
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(60))
LONGEST = 3


def connected(tokenizer: Tokenizer, max_length: int = 64, **arguments) -> MaskedDiffusion:
    torch.manual_seed(0)
    method = MaskedDiffusion(Transformer(None, dim=16, layers=1, heads=2, max_length=max_length), **arguments)
    method.connect(tokenizer)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return method.eval()


def of_letters() -> MaskedDiffusion:
    """Reads texts of up to 3 of 4 tokens: a, b, c and the unknown one."""
    corpus = ListCorpus(["abc", "ab", "cab", "b"] * 3)
    method = connected(get_tokenizer(TokenizerSettings(kind="char"), corpus), max_length=1 + LONGEST)
    method.length_counts[:] = torch.tensor([1, 2, 4, 5, 1, 2])
    return method


def counted(tokenizer: Tokenizer, texts: list[str]) -> Any:
    """What a data module counts in its training texts."""
    rows = [ids for ids, _ in tokenizer.encode(texts)]
    counts = np.bincount(np.concatenate(rows), minlength=tokenizer.vocab_size)
    lengths = np.array([len(ids) - 1 for ids in rows])
    return SimpleNamespace(text_lengths=lambda: lengths, token_counts=lambda: counts, corpus=CORPUS)


def row_of(ids: list[int]) -> TokenBatch:
    row = torch.tensor([ids])
    return TokenBatch(row, torch.ones_like(row), packed=False, padded=False)


def content(method: MaskedDiffusion) -> list[int]:
    return method.predicted.nonzero().flatten().tolist()


def conditionals(method: MaskedDiffusion, tokens: tuple[int, ...]):
    """The function that gives log p(token at a place | those at other places), by a pass for each set of places."""
    prefix, mask = method.tokenizer.prefix, method.tokenizer.mask_id

    @cache
    def log_p(visible: frozenset[int]) -> list[list[float]]:
        seen = [token if place in visible else mask for place, token in enumerate(tokens)]
        with torch.no_grad():
            states = method.encoder(row_of([*prefix, *seen]))
            return method.head(states)[0, len(prefix) :].double().log_softmax(-1).tolist()

    return lambda place, visible: log_p(frozenset(visible))[place][tokens[place]]


def order_losses(method: MaskedDiffusion, tokens: tuple[int, ...]) -> list[float]:
    """-log p of a text in each order of its tokens, given its length."""
    log_p = conditionals(method, tokens)
    return [
        -sum(log_p(place, order[:number]) for number, place in enumerate(order))
        for order in itertools.permutations(range(len(tokens)))
    ]
