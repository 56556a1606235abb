"""How likely a model finds texts, one by one."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Likelihood = Literal["likelihood", "pseudo-likelihood", "bound"]
"""The kinds of scores, which cannot be compared with each other: -log p(text); the sum over tokens of -log p(token | all
others) (arXiv:1910.14659), which is not a probability of the text; and an upper bound of -log p(text)."""


@dataclass(frozen=True)
class Scores:
    """Scores of N texts. The mean over tokens is `nats.sum() / targets.sum()`.

    Attributes:
        kind: what the nats mean.
        nats: (N,) float64, summed over the targets of each text; on the CPU, as are the other two.
        targets: (N,) int64, how many tokens were predicted.
        all_targets: (N,) int64, how many there are in the whole text, of which an encoder may read the beginning only.
    """

    kind: Likelihood
    nats: Tensor
    targets: Tensor
    all_targets: Tensor
