"""Classification of texts: softmax over classes of a pooled state.

    loss = - log p(class | text)
    logits = W norm(gelu(V mean(h))) + b

The head is that of ModernBERT for sequence classification (Warner et al., arXiv:2412.13663, released code), and on the last
state if the encoder is causal. A published encoder gets the head of its own class, such as that of BERT on its first state.
"""

import numpy as np
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.evaluation.result import Result
from ssl_nlp.modules.heads import text_head
from ssl_nlp.tasks.base import Task
from ssl_nlp.training.sums import Loss, Term


class Classification(Task):
    """A class for each text."""

    labels = "class"
    monitor = ("accuracy", True)
    loss_unit = "nats per text"

    def build(self) -> None:
        assert self.classes is not None
        self.head, self.pooling = text_head(self.encoder, len(self.classes))

    def outputs(self, batch: TokenBatch) -> Tensor:
        """(B, C) logits."""
        logits: Tensor = self.head(self.embed_batch(batch))
        return logits

    def loss_of(self, outputs: Tensor, batch: TokenBatch) -> Loss:
        assert batch.labels is not None
        total = F.cross_entropy(outputs.float(), batch.labels, ignore_index=IGNORE_INDEX, reduction="sum")
        return Loss({"classification": Term(total, (batch.labels != IGNORE_INDEX).sum())})

    def items(self, outputs: Tensor, batch: TokenBatch) -> list[tuple[int, int]]:
        assert batch.labels is not None
        return list(zip(batch.labels.tolist(), outputs.argmax(dim=1).tolist(), strict=True))

    def result(self, items: list[tuple[int, int]]) -> Result:
        gold, predicted = np.array([item for item in items if item[0] != IGNORE_INDEX]).T
        correct = (gold == predicted).astype(np.float64)
        macro = f1_score(gold, predicted, average="macro", zero_division=0.0)
        return Result("accuracy", {"accuracy": float(correct.mean()), "macro_f1": float(macro)}, items=correct)
