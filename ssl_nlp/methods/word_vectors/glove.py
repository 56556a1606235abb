"""GloVe: vectors whose products are the logarithms of co-occurrence counts (Pennington, Socher and Manning, EMNLP 2014).

    loss = sum over words i and j with X_ij > 0 of f(X_ij) (w_i · w̃_j + b_i + b̃_j - log X_ij)²      (equation 8)
    f(x) = min(1, (x / x_max)^alpha)                                                                (equation 9)

X_ij is the sum of 1 / distance over all places where i and j stand near each other. w are the vectors of the encoder, the
rest is the method's. An epoch goes over the matrix instead of the text (`Cooccurrences`). The paper uses w + w̃ in the end,
which helps it a little (section 4.2); here w̃ serves training alone. A validation lowers the estimates by the logarithm of
how much larger the training split is, because counts grow with the text.
"""

import math

import torch
from torch import Tensor, nn

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.cooccurrences import CooccurrenceRows, CountedPairs
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.word_vectors.tables import WordVectors
from ssl_nlp.objectives.word_vectors import glove
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term


class GloVe(WordVectors):
    """Word vectors from the counts of words near each other.

    Args:
        encoder: `BagOfWords`.
        x_max: the count from which on all entries have the same weight: 100 for billions of words, 10 for millions.
        alpha: power of smaller counts in their weight.
        optimization: optimizer and schedule.

    Raises:
        UserError: arguments are invalid.
    """

    units = ("cooccurrence",)
    loss_unit = "squared error per entry"

    def __init__(
        self,
        encoder: Encoder | None = None,
        x_max: float = 100.0,
        alpha: float = 0.75,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(encoder, optimization)
        if not (0 < x_max < math.inf and 0 <= alpha < math.inf):
            raise UserError(f"GloVe: x_max must be above 0 and alpha 0 or more, not {x_max} and {alpha}")
        self.x_max, self.alpha = x_max, alpha

    total: Tensor  # sum of the counts of the training split; 0 where it is not known

    def tables(self) -> None:
        vocab_size, dim = self.encoder.embedding.weight.shape
        self.contexts = nn.Embedding(vocab_size, dim)
        self.biases, self.context_biases = nn.Embedding(vocab_size, 1), nn.Embedding(vocab_size, 1)
        nn.init.uniform_(self.contexts.weight, -1 / dim, 1 / dim)
        nn.init.zeros_(self.biases.weight)
        nn.init.zeros_(self.context_biases.weight)
        self.register_buffer("total", torch.zeros((), dtype=torch.float64))

    def connect_data(self, data: TextDataModule, stage: str) -> None:
        super().connect_data(data, stage)
        if stage == "fit":
            rows = data.rows("train")
            assert isinstance(rows, CooccurrenceRows)
            self.total.fill_(rows.total)

    def loss(self, batch: TokenBatch) -> Loss:
        if not isinstance(batch, CountedPairs) or batch.counts is None:
            raise UserError("GloVe reads counts of words near each other: set data.unit to cooccurrence")
        word, context = batch.input_ids.unbind(dim=1)
        products = (self.encoder.look_up(word) * self.rows(self.contexts, context)).sum(dim=1)
        biases = self.rows(self.biases, word) + self.rows(self.context_biases, context)
        estimates = products + biases.squeeze(1)
        if self.total:
            estimates = estimates - (self.total / batch.total).log().to(estimates.dtype)
        total = glove(estimates, batch.counts, self.x_max, self.alpha)
        return Loss({"entry": Term(total, torch.tensor(len(batch), device=total.device))})

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"entry": torch.tensor(len(batch), device=batch.input_ids.device)}
