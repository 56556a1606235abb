"""Likelihoods and pseudo-likelihoods of texts under a method, without a trainer."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.units import pad_rows
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.objectives.scores import Scores
from ssl_nlp.seeding import random_state_kept, seed_generators
from ssl_nlp.training.module import VALIDATION_SEED
from ssl_nlp.training.texts import listed

if TYPE_CHECKING:
    from ssl_nlp.methods.base import Method


@torch.no_grad()
def score_rows(
    method: "Method",
    texts: Iterable[str],
    batch_size: int,
    score_batch: Callable[[TokenBatch], tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]],
) -> Scores:
    """Scores of texts as a validation of them, one a row, would find them. Mode and random state are restored after.

    Args:
        method: which predicts each token of a text, and its end.
        texts: N of them.
        batch_size: texts at a time, of similar lengths.
        score_batch: nats (B,), number of targets (B,) and, where the nats are estimates, their variances (B,), of the rows
            of a batch.
    """
    rows = method.tokenizer.encode(listed(texts, batch_size))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    nats, targets = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.int64)
    variances: Tensor | None = None
    with method.evaluating(), random_state_kept(method.device):
        for number, start in enumerate(range(0, len(rows), batch_size)):
            some = order[start : start + batch_size]
            seed_generators(method.device, VALIDATION_SEED, number, 0)
            ids, words = zip(*(rows[i] for i in some), strict=True)
            batch = pad_rows(ids, words, method.tokenizer, method.encoder.max_length).to(method.device)
            found = score_batch(replace(batch, causal=method.causal))
            nats[some], targets[some] = found[0].double().cpu(), found[1].cpu()
            if len(found) > 2:
                variances = torch.zeros_like(nats) if variances is None else variances
                variances[some] = found[2].double().cpu()
    frame = len(method.tokenizer.prefix) + len(method.tokenizer.suffix)
    whole = torch.tensor([len(ids) - frame + 1 for ids, _ in rows], dtype=torch.int64)
    assert method.likelihood is not None
    return Scores(method.likelihood, nats, targets, whole, variances)


@torch.no_grad()
def score_masked(
    method: "Method", head: LanguageModelHead, texts: Iterable[str], batch_size: int, shift: int = 0
) -> Scores:
    """The negative pseudo-log-likelihood of texts, each token masked in turn (arXiv:1910.14659, equation 2).

    The mode of the method is restored after.

    Args:
        method: whose states see both sides of a mask.
        head: from its states to tokens.
        texts: N of them; their ends beyond the encoder's `max_length` are left out.
        batch_size: copies of a text, with one mask each, that are computed together.
        shift: how many positions before the mask the state stands that predicts the token. Tokens without such a state
            are not predicted.
    """
    mask_id = method.tokenizer.mask_id
    assert mask_id is not None
    nats, targets, whole = [], [], []
    with method.evaluating():
        for ids, _ in method.tokenizer.encode(listed(texts, batch_size)):
            row = torch.tensor(ids, device=method.device)
            whole.append(int(method.maskable[row].sum()))
            row = row[: method.encoder.max_length]
            places = method.maskable[row].nonzero().squeeze(1)
            places = places[places >= shift]
            total = torch.zeros((), device=method.device)
            for start in range(0, len(places), batch_size):
                some = places[start : start + batch_size]
                copies = row.repeat(len(some), 1)
                index = torch.arange(len(some), device=method.device)
                copies[index, some] = mask_id
                batch = TokenBatch(copies, torch.ones_like(copies), packed=False, padded=False, causal=False)
                total += head.loss(method.states(batch)[index, some - shift], row[some])[0].float()
            nats.append(float(total))
            targets.append(len(places))
    counts = (torch.tensor(numbers, dtype=torch.int64) for numbers in (targets, whole))
    return Scores("pseudo-likelihood", torch.tensor(nats, dtype=torch.float64), *counts)
