"""Classification of texts, or of pairs of texts: classes from a pooled state.

    logits = head(pooled(h))
    one class a text:         loss = - w_c log softmax(logits)_c
    several classes a text:   loss = - sum_c (w_c y_c log sigmoid(logits)_c + (1 - y_c) log(1 - sigmoid(logits)_c)) / C

The head is that of ModernBERT for sequence classification (Warner et al., arXiv:2412.13663, released code), and on the last
state if the encoder is causal. A published encoder gets the head of its own class, such as that of BERT on its first state.
Losses are divided by the number of texts, whatever the weights w are.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.labels import LabelKind
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import Result
from ssl_nlp.modules.pooling import Pooling
from ssl_nlp.tasks.class_scores import several_class_result, single_class_result
from ssl_nlp.tasks.whole_texts import WholeTexts
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term

Item = tuple[int, int] | tuple[list[int] | None, list[int]]
"""The class of a text and the predicted one; or those that a text has (None: not known) and the predicted ones."""


class Classification(WholeTexts):
    """One class or several for each text or pair of texts.

    Args:
        encoder: turns tokens into hidden states, usually a trained one.
        classes: the classes in the order of their numbers; null takes those of the data.
        several: whether a text may have several classes, or none (`data.labels: classes`).
        class_weights: how much each class counts in the loss: numbers by class (1 for those left out), or `balanced`,
            which gives rare classes of the train split as much weight as frequent ones. With `several`, the weight of
            texts that have the class, beside 1 for those that have not.
        pooling: which states of the encoder make the vector of a text: their mean, the first or the last; null takes those
            that the head was made for.
        pairs: whether it reads pairs of texts; null goes by `data.unit`.
        dropout: rate before the last layer of the head.
        causal: whether a position of the encoder sees only what precedes it; null: as the encoder was made or trained.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    labels: LabelKind | None = "class"
    monitor = ("accuracy", True)
    loss_unit = "nats per text"

    def __init__(
        self,
        encoder: Encoder | None = None,
        classes: list[str] | None = None,
        several: bool = False,
        class_weights: dict[str, float] | Literal["balanced"] | None = None,
        pooling: Pooling | None = None,
        pairs: bool | None = None,
        dropout: float = 0.0,
        causal: bool | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, classes, pooling, pairs, dropout, causal, optimization, compile)
        self.several, self.class_weights = several, class_weights
        if several:
            self.labels, self.monitor, self.loss_unit = "classes", ("micro_f1", True), "nats per text and class"
        if isinstance(class_weights, str) and class_weights != "balanced":
            raise UserError(f"class_weights {class_weights!r} is unknown: use balanced, or numbers by class")
        if isinstance(class_weights, Mapping):
            self.class_weights = {
                str(name): weight for name, weight in class_weights.items()
            }  # YAML reads 1 as a number
            if not all(0 < weight < math.inf for weight in class_weights.values()):
                raise UserError(f"class_weights must be numbers above 0, not {class_weights}")

    def build(self) -> None:
        if not self.classes:
            raise UserError("Classification needs classes: fit it on labelled data, or name them in `classes`")
        self.head = self.new_head(len(self.classes))
        self.weights: Tensor | None
        self.register_buffer("weights", torch.ones(len(self.classes)) if self.class_weights else None)
        if isinstance(self.class_weights, Mapping):
            assert self.weights is not None
            if unknown := [name for name in self.class_weights if name not in self.classes]:
                raise UserError(f"class_weights: there is no class {unknown[0]!r}: use {', '.join(self.classes[:8])}")
            for name, weight in self.class_weights.items():
                self.weights[self.classes.index(name)] = weight

    def take_counts(self, data: TextDataModule) -> None:
        if self.class_weights == "balanced":
            assert self.weights is not None
            counts, texts = data.class_counts()
            numbers = np.maximum(counts, 1)
            ratio = (texts - counts) / numbers if self.several else texts / (len(counts) * numbers)
            self.weights.copy_(torch.from_numpy(np.where(counts > 0, ratio, 1.0)))

    def own_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        assert batch.labels is not None
        known = ~batch.labels[:, 0].isnan() if self.several else batch.labels != IGNORE_INDEX
        return {"classification": known.sum()}

    def outputs(self, batch: TokenBatch) -> Tensor:
        """(B, C) logits, float32."""
        return self.read(self.pooled(batch))

    def read(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.head(vectors).float()
        return logits

    def loss_of(self, outputs: Tensor, batch: TokenBatch) -> Loss:
        labels = batch.labels
        assert labels is not None
        if not self.several:
            total = F.cross_entropy(outputs, labels, self.weights, ignore_index=IGNORE_INDEX, reduction="sum")
            return Loss({"classification": Term(total, (labels != IGNORE_INDEX).sum())})
        known = ~labels[:, 0].isnan()
        losses = F.binary_cross_entropy_with_logits(
            outputs, labels.nan_to_num(), reduction="none", pos_weight=self.weights
        )
        total = torch.where(known, losses.mean(dim=1), 0.0).sum()
        return Loss({"classification": Term(total, known.sum())})

    def items(self, outputs: Tensor, batch: TokenBatch) -> list[Item]:
        labels = batch.labels
        assert labels is not None
        if not self.several:
            return list(zip(labels.tolist(), outputs.argmax(dim=1).tolist(), strict=True))
        gold = [None if row[0] != row[0] else _chosen(row) for row in labels.tolist()]
        return list(zip(gold, map(_chosen, (outputs > 0).tolist()), strict=True))

    def result(self, items: list[Item]) -> Result:
        assert self.classes is not None
        known = [item for item in items if item[0] not in (None, IGNORE_INDEX)]
        return (several_class_result if self.several else single_class_result)(known, self.classes)

    def records(self, outputs: Tensor, batch: TokenBatch) -> list[dict[str, Any]]:
        assert self.classes is not None
        rows = (outputs.sigmoid() if self.several else outputs.softmax(dim=1)).tolist()
        found = []
        for row in rows:
            probabilities = dict(zip(self.classes, row, strict=True))
            prediction: Any = max(probabilities, key=lambda name: probabilities[name])
            if self.several:
                prediction = [name for name, probability in probabilities.items() if probability > 0.5]
            found.append({"prediction": prediction, "probabilities": probabilities})
        return found


def _chosen(row: list[Any]) -> list[int]:
    return [number for number, chosen in enumerate(row) if chosen]
