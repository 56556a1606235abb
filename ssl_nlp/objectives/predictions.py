"""Targets of a loss and the rows that they are predicted from, which give its least value on a known language."""

from dataclasses import dataclass

from torch import Tensor

from ssl_nlp.data.batch import TokenBatch


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
    """What the loss of a batch predicts.

    Attributes:
        seen: the B rows as the encoder read them, corrupted or not.
        targets: (B, T) int64, the tokens to predict, `IGNORE_INDEX` where there is none. Without a corruption, a target is
            the next token, predicted from those of its document up to its position; otherwise it is the token at its
            position, predicted from all of the document.
        nats: (B,) the loss of the targets of each row, summed.
        corruption: of the rows; None: each target is the next token.
        context: the number of tokens before a next token that the model sees; None: all of the document in the row.
    """

    seen: TokenBatch
    targets: Tensor
    nats: Tensor
    corruption: Corruption | None = None
    context: int | None = None
