"""The tokens that a masked language model predicts, and their replacements in its input.

Everything here draws from torch's default generator and runs on the device of the batch, with shapes that do not depend
on its contents and without waiting for the device.
"""

from typing import Literal

import torch
from torch import Tensor

from ssl_nlp.data.batch import IGNORE_INDEX, TokenBatch
from ssl_nlp.errors import UserError

SPAN_END = 0.2
"""Probability that a span ends after a word: lengths are geometric with mean 5 (SpanBERT, arXiv:1907.10529, §3.1)."""
PROBABILITIES = (0.8, 0.1, 0.1)
"""Of the mask, a random token, and the token itself, for a chosen token (BERT, arXiv:1810.04805, §3.1, Task 1)."""


def choose_positions(
    batch: TokenBatch,
    maskable: Tensor,
    count: int,
    unit: Literal["token", "word", "span"],
) -> tuple[Tensor, Tensor]:
    """Draw `count` positions of a batch at random, whole units at a time.

    A unit is a token, a word, or a span of words whose number is geometric with mean 5. Units end where a document ends
    or a token is not maskable. All units of a batch are equally likely, however long they are, except those of more
    than `count` tokens, which come last. The last one is dropped whole if it does not fit into `count`, so slightly fewer
    tokens are chosen; if it is the only one, because all are longer than `count`, as much of it is chosen as fits. At
    least one token is chosen if `count` is positive and any token is maskable.

    SpanBERT cuts lengths at 10 words, which gives a mean of 3.8, and draws spans one by one; here they are not cut, and the
    batch is divided into spans, some of which are drawn, so that no loop is needed.

    Args:
        batch: B rows of T tokens.
        maskable: (V,) bool, False for tokens that are never chosen.
        count: number K of positions, at most B * T.
        unit: the unit that is chosen as a whole. Words and spans need `batch.starts_word`.

    Returns:
        positions: (K,) int64, distinct, into the flattened (B * T) batch.
        chosen: (K,) bool. False where fewer than K tokens could be chosen: ignore the position.

    Raises:
        UserError: the tokenizer does not know where words begin.
    """
    size, device = batch.input_ids.numel(), batch.input_ids.device
    if not 0 <= count <= size:
        raise ValueError(f"cannot choose {count} of {size} positions")
    eligible = batch.is_text & maskable[batch.input_ids]
    unit_starts = torch.ones_like(eligible)
    if unit != "token":
        if batch.starts_word is None:
            raise UserError(f"masking by {unit} needs a tokenizer that knows where words begin: mask by token instead")
        unit_starts = batch.starts_word
        if unit == "span":
            unit_starts = unit_starts & (torch.rand(unit_starts.shape, device=device) < SPAN_END)
        same = (batch.segment_ids[:, 1:] == batch.segment_ids[:, :-1]) & eligible[:, 1:] & eligible[:, :-1]
        unit_starts = unit_starts | torch.nn.functional.pad(~same, (1, 0), value=True)
    unit_of = unit_starts.flatten().cumsum(0) - 1

    # Every unit draws a score, and the best tokens win. The sort is stable: units of equal score do not mix.
    flat = eligible.flatten()
    lengths = torch.zeros_like(unit_of).scatter_add(0, unit_of, flat.long())[unit_of]
    scores = torch.rand(size, device=device)[unit_of] + (lengths > count)
    order = torch.where(flat, scores, torch.inf).sort(stable=True).indices
    positions = order[:count]
    chosen = flat[positions]
    if count < size:
        first_out = order[count : count + 1]  # a slice, because a scalar index would wait for the device
        only = unit_of[positions[:1]] == unit_of[first_out]
        chosen &= only | (unit_of[positions] != unit_of[first_out])
    return positions, chosen


def mask_tokens(
    input_ids: Tensor,
    positions: Tensor,
    chosen: Tensor,
    mask_id: int,
    replacements: Tensor,
    probabilities: tuple[float, float, float] = PROBABILITIES,
) -> tuple[Tensor, Tensor]:
    """Hide the chosen tokens as BERT does (arXiv:1810.04805, §3.1, Task 1).

    Args:
        input_ids: (B, T) int64.
        positions: (K,) int64, distinct, as `choose_positions` gives them.
        chosen: (K,) bool.
        mask_id: the id of the mask token.
        replacements: (V,) bool, True for the tokens, at least one, from which random replacements are drawn.
        probabilities: of the mask token, of a random token, and of the token itself.

    Returns:
        corrupted ids: (B, T) int64.
        targets: (K,) int64, the original ids, `IGNORE_INDEX` where not chosen.
    """
    device = input_ids.device
    original = input_ids.flatten()[positions]
    draw = torch.rand(positions.shape, device=device)
    number = replacements.cumsum(dim=0)  # of allowed tokens up to each one
    which = torch.randint(2**62, positions.shape, device=device) % number[-1]
    random = torch.searchsorted(number, which, right=True)
    masked, replaced, _ = probabilities
    seen = torch.where(draw < masked, mask_id, torch.where(draw < masked + replaced, random, original))
    corrupted = input_ids.flatten().scatter(0, positions, torch.where(chosen, seen, original))
    return corrupted.view_as(input_ids), torch.where(chosen, original, IGNORE_INDEX)
