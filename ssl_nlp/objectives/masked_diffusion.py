"""Masked diffusion: which tokens of a text are hidden, and their weights in a bound of its negative log-likelihood.

The diffusion hides each of the L tokens of a text with probability t, for times t from 0 to 1 (log-linear schedule of MDLM,
arXiv:2406.07524). Where a model predicts the hidden tokens from the visible ones,

    - log p(x | L)  <=  E [ 1/t * sum over hidden i of -log p(x_i | visible tokens) ],   t uniform in (0, 1).

Of the draws of t, only the number k of hidden tokens matters. Averaged over all t with the same k (Beta integrals), this is

    E [ L/k * sum over hidden i of -log p(x_i | visible tokens) ],   k uniform in 1 ... L,

with every choice of k tokens equally likely: the expectation over random orders of the tokens of a model that predicts them
one by one (arXiv:2110.02037, section 3; arXiv:2406.03736, section 3). That is what is drawn here. It has the same
expectation as the first form and never a larger variance, no draw leaves a text as it is, and no weight exceeds L.

Training on it is slow, because a text with few hidden tokens counts as much as one with many, and its gradient is that
of a few tokens. With `even` weights all hidden tokens of a text count alike:

    E [ 2L/(L + 1) * sum over hidden i of -log p(x_i | visible tokens) ],   k uniform in 1 ... L.

These are the same losses; the mean loss of k hidden tokens has the weight 2k/(L + 1) instead of 1, which is 1 on average
over k. So a model that could represent every conditional probability would be the same; a small one fits texts with many
hidden tokens better. Where tokens are harder to predict the more of them are hidden, this loss is above the bound on
average. Masked image models are trained this way; arXiv:2511.19664 explains why it works (the "simple" weighting).

A training may also begin with an easier task, in which at most a given share of each text is hidden: k is then uniform in
1 ... M for an M below L, and M + 1 replaces L + 1 in the even weights. From texts that are mostly hidden, a model learns
little more than how frequent each token is until it knows how to use the visible ones.

Everything here draws from torch's default generator and runs on the device of its arguments, with shapes that do not depend
on their contents and without waiting for the device.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Weighting = Literal["even", "bound"]
"""How hidden tokens are weighted in training: all of a text alike, or as in the bound."""
BITS = 32
GOLDEN = 2654435769
"""2 ** 32 divided by the golden ratio."""


class Hidden(NamedTuple):
    """The hidden tokens of a batch.

    Attributes:
        tokens: (B, T) bool.
        weights: (B, T) float32: L / k for the hidden tokens of a text of L tokens of which k are hidden, or 2L / (M + 1) if
            the weights are even, where M is the largest k; elsewhere 0.
    """

    tokens: Tensor
    weights: Tensor


def number_texts(segment_ids: Tensor) -> Tensor:
    """Number the texts of a batch.

    Args:
        segment_ids: (B, T) int64, those of a `TokenBatch`.

    Returns:
        (B, T) int64: the number of each position's text, from 0 on in the order of reading. Padding has that of the text
        before it.
    """
    starts = segment_ids > 0
    starts[:, 1:] &= segment_ids[:, 1:] != segment_ids[:, :-1]
    return (starts.flatten().cumsum(0) - 1).clamp(min=0).view_as(segment_ids)


def spread_times(number: int, draws: int, device: torch.device) -> Tensor:
    """Draw times that are spread evenly, over texts and over the draws of each text (as in arXiv:2107.00630, appendix I.1).

    Each time alone is uniform. The times of neighbouring texts differ by the golden ratio, modulo 1, so that those of any
    number of texts in a row lie about equally far apart; those of one text lie exactly equally far apart.

    Returns:
        (draws, number) int64, in units of 2 ** -32.
    """
    start = torch.randint(2**BITS, (), device=device)
    texts = torch.arange(number, device=device) * GOLDEN
    shifts = torch.arange(draws, device=device) * 2**BITS // draws
    return (start + texts + shifts[:, None]) % 2**BITS


def hide_tokens(
    texts: Tensor, eligible: Tensor, times: Tensor, weighting: Weighting = "bound", most: float = 1.0
) -> Hidden:
    """Hide k of the L eligible tokens of each text at random: k = 1 + floor(time * M), where M is the share `most` of L.

    Args:
        texts: (B, T) int64, as `number_texts` gives them.
        eligible: (B, T) bool, the tokens that may be hidden.
        times: (B * T,) int64, of the texts by number, in units of 2 ** -32.
        weighting: of the hidden tokens.
        most: the largest share of a text that is hidden, in (0, 1], rounded down to M tokens, but at least 1.
    """
    text, may = texts.flatten(), eligible.flatten()
    size = text.numel()
    lengths = count_by_text(texts, eligible)
    largest = (most * lengths.float()).long().clamp(min=1)
    hidden = 1 + (times * largest >> BITS)
    # The eligible tokens in the order of their texts, and in random order within each; then the others.
    order = torch.rand(size, dtype=torch.float32, device=text.device).argsort()
    order = order[torch.where(may, text, size)[order].argsort(stable=True)]
    rank = torch.arange(size, device=text.device) - (lengths.cumsum(0) - lengths)[text[order]]
    chosen = (rank < hidden[text[order]]) & may[order]
    tokens = torch.zeros_like(may).scatter(0, order, chosen)
    divisor = hidden.float() if weighting == "bound" else (largest + 1).float() / 2
    weights = torch.where(tokens, lengths[text].float() / divisor[text], 0.0)
    return Hidden(tokens.view_as(texts), weights.view_as(texts))


def count_by_text(texts: Tensor, counted: Tensor) -> Tensor:
    """(B * T,) int64: for each text by number, how many of its positions are `counted`, (B, T) bool."""
    text = texts.flatten()
    return torch.zeros_like(text).scatter_add(0, text, counted.flatten().long())


def reveal_steps(hidden: Tensor, steps: int | None, generator: torch.Generator | None = None) -> Tensor:
    """Deal the hidden tokens of each row out to steps in random order, as evenly as possible, at least one to a step.

    Args:
        hidden: (B, T) bool.
        steps: the most steps of a row; None: one for each of its hidden tokens.
        generator: on the device of `hidden`.

    Returns:
        (B, T) int64: the step, from 0 on, that reveals a hidden token; elsewhere -1.
    """
    noise = torch.rand(hidden.shape, dtype=torch.float32, device=hidden.device, generator=generator)
    rank = torch.where(hidden, noise, 2.0).argsort(dim=1).argsort(dim=1)
    number = hidden.sum(dim=1, keepdim=True).clamp(min=1)
    share = number if steps is None else number.clamp(max=steps)
    return torch.where(hidden, rank * share // number, -1)
