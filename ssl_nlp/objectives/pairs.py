"""Pairs of texts as one row: the choice of two texts for each row, and the row they make.

The texts of a batch of B rows with a pair are numbered: 0 to B - 1 are its own rows, B to 2B - 1 those of its pair.
Everything here draws from torch's default generator and runs on the device of the batch, with shapes that do not depend
on its contents and without waiting for the device.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data.batch import TokenBatch, concatenate
from ssl_nlp.objectives.contrastive import sentence_ids


class Pairing(NamedTuple):
    """Two texts for each of B rows; each text is in one row.

    Attributes:
        first: (B,) int64, the number of the text that a row begins with.
        second: (B,) int64, the number of the text that follows.
        true: (B,) bool, whether the second text follows the first in their document.
    """

    first: Tensor
    second: Tensor
    true: Tensor


def next_sentence_pairing(batch: TokenBatch) -> Pairing:
    """Pair half of the texts with the next one, and half with one from another document.

    This is Task 2 of BERT (arXiv:1810.04805, §3.1), with two deviations. BERT draws the other text from the whole corpus.
    Here two rows of a batch exchange what follows them, with probability 1/2, so each text is used once. And BERT draws
    any text. Here the two that are exchanged are about equally long: rows come in batches sorted by the longer of their
    texts, so that with any other text of the batch a row would have lengths that true rows rarely have. In batches of
    fewer than about 16 rows the nearest lengths are apart, and tell false rows from true ones a little.

    Two rows do not exchange if they come from the same document or share a text, because the result would be a true pair.
    Both then stay true, so that a little more than half of the rows are; so does one random row of an odd number.

    Args:
        batch: B rows, not packed, with their documents and their pair.
    """
    assert batch.pair is not None and batch.documents is not None
    rows, device = len(batch), batch.documents.device
    known = torch.stack([batch.documents, sentence_ids(batch), sentence_ids(batch.pair)])

    def differ(pairs: Tensor) -> Tensor:
        return (known[:, pairs[..., 0]] != known[:, pairs[..., 1]]).all(dim=0)

    lengths = batch.pair.is_text.sum(dim=1)
    order = torch.rand(rows, device=device).argsort()[: rows // 2 * 2]
    order = order[lengths[order].argsort(stable=True)]  # those of equal length stay in random order
    fours = rows // 4
    a, b, c, d = order[: 4 * fours].view(fours, 4).T
    ways = torch.stack([a, b, c, d, a, c, b, d, a, d, b, c], dim=1).view(fours, 3, 2, 2)
    best = differ(ways).sum(dim=2).argmax(dim=1)  # neighbours, unless another way lets more of the four exchange
    pairs = ways.take_along_dim(best.view(fours, 1, 1, 1), dim=1).view(2 * fours, 2)
    pairs = torch.cat([pairs, order[4 * fours :].view(rows // 2 - 2 * fours, 2)])

    one, other = pairs.T
    exchange = (torch.rand(one.shape, device=device) < 0.5) & differ(pairs)
    first = torch.arange(rows, device=device)
    follower = first.scatter(0, one, torch.where(exchange, other, one))
    follower = follower.scatter(0, other, torch.where(exchange, one, other))
    return Pairing(first, rows + follower, follower == first)


def sentence_order_pairing(batch: TokenBatch) -> Pairing:
    """Swap half of the pairs (ALBERT, arXiv:1909.11942, §3.1). Arguments as for `next_sentence_pairing`."""
    rows, device = len(batch), batch.input_ids.device
    true = torch.rand(rows, device=device) < 0.5
    own = torch.arange(rows, device=device)
    return Pairing(torch.where(true, own, rows + own), torch.where(true, rows + own, own), true)


def join_pairs(batch: TokenBatch, pairing: Pairing, pad_id: int, drop: int = 0) -> tuple[TokenBatch, Tensor]:
    """Join each pair of texts to one document: the first text with its frame, then the second with its frame.

    Args:
        batch: B rows of T tokens, not packed, whose pair has rows of U tokens.
        pairing: one text of the batch and one of its pair for each row.
        pad_id: fills a row on the right.
        drop: number of tokens to leave out at the beginning of the second text: one for [CLS] A [SEP] B [SEP].

    Returns:
        rows: B of T + U - `drop` tokens, without next ids and documents.
        parts: (B, T + U - `drop`) int64, 1 in the second text, 0 in the first and in padding.
    """
    assert batch.pair is not None
    texts = concatenate([batch, batch.pair], pad_id)
    length = texts.is_text.sum(dim=1)
    before, after = length[pairing.first, None], length[pairing.second, None] - drop
    size = batch.input_ids.shape[1] + batch.pair.input_ids.shape[1] - drop
    column = torch.arange(size, device=length.device)
    in_second, real = column >= before, column < before + after
    row = torch.where(in_second, pairing.second[:, None], pairing.first[:, None])
    source = torch.where(real, torch.where(in_second, column - before + drop, column), 0)
    starts = None if texts.starts_word is None else texts.starts_word[row, source] | ~real
    joined = TokenBatch(
        torch.where(real, texts.input_ids[row, source], pad_id),
        real.long(),
        starts_word=starts,
        packed=False,
        n_tokens=texts.n_tokens - drop * len(batch),
        causal=batch.causal,
    )
    return joined, (in_second & real).long()


def pair_loss(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of two classes, true or not, in float32.

    Args:
        logits: (B, 2).
        true: (B,) bool.

    Returns:
        The sum of the losses, the number of right predictions, and B, all scalars.
    """
    loss = F.cross_entropy(logits.float(), true.long(), reduction="sum")
    return loss, (logits.argmax(dim=1) == true).sum(), torch.ones_like(true).sum()
