"""Likelihoods and pseudo-likelihoods of texts under a method, without a trainer."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.units import pad_rows
from ssl_nlp.errors import UserError
from ssl_nlp.methods.queries import Query, masked, query_nats
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.objectives.scores import Likelihood, Scores
from ssl_nlp.seeding import random_state_kept, seed_generators
from ssl_nlp.training.module import VALIDATION_SEED
from ssl_nlp.training.texts import listed

if TYPE_CHECKING:
    from ssl_nlp.methods.base import Method

CHUNK = 32  # texts whose masked copies exist at the same time


def check_kind(kind: Likelihood | None, known: Sequence[Likelihood]) -> None:
    """Refuse a kind of scores that a method does not give.

    Raises:
        UserError: it is neither None nor one of the `known` ones.
    """
    if kind not in (None, *known):
        raise UserError(f"score: kind {kind!r} is not one of {', '.join(known)}")


@torch.no_grad()
def score_rows(
    method: "Method",
    texts: Iterable[str],
    batch_size: int,
    score_batch: Callable[[TokenBatch], tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]],
    kind: Likelihood | None = None,
) -> Scores:
    """Scores of texts, one a row, with the seeds of a validation. Mode and random state are restored after.

    Args:
        method: which predicts each token of a text and, unless `kind` is `pseudo-likelihood`, its end.
        texts: N of them.
        batch_size: texts at a time, of similar lengths.
        score_batch: nats (B,), number of targets (B,) and, where the nats are estimates whose variances are known, these
            (B,), of the rows of a batch.
        kind: of the scores; None: `method.likelihood`.
    """
    rows = method.tokenizer.encode(listed(texts, batch_size))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    nats, targets = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.int64)
    variances: Tensor | None = None
    device = method.device
    with method.evaluating(), random_state_kept(device), torch.autocast(device.type, enabled=False):
        for number, start in enumerate(range(0, len(rows), batch_size)):
            some = order[start : start + batch_size]
            seed_generators(device, VALIDATION_SEED, number, 0)
            ids, words = zip(*(rows[i] for i in some), strict=True)
            batch = pad_rows(ids, words, method.tokenizer, method.encoder.max_length).to(device)
            found = score_batch(replace(batch, causal=method.causal))
            nats[some], targets[some] = found[0].double().cpu(), found[1].cpu()
            if len(found) > 2:
                variances = torch.zeros_like(nats) if variances is None else variances
                variances[some] = found[2].double().cpu()
    kind = kind or method.likelihood
    assert kind is not None
    if kind == "pseudo-likelihood":
        return Scores(kind, nats, targets, _tokens(method, rows), variances)
    frame = len(method.tokenizer.prefix) + len(method.tokenizer.suffix)
    whole = torch.tensor([len(ids) - frame + 1 for ids, _ in rows], dtype=torch.int64)
    return Scores(kind, nats, targets, whole, variances, int(kind == "likelihood" and not method.tokenizer.prefix))


def _tokens(method: "Method", rows: Sequence[tuple[Sequence[int], Sequence[bool]]]) -> Tensor:
    """(N,) the number of tokens in each text that a pseudo-likelihood is about: those that are not special."""
    maskable = method.maskable.tolist()
    return torch.tensor([sum(maskable[token] for token in ids) for ids, _ in rows], dtype=torch.int64)


@torch.no_grad()
def score_masked(
    method: "Method",
    head: LanguageModelHead,
    texts: Iterable[str],
    batch_size: int,
    shift: int = 0,
    within_words: bool = False,
) -> Scores:
    """The negative pseudo-log-likelihood of texts, each token masked in turn (arXiv:1910.14659, equation 2).

    The mode of the method is restored after.

    Args:
        method: whose states see both sides of a mask.
        head: from its states to tokens.
        texts: N of them; their ends beyond the encoder's `max_length` are left out.
        batch_size: copies of texts, with one prediction each, that are computed together.
        shift: how many positions before the mask the state stands that predicts the token. Tokens without such a state
            are not predicted.
        within_words: mask the later tokens of its word together with each token, so that they do not give it away
            (PLL-word-l2r, arXiv:2305.10588).
    """
    mask_id, maskable = method.tokenizer.mask_id, method.maskable.tolist()
    assert mask_id is not None
    encoded = method.tokenizer.encode(listed(texts, batch_size))
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number][0]))
    nats = torch.zeros(len(encoded), dtype=torch.float64)
    targets = torch.zeros(len(encoded), dtype=torch.int64)
    with method.evaluating(), torch.autocast(method.device.type, enabled=False):
        for first in range(0, len(order), CHUNK):
            queries: list[Query] = []
            owners: list[int] = []
            for number in order[first : first + CHUNK]:
                ids, starts = encoded[number]
                ids = ids[: method.encoder.max_length]
                stops = _stops(starts[: len(ids)]) if within_words else range(1, len(ids) + 1)
                places = [place for place in range(shift, len(ids)) if maskable[ids[place]]]
                queries += [masked(ids, place, stops[place], mask_id, shift) for place in places]
                owners += [number] * len(places)
                targets[number] = len(places)
            nats.index_add_(
                0, torch.tensor(owners, dtype=torch.int64), query_nats(method, head, queries, batch_size, causal=False)
            )
    unpredicted = max(shift - len(method.tokenizer.prefix), 0)
    return Scores("pseudo-likelihood", nats, targets, _tokens(method, encoded), unpredicted=unpredicted)


def _stops(starts: Sequence[bool]) -> list[int]:
    """For each token of a text the place of the first one that is not of its word, from where words start."""
    stops, stop = [], len(starts)
    for place in reversed(range(len(starts))):
        stops.append(stop)
        if starts[place]:
            stop = place
    return stops[::-1]
