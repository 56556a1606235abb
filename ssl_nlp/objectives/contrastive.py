"""Contrastive losses: pick out the embedding that belongs to an anchor.

    loss = - log( exp(s(anchor, positive) / T) / sum over candidates of exp(s(anchor, candidate) / T) )

where s is the cosine similarity and T the temperature. The sum is over the positive and all negatives. Candidates that are
not negatives (the anchor itself, the same sentence again) are excluded.

NT-Xent of SimCLR (arXiv:2002.05709, equation 1) is `info_nce` over the positives and exclusions of `two_view_pairs`.
Similarities are computed in float32 or wider, even under autocast, and nothing here waits for the device.
"""

import itertools

import torch
from torch import Tensor

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.objectives.geometry import unit_vectors


def info_nce(
    anchors: Tensor,
    candidates: Tensor,
    positives: Tensor,
    temperature: float | Tensor,
    excluded: Tensor | None = None,
    decoupled: bool = False,
) -> Tensor:
    """The loss of each anchor among shared candidates.

    Args:
        anchors: (n, D).
        candidates: (N, D), usually those of all ranks.
        positives: (n,) int64, the row of `candidates` that belongs to each anchor.
        temperature: positive; a scalar tensor gets its gradient.
        excluded: (n, N) bool, True where a candidate is not a negative of an anchor. It does not affect positives.
        decoupled: leave the positive out of the sum (DCL, arXiv:2110.06848, section 3), so that an anchor that is
            already close to its positive still learns from its negatives. The loss can then be negative.

    Returns:
        (n,) losses in nats, float32 (float64 for float64 input); 0 for an anchor without negatives.
    """
    similarities = _similarities(anchors, candidates) / temperature
    of_positive = similarities.gather(1, positives[:, None])[:, 0]
    return _losses(of_positive, _negatives(similarities, positives, excluded), decoupled)


def info_nce_with_queue(
    queries: Tensor,
    keys: Tensor,
    queue: Tensor,
    temperature: float | Tensor,
    excluded: Tensor | None = None,
    decoupled: bool = False,
) -> Tensor:
    """The loss of each query, whose negatives are a queue of earlier keys (MoCo, arXiv:1911.05722, equation 1).

    Args:
        queries: (n, D).
        keys: (n, D), the positive of each query. The keys of other queries are not candidates.
        queue: (K, D).
        temperature: positive; a scalar tensor gets its gradient.
        excluded: (n, K) bool, True where a key of the queue is not a negative of a query.
        decoupled: leave the positive out of the sum, as `info_nce` does.

    Returns:
        (n,) losses in nats, float32 (float64 for float64 input); 0 for a query without negatives.
    """
    of_key = (unit_vectors(queries) * unit_vectors(keys)).sum(dim=1) / temperature
    negatives = _similarities(queries, queue) / temperature
    if excluded is not None:
        negatives = negatives.masked_fill(excluded, -torch.inf)
    return _losses(of_key, negatives, decoupled)


@torch.no_grad()
def nearest_is_positive(
    anchors: Tensor, candidates: Tensor, positives: Tensor, excluded: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Whether the positive is more similar to the anchor than every negative. Arguments as for `info_nce`.

    Returns:
        hits: (n,) bool. A tie is not a hit, so that collapsed embeddings have none.
        counted: (n,) bool, False for anchors without negatives, which are not hits and do not count.
    """
    similarities = _similarities(anchors, candidates)
    of_positive = similarities.gather(1, positives[:, None])
    negatives = _negatives(similarities, positives, excluded)
    counted = ~negatives.isneginf().all(dim=1)
    return (of_positive > negatives).all(dim=1) & counted, counted


def two_view_pairs(texts: Tensor, all_texts: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
    """The positives and exclusions of SimCLR's NT-Xent, for rows of two texts each.

    The anchors are the first texts of n rows and, below them, the second ones; the candidates are the anchors of all
    ranks, one rank below the other. The positive of an anchor is the other text of its row. Excluded are the anchor
    itself and the texts of rows that share a text with its row: corpora have many duplicates, and the partner of an equal
    sentence is as good as its own.

    Args:
        texts: (2n, 2) int64, the `sentence_ids` of each anchor and of the other text of its row; the same number twice
            if both are views of one sentence.
        all_texts: (2N, 2) int64, the same for the candidates.
        offset: the row of `all_texts` at which the anchors of this rank begin.

    Returns:
        positives: (2n,) int64, for `info_nce`.
        excluded: (2n, 2N) bool, for `info_nce`.
    """
    rows = torch.arange(len(texts), device=texts.device)
    positives = offset + rows.roll(len(texts) // 2)
    excluded = torch.zeros(len(texts), len(all_texts), dtype=torch.bool, device=texts.device)
    for mine, theirs in itertools.product(texts.T, all_texts.T):
        excluded |= mine[:, None] == theirs
    return positives, excluded


def sentence_ids(batch: TokenBatch) -> Tensor:
    """(B,) int64: a hash of the tokens of each row, without its padding, the same on all ranks and devices.

    It has 63 bits: any two of a million different sentences share one with a probability of about 5e-8.
    """
    ids = batch.input_ids
    places = torch.arange(ids.shape[1], device=ids.device) << 32
    hashes = _scrambled(ids + places).masked_fill(~batch.is_text, 0)  # a sum of zeros is none: padding adds nothing
    return _scrambled(hashes.sum(dim=1)) & (2**63 - 1)


def _similarities(anchors: Tensor, candidates: Tensor) -> Tensor:
    """(n, N) cosines."""
    with torch.autocast(anchors.device.type, enabled=False):
        return unit_vectors(anchors) @ unit_vectors(candidates).T


def _negatives(similarities: Tensor, positives: Tensor, excluded: Tensor | None) -> Tensor:
    """`similarities` (n, N) with -inf in place of positives and excluded candidates."""
    negatives = similarities.scatter(1, positives[:, None], -torch.inf)
    return negatives if excluded is None else negatives.masked_fill(excluded, -torch.inf)


def _losses(of_positive: Tensor, negatives: Tensor, decoupled: bool) -> Tensor:
    """The losses (n,) from the logits of the positives (n,) and of the negatives (n, N), -inf where there is none."""
    total = negatives.logsumexp(dim=1)
    without = total.isneginf()
    if not decoupled:
        total = torch.logaddexp(total, of_positive)
    return (total - of_positive).masked_fill(without, 0)


def _scrambled(x: Tensor) -> Tensor:
    """A one-to-one map of int64 numbers that sends similar numbers far apart.

    The mixing function of SplitMix64 (Steele, Lea & Flood 2014), in arithmetic that wraps around at 64 bits.
    """
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """`x >> bits` of unsigned numbers: zeros come in from the left, not the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def _signed(constant: int) -> int:
    """The int64 with the bits of an unsigned constant of 64 bits, whose first is 1."""
    return constant - 2**64
