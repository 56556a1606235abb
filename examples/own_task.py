"""A task in a file of its own: classes in an order, such as stars, by thresholds (Cao et al., arXiv:1901.07884, CORAL).

loss = - sum over thresholds k of log p(class > k or not),    p(class > k) = sigmoid(w h + b_k)
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data import TokenBatch
from ssl_nlp.evaluation import Result
from ssl_nlp.tasks import Task
from ssl_nlp.training import Loss, Term


class Ordinal(Task):
    """A class for each text, of classes whose names are in order; being two off counts twice."""

    labels = "class"
    monitor = ("mean_error", False)

    def build(self) -> None:
        self.head, self.thresholds = nn.Linear(self.encoder.dim, 1), nn.Parameter(torch.zeros(len(self.classes) - 1))

    def outputs(self, batch: TokenBatch) -> Tensor:
        return self.head(self.embed_batch(batch)) + self.thresholds

    def loss_of(self, outputs: Tensor, batch: TokenBatch) -> Loss:
        above = (batch.labels.unsqueeze(1) > torch.arange(outputs.shape[1], device=outputs.device)).float()
        total = F.binary_cross_entropy_with_logits(outputs, above, reduction="sum")
        return Loss({"ordinal": Term(total, torch.tensor(len(outputs), device=outputs.device))})

    def items(self, outputs: Tensor, batch: TokenBatch) -> list[tuple[int, int]]:
        return list(zip((outputs > 0).sum(dim=1).tolist(), batch.labels.tolist(), strict=True))

    def result(self, items: list[tuple[int, int]]) -> Result:
        return Result("mean_error", {"mean_error": float(np.abs(np.subtract(*np.array(items).T)).mean())})
