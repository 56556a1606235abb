"""Regression of scores, such as the similarity of two texts: one number from a pooled state.

    loss = (s - head(pooled(h)))^2

The head is that of `Classification` with one output, as in BERT for STS-B (arXiv:1810.04805, section 4.1). With a `range`
the output is squashed into it: low + (high - low) sigmoid(.).
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import Result, pearson, spearman
from ssl_nlp.modules.pooling import Pooling
from ssl_nlp.tasks.whole_texts import WholeTexts
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term


class Regression(WholeTexts):
    """A score for each text, or pair of texts.

    Args:
        encoder: turns tokens into hidden states, usually a trained one.
        range: the lowest and the highest score, between which the predictions then are; null for any number.
        pooling: which states of the encoder make the vector of a text: their mean, the first or the last; null takes those
            that the head was made for.
        pairs: whether it reads pairs of texts; null goes by `data.unit`.
        dropout: rate before the last layer of the head.
        causal: whether a position of the encoder sees only what precedes it; null: as the encoder was made or trained.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    labels = "score"
    monitor = ("spearman", True)
    loss_unit = "squared error per text"

    def __init__(
        self,
        encoder: Encoder | None = None,
        range: tuple[float, float] | None = None,
        pooling: Pooling | None = None,
        pairs: bool | None = None,
        dropout: float = 0.0,
        causal: bool | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, None, pooling, pairs, dropout, causal, optimization, compile)
        if range is not None and not -math.inf < range[0] < range[1] < math.inf:
            raise UserError(f"range must be a low and a high score, such as [0, 5], not {list(range)}")
        self.range = range

    def build(self) -> None:
        self.head = self.new_head(1)

    def own_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        assert batch.labels is not None
        return {"squared_error": (~batch.labels.isnan()).sum()}

    def outputs(self, batch: TokenBatch) -> Tensor:
        """(B,) scores, float32."""
        return self.read(self.pooled(batch))

    def read(self, vectors: Tensor) -> Tensor:
        scores: Tensor = self.head(vectors).squeeze(1).float()
        if self.range is None:
            return scores
        low, high = self.range
        return low + (high - low) * scores.sigmoid()

    def loss_of(self, outputs: Tensor, batch: TokenBatch) -> Loss:
        assert batch.labels is not None
        known = ~batch.labels.isnan()
        errors = torch.where(known, outputs - batch.labels.nan_to_num(), 0.0)
        return Loss({"squared_error": Term(errors.square().sum(), known.sum())})

    def items(self, outputs: Tensor, batch: TokenBatch) -> list[tuple[float, float]]:
        assert batch.labels is not None
        return list(zip(outputs.tolist(), batch.labels.tolist(), strict=True))

    def result(self, items: list[tuple[float, float]]) -> Result:
        known = np.array([item for item in items if not math.isnan(item[1])], dtype=np.float64).reshape(-1, 2)
        predicted, gold = known.T
        metrics = {"spearman": spearman(predicted, gold), "pearson": pearson(predicted, gold)}
        return Result("spearman", metrics, items=known, statistic="spearman")

    def records(self, outputs: Tensor, batch: TokenBatch) -> list[dict[str, Any]]:
        return [{"prediction": score} for score in outputs.tolist()]
