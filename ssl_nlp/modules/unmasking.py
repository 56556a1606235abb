"""Generation of text in random order, by bidirectional models that predict hidden tokens."""

import torch

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.modules.sampling import Sampling
from ssl_nlp.objectives.masked_diffusion import reveal_steps

ROWS = 256
"""Rows that the encoder reads at a time."""


@torch.no_grad()
def unmask(
    encoder: Encoder,
    head: LanguageModelHead,
    tokenizer: Tokenizer,
    rows: list[list[int]],
    sampling: Sampling,
    steps: int | None = None,
) -> list[list[int]]:
    """Replace the masks of each row by tokens, never by special ones.

    Each pass through the encoder reveals at least one token of every row that it reads, so that none is made in vain.

    Args:
        encoder: bidirectional, in evaluation mode.
        head: on top of it.
        tokenizer: theirs, with a mask token.
        rows: framed texts with masks.
        sampling: chooses the tokens; their order is drawn by its generator.
        steps: the most passes for a row, which reveal about equally many tokens each; None: one token in each pass.

    Returns:
        The rows with tokens in place of the masks.

    Raises:
        UserError: `steps` is not positive.
    """
    if steps is not None and steps < 1:
        raise UserError(f"steps must be 1 or more, not {steps}")
    assert tokenizer.mask_id is not None
    device = encoder.embedding.weight.device
    special = torch.tensor(tokenizer.special_ids, device=device)
    written = []
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        batch = pad_rows(some, None, tokenizer, encoder.max_length).to(device)
        ids = batch.input_ids
        step_of = reveal_steps(ids == tokenizer.mask_id, steps, sampling.generator)
        for step in range(int(step_of.max()) + 1):
            here = step_of == step
            unfinished = here.any(dim=1)
            segments = batch.segment_ids[unfinished]
            seen = TokenBatch(ids[unfinished], segments, packed=False, padded=batch.padded, causal=False)
            states = encoder(seen)
            logits = head(states[here[unfinished]])[:, : tokenizer.vocab_size].float()
            logits[:, special] = -torch.inf
            ids = ids.masked_scatter(here, sampling(logits))
        written += [new[: len(row)] for new, row in zip(ids.tolist(), some, strict=True)]
    return written
