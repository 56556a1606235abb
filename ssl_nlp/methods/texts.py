"""A method at work on texts, without a trainer: embeddings and scores."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.units import pad_rows
from ssl_nlp.errors import UserError
from ssl_nlp.modules.pooling import POOLINGS, Pooling, pool
from ssl_nlp.objectives.scores import Scores
from ssl_nlp.seeding import seed_generators
from ssl_nlp.training.module import VALIDATION_SEED

if TYPE_CHECKING:
    from ssl_nlp.methods.base import Method


class TextsCut(UserWarning):
    """Warns that texts were longer than the encoder's `max_length` and were cut."""


def listed(texts: Iterable[str], batch_size: int = 1) -> list[str]:
    """Texts as a list.

    Raises:
        UserError: it is a single text, whose letters would count as texts, or some are not texts; or the batch size is
            below 1.
    """
    if isinstance(texts, str):
        raise UserError(f"{texts[:40]!r} is a single text: give a list of texts, such as [text]")
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more, not {batch_size}")
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"text {number} is of type {type(text).__name__}: give a list of texts")
    return texts


def embed(method: "Method", texts: Iterable[str], batch_size: int, pooling: Pooling | None) -> Tensor:
    """Frozen embeddings of texts, (N, E) float32 on the CPU, in evaluation mode; the mode is restored after.

    Texts longer than the encoder's `max_length` are cut, with a `TextsCut` warning.

    Args:
        method: with its tokenizer.
        texts: N of them.
        batch_size: texts at a time.
        pooling: of the hidden states; None: the method's own embedding, or its `pooling`.

    Raises:
        UserError: a single text instead of a list of them, a batch size below 1, or an unknown pooling.
    """
    if pooling not in (None, *POOLINGS):
        raise UserError(f"pooling {pooling!r} is unknown: use {', '.join(POOLINGS)}, or leave it out")

    def embed_batch(batch: TokenBatch) -> dict[str, Tensor]:
        return {"": method.embed_batch(batch) if pooling is None else pool(method.states(batch), batch, pooling)}

    return _embed(method, texts, batch_size, embed_batch).get("", torch.empty(0, method.embedding_dim))


def embed_all(method: "Method", texts: Iterable[str], batch_size: int) -> dict[str, Tensor]:
    """Embeddings as `embed` makes them, by their pooling, and `own` if there is one, from one pass through the encoder."""
    from ssl_nlp.methods.base import Method  # which imports this module

    # A class of the user's own may override it, which costs another pass.
    overridden = type(method).embed_batch is not Method.embed_batch

    def embed_batch(batch: TokenBatch) -> dict[str, Tensor]:
        hidden = method.states(batch)
        found: dict[str, Tensor] = {how: pool(hidden, batch, how) for how in POOLINGS}
        own = method.own_embedding(hidden, batch)
        if own is None and overridden:
            own = method.embed_batch(batch)
        return found if own is None else found | {"own": own}

    return _embed(method, texts, batch_size, embed_batch)


@torch.no_grad()
def _embed(
    method: "Method", texts: Iterable[str], batch_size: int, embed_batch: Callable[[TokenBatch], dict[str, Tensor]]
) -> dict[str, Tensor]:
    ids = [ids for ids, _ in method.tokenizer.encode(listed(texts, batch_size))]
    if cut := sum(len(row) > method.encoder.max_length for row in ids):
        longest = method.encoder.max_length
        said = f"{cut:,} of {len(ids):,} texts are longer than the encoder's {longest} tokens and are cut"
        warnings.warn(said, TextsCut, stacklevel=5)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    training = method.training
    method.eval()
    embeddings: dict[str, Tensor] = {}
    for start in range(0, len(ids), batch_size):
        rows = order[start : start + batch_size]
        batch = pad_rows([ids[i] for i in rows], None, method.tokenizer, method.encoder.max_length)
        for name, found in embed_batch(batch.to(method.device)).items():
            embeddings.setdefault(name, torch.empty(len(ids), found.shape[1]))[rows] = found.float().cpu()
    method.train(training)
    return embeddings


@torch.no_grad()
def score_rows(
    method: "Method", texts: Iterable[str], batch_size: int, score_batch: Callable[[TokenBatch], tuple[Tensor, Tensor]]
) -> Scores:
    """Scores of texts as a validation of them, one a row, would find them. Mode and random state are restored after.

    Args:
        method: which predicts each token of a text, and its end.
        texts: N of them.
        batch_size: texts at a time, of similar lengths.
        score_batch: nats (B,) and number of targets (B,) of the rows of a batch.
    """
    rows = method.tokenizer.encode(listed(texts, batch_size))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    nats, targets = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.int64)
    training = method.training
    method.eval()
    with torch.random.fork_rng([method.device] if method.device.type == "cuda" else []):
        for number, start in enumerate(range(0, len(rows), batch_size)):
            some = order[start : start + batch_size]
            seed_generators(method.device, VALIDATION_SEED, number, 0)
            ids, words = zip(*(rows[i] for i in some), strict=True)
            batch = pad_rows(ids, words, method.tokenizer, method.encoder.max_length).to(method.device)
            found = score_batch(replace(batch, causal=method.causal))
            nats[some], targets[some] = found[0].double().cpu(), found[1].cpu()
    method.train(training)
    frame = len(method.tokenizer.prefix) + len(method.tokenizer.suffix)
    whole = torch.tensor([len(ids) - frame + 1 for ids, _ in rows], dtype=torch.int64)
    assert method.likelihood is not None
    return Scores(method.likelihood, nats, targets, whole)
