"""Relation extraction: the class of the relation between two entities that are marked in a text.

    loss = - log p(relation | text)
    logits = W [h_e1 ; h_e2] + b, h_e the state at the first token of the entity's marker

It is "entity start" of Baldini Soares et al. (arXiv:1906.03158, section 3.2). The markers `<e1>` `</e1>` `<e2>` `</e2>` are
tokenized like any other text, so that any tokenizer works, also one whose vocabulary is fixed, and the encoder learns to
read them. A causal encoder has seen an entity only at its end, and gives the state at the last token of its end marker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.corpora import Document
from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.labels import Place, RelationLabels
from ssl_nlp.data.marks import marked_entities
from ssl_nlp.encoders import Encoder
from ssl_nlp.evaluation.result import Result
from ssl_nlp.modules.heads import LinearHead
from ssl_nlp.tasks.base import Task
from ssl_nlp.tasks.documents import cut
from ssl_nlp.tasks.scoring.relations import relation_scores
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term


class RelationExtraction(Task):
    """The relation between two entities. Macro-F1 as SemEval-2010 counts it decides.

    Args:
        encoder: turns tokens into hidden states, usually a trained one.
        dropout: rate before the last layer.
        causal: whether a position of the encoder sees only what precedes it; null: as the encoder was made or trained.
        classes: the relations in the order of their numbers, with direction as in `Cause-Effect(e2,e1)`, and `Other`; null
            takes those of the data.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    labels = "relation"
    units = ("sentence",)
    monitor = ("macro_f1", True)
    loss_unit = "nats per text"

    def __init__(
        self,
        encoder: Encoder | None = None,
        dropout: float = 0.1,
        causal: bool | None = None,
        classes: list[str] | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, classes, optimization, compile)
        self.dropout, self.causal = dropout, causal

    def build(self) -> None:
        assert self.classes is not None
        self.head = LinearHead(2 * self.encoder.dim, len(self.classes), self.dropout)

    def outputs(self, batch: TokenBatch) -> Tensor:
        """(B, C) logits."""
        assert batch.labels is not None
        hidden = self.states(batch)
        positions = batch.labels[:, :, 1] - 1 if self.encoder.causal else batch.labels[:, :, 0]
        last = batch.is_text.sum(dim=1, keepdim=True) - 1  # where the text was cut before the entity
        positions = torch.where(positions < 0, last, positions)
        logits: Tensor = self.head(hidden.take_along_dim(positions.unsqueeze(-1), dim=1).flatten(1))
        return logits

    def targets_of(self, batch: TokenBatch) -> Tensor:
        """(B,): the class of each text."""
        assert batch.labels is not None
        return batch.labels[:, 0, 2]

    def loss_of(self, outputs: Tensor, batch: TokenBatch) -> Loss:
        classes = self.targets_of(batch)
        total = F.cross_entropy(outputs.float(), classes, ignore_index=IGNORE_INDEX, reduction="sum")
        return Loss({"relation": Term(total, self.own_targets(batch)["relation"])})

    def own_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"relation": (self.targets_of(batch) != IGNORE_INDEX).sum()}

    def items(self, outputs: Tensor, batch: TokenBatch) -> list[tuple[int, int]]:
        return list(zip(self.targets_of(batch).tolist(), outputs.argmax(dim=1).tolist(), strict=True))

    def result(self, items: list[tuple[int, int]]) -> Result:
        assert self.classes is not None
        pairs = [(self.classes[true], self.classes[found]) for true, found in items if true != IGNORE_INDEX]
        scores, relations = relation_scores([true for true, _ in pairs], [found for _, found in pairs])
        return Result("macro_f1", scores, details={"relations": relations})

    def records(self, outputs: Tensor, batch: TokenBatch) -> list[dict[str, Any]]:
        assert self.classes is not None
        rows = [dict(zip(self.classes, row, strict=True)) for row in outputs.float().softmax(dim=1).tolist()]
        return [{"prediction": max(row, key=lambda name: row[name]), "probabilities": row} for row in rows]

    def batches_of(
        self, documents: Sequence[Document], batch_size: int, data: TextDataModule | None = None
    ) -> Iterator[tuple[list[int], TokenBatch]]:
        """As `Task.batches_of`, with the places of the entities.

        Raises:
            UserError: a text has no marked entities.
        """
        kind = RelationLabels(self.classes)
        entities = [{"class": None, "entities": marked_entities(document.text)} for document in documents]
        for places, batch in super().batches_of(documents, batch_size, data):
            encoded = self.tokenizer.encode_with_offsets([documents[place].text for place in places])
            rows = [
                kind.of_row(entities[place], Place(0, len(documents[place].text), tokens))
                for place, (_, _, tokens) in zip(places, encoded, strict=True)
            ]
            yield places, replace(batch, labels=kind.collate(rows, batch.input_ids.shape[1]))

    def sample_documents(self, documents: list[Document]) -> list[dict[str, str]]:
        whole = [document for document in documents if all(end in cut(document).text for end in ("</e1>", "</e2>"))]
        return super().sample_documents(whole)
