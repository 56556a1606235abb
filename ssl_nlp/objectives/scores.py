"""How likely a model finds texts, and words in their place in a text."""

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
        variances: (N,) float64, of the nats as estimates from random draws; None: they are exact, or it is not known.
        unpredicted: how many tokens at the beginning of each text have nothing before them to be predicted from.
    """

    kind: Likelihood
    nats: Tensor
    targets: Tensor
    all_targets: Tensor
    variances: Tensor | None = None
    unpredicted: int = 0

    @property
    def cut(self) -> Tensor:
        """(N,) bool: the texts that are longer than the model reads."""
        return self.targets + self.unpredicted < self.all_targets


@dataclass(frozen=True)
class Prompt:
    """A text with a gap, and the words that may fill it.

    Attributes:
        examples: texts before it, each with whatever separates it from the next one. Without room for all, the first ones
            are left out.
        before, after: the text around the gap.
        words: W candidates, without white space around them.
    """

    examples: tuple[str, ...]
    before: str
    after: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class WordScores:
    """Log-likelihoods of the W words of N prompts; all tensors are on the CPU.

    Attributes:
        kind: `likelihood`: log p(word, text after the gap | text before it). `pseudo-likelihood`: the sum, over the tokens
            of the word, of log p(token | text around the gap, earlier tokens of the word) (arXiv:2305.10588).
        nats: (N, W) float64, summed over tokens.
        tokens: (N, W) int64, the number of tokens in each sum.
        bytes: (N, W) int64, UTF-8 bytes of the text that was scored.
        examples_cut: (N,) int64, examples that were left out because there was no room.
        tokens_cut: (N,) int64, tokens of the prompt itself that were left out because it is too long even without examples.
    """

    kind: Likelihood
    nats: Tensor
    tokens: Tensor
    bytes: Tensor
    examples_cut: Tensor
    tokens_cut: Tensor


class Unable(Exception):
    """Raised by a model that cannot do an evaluation task, with the reason as its message."""
