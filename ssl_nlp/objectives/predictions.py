"""Targets of a loss and the rows that they are predicted from, which give its least value on a known language."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_nlp.data.batch import IGNORE_INDEX, TokenBatch


@dataclass(frozen=True)
class Corruption:
    """How tokens were hidden, as far as a text tells something about it.

    Attributes:
        rate: the probability that a token is chosen to be predicted.
        replaced: the probability that a chosen token becomes a random one.
        kept: the probability that a chosen token stays. All other chosen ones become the mask.
        replacements: (V,) bool, the tokens that random ones are drawn from, all with the same probability.
    """

    rate: float
    replaced: float
    kept: float
    replacements: Tensor


@dataclass(frozen=True)
class Predictions:
    """The predictions behind the loss of a batch.

    Attributes:
        seen: the B rows as the encoder read them, corrupted or not.
        targets: (B, T) int64, the tokens to predict, `IGNORE_INDEX` where there is none. Without a corruption, a target is
            the next token, predicted from those of its document up to its position; otherwise it is the token at its
            position, predicted from all of the document.
        nats: (B,) the loss of the targets of each row, summed.
        corruption: of the rows; None: each target is the next token.
        context: the number of tokens before a next token that the model sees; None: all of the document in the row.
        per_row: whether the loss is an average over rows, and not over targets.
    """

    seen: TokenBatch
    targets: Tensor
    nats: Tensor
    corruption: Corruption | None = None
    context: int | None = None
    per_row: bool = False

    @property
    def number(self) -> Tensor:
        """(B,) the share of each row in the number by which the loss is divided."""
        targets = (self.targets != IGNORE_INDEX).sum(dim=1)
        return (targets > 0).long() if self.per_row else targets


@dataclass(frozen=True)
class Unmaskings:
    """Texts that are written into masks in random order, at several random moments, and their lengths.

    Attributes:
        rows: B rows of T tokens, with their next tokens. Each document of a row is a text of its own.
        hidden: (D, B, T) bool, the masked tokens at D moments, which are predicted from the visible ones.
        weights: (D, B, T) of their losses. A text costs the mean over moments, and its length.
        number: (B,) the share of each row in the number by which the loss is divided.
        nats: (B,) the loss of each row.
    """

    rows: TokenBatch
    hidden: Tensor
    weights: Tensor
    number: Tensor
    nats: Tensor


@dataclass(frozen=True)
class Detections:
    """Whether tokens were replaced by those of a generator, which filled masks independently of each other.

    Some tokens of each row, E of them, stand for all.

    Attributes:
        masked: B rows as the generator read them.
        drawn: (B, T) int64, the rows with what the generator drew, as the discriminator reads them.
        replaced: (B, T) bool, where `drawn` differs from the text.
        examined: (B, E) int64, the positions of these tokens, which may repeat.
        odds: (B, E) float64: the log of how much more probable the drawn tokens are if this one, too, was masked (its own
            probability included) than if it was not. -inf for tokens that are never masked.
        rate: the probability that a token is masked.
        tokens: (B,) the number of tokens in each row.
        nats: (B,) the loss of the examined tokens, scaled to all of them.
    """

    masked: TokenBatch
    drawn: Tensor
    replaced: Tensor
    examined: Tensor
    odds: Tensor
    rate: float
    tokens: Tensor
    nats: Tensor

    @property
    def number(self) -> Tensor:
        """(B,) the share of each row in the number by which the loss is divided."""
        return self.tokens


@dataclass(frozen=True)
class Contrasts:
    """Which text belongs to which, of the first and the second texts of B rows.

    Attributes:
        first, second: the texts. Each is told from all others, as the partner of the other text of its row.
        excluded: (B, B) bool, True for rows whose texts are not candidates for each other, because they share one.
        nats: (B,) the losses of both texts of each row, added.
    """

    first: TokenBatch
    second: TokenBatch
    excluded: Tensor
    nats: Tensor

    @property
    def number(self) -> Tensor:
        """(B,) the share of each row in the number by which the loss is divided."""
        return torch.full_like(self.nats, 2, dtype=torch.int64)


Explained = Predictions | Unmaskings | Detections | Contrasts
"""The account that a method gives of its loss, from which the limit of the loss follows."""
