"""A method at work on texts, without a trainer: embeddings, and the metrics of a validation."""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_nlp.data.store import TextStatistics
from ssl_nlp.data.units import pad_rows
from ssl_nlp.errors import UserError
from ssl_nlp.seeding import seed_generators
from ssl_nlp.training.module import VALIDATION_SEED
from ssl_nlp.training.sums import Sums

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


@torch.no_grad()
def embed(method: "Method", texts: Iterable[str], batch_size: int) -> Tensor:
    """Frozen embeddings of texts, (N, E) float32 on the CPU, in evaluation mode; the mode is restored after.

    Texts longer than the encoder's `max_length` are cut, with a `TextsCut` warning.

    Raises:
        UserError: a single text instead of a list of them, or a batch size below 1.
    """
    ids = [ids for ids, _ in method.tokenizer.encode(listed(texts, batch_size))]
    if cut := sum(len(row) > method.encoder.max_length for row in ids):
        longest = method.encoder.max_length
        said = f"{cut:,} of {len(ids):,} texts are longer than the encoder's {longest} tokens and are cut"
        warnings.warn(said, TextsCut, stacklevel=4)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    training = method.training
    method.eval()
    embeddings = torch.empty(len(ids), method.embedding_dim)
    for start in range(0, len(ids), batch_size):
        rows = order[start : start + batch_size]
        batch = pad_rows([ids[i] for i in rows], None, method.tokenizer, method.encoder.max_length)
        embeddings[rows] = method.embed_batch(batch.to(method.device)).float().cpu()
    method.train(training)
    return embeddings


@torch.no_grad()
def validate(method: "Method", texts: Iterable[str], batch_size: int) -> dict[str, float]:
    """The metrics of a validation on texts, one a row, without a trainer; mode and random state are restored after."""
    texts = listed(texts, batch_size)
    rows = sorted(method.tokenizer.encode(texts), key=lambda row: len(row[0]))
    frame = len(method.tokenizer.prefix) + len(method.tokenizer.suffix)
    tokens = sum(len(ids) - frame for ids, _ in rows)
    statistics = TextStatistics(len(rows), tokens, sum(len(text.encode()) for text in texts))
    sums, training = Sums(), method.training
    method.eval()
    with torch.random.fork_rng([method.device] if method.device.type == "cuda" else []):
        for number, start in enumerate(range(0, len(rows), batch_size)):
            seed_generators(method.device, VALIDATION_SEED, number, 0)
            ids, words = zip(*rows[start : start + batch_size], strict=True)
            batch = pad_rows(ids, words, method.tokenizer, method.encoder.max_length).to(method.device)
            sums.add(method.loss(replace(batch, causal=method.causal)))
    method.train(training)
    summary = method.summarize(sums.means_over_ranks(), statistics)
    return {name: float(value) for name, value in summary.items() if value.ndim == 0}
