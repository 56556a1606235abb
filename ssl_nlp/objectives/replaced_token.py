"""Replaced-token detection (Clark et al., arXiv:2003.10555, section 2): the corruption, and the loss of its detector.

Everything here draws from torch's default generator and runs on the device of the batch, with shapes that do not depend
on its contents and without waiting for the device.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def sample_tokens(logits: Tensor, allowed: Tensor) -> Tensor:
    """Draw a token (K,) from each row of `logits` (K, V), in float32 and without a gradient.

    Args:
        logits: unnormalised log-probabilities.
        allowed: (v,) bool with v <= V, True for tokens that may be drawn; tokens from v on never are.
    """
    probabilities = allowed_logits(logits, allowed).softmax(dim=-1)
    # A model that has diverged draws any token: its loss will show it, and an error on a GPU would abort the process.
    probabilities = torch.where(probabilities.isnan(), allowed.float(), probabilities)
    return torch.multinomial(probabilities, 1).squeeze(1)


def allowed_logits(logits: Tensor, allowed: Tensor) -> Tensor:
    """(K, v) float32 or wider: `logits` (K, V) of the first v tokens, -inf where a token is not `allowed` (v,)."""
    logits = logits[:, : len(allowed)]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).masked_fill(~allowed, -torch.inf)


def replace_tokens(input_ids: Tensor, positions: Tensor, chosen: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Replace the chosen tokens by others. One that equals the original does not count as replaced (section 2).

    Args:
        input_ids: (B, T) int64.
        positions: (K,) int64, distinct, into the flattened (B * T) ids, as `choose_positions` gives them.
        chosen: (K,) bool. Where it is False, the position stays as it is.
        tokens: (K,) int64.

    Returns:
        ids: (B, T) int64, the corrupted text.
        replaced: (B, T) bool, True where it differs from the original.
    """
    flat = input_ids.flatten()
    corrupted = flat.scatter(0, positions, torch.where(chosen, tokens, flat[positions])).view_as(input_ids)
    return corrupted, corrupted != input_ids


def detection_loss(logits: Tensor, replaced: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of `replaced`, summed over real tokens, and their number (the paper's L_Disc, section 2).

    Args:
        logits: (B, T), log-odds that a token was replaced.
        replaced: (B, T) bool.
        real: (B, T) bool, False for positions without a target.

    Returns:
        The sum, a float32 scalar, and the number, an int64 scalar.
    """
    return detection_losses(logits, replaced).masked_fill(~real, 0).sum(), real.sum()


def detection_losses(logits: Tensor, replaced: Tensor) -> Tensor:
    """(B, T) float32: the binary cross-entropy of each token. Arguments as for `detection_loss`."""
    return F.binary_cross_entropy_with_logits(logits.float(), replaced.float(), reduction="none")
