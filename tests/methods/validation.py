"""A validation without a trainer, as an oracle."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ssl_nlp.data.store import TextStatistics
from ssl_nlp.data.units import pad_rows
from ssl_nlp.methods import Method
from ssl_nlp.seeding import seed_generators
from ssl_nlp.training.module import VALIDATION_SEED
from ssl_nlp.training.sums import Sums


@torch.no_grad()
def validate_texts(method: Method, texts: Sequence[str], batch_size: int = 64) -> dict[str, float]:
    """The metrics of a validation on texts, one a row."""
    rows = sorted(method.tokenizer.encode(texts), key=lambda row: len(row[0]))
    frame = len(method.tokenizer.prefix) + len(method.tokenizer.suffix)
    tokens = sum(len(ids) - frame for ids, _ in rows)
    statistics = TextStatistics(len(rows), tokens, sum(len(text.encode()) for text in texts))
    sums = Sums()
    method.eval()
    with torch.random.fork_rng([method.device] if method.device.type == "cuda" else []):
        for number, start in enumerate(range(0, len(rows), batch_size)):
            seed_generators(method.device, VALIDATION_SEED, number, 0)
            ids, words = zip(*rows[start : start + batch_size], strict=True)
            batch = pad_rows(ids, words, method.tokenizer, method.encoder.max_length).to(method.device)
            sums.add(method.loss(replace(batch, causal=method.causal)))
    summary = method.summarize(sums.means_over_ranks(), statistics)
    return {name: float(value) for name, value in summary.items() if value.ndim == 0}
