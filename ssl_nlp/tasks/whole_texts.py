"""The common part of tasks on whole texts, or on pairs of texts: one vector of each, which a head reads.

A pair becomes one row, as in BERT (arXiv:1810.04805, section 3.2): the first text, then the second one. Tokens of the
second text are marked by the encoder's own embedding of parts where it has one, as BERT does. Without one, the special
token between the texts tells them apart, as in RoBERTa: so the stock classes of `transformers` can express the task.
"""

from typing import get_args

import torch
from torch import Tensor, nn

from ssl_nlp.corpora import Document
from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.modules.heads import text_head
from ssl_nlp.modules.parts import added_by_parts
from ssl_nlp.modules.pooling import Pooling, pool
from ssl_nlp.objectives.pairs import Pairing, join_pairs
from ssl_nlp.tasks.base import Task
from ssl_nlp.tasks.documents import pair_of_line
from ssl_nlp.training.optimization import Optimization


class WholeTexts(Task):
    """A task on a pooled state of each text or pair of texts.

    Args:
        encoder: turns tokens into hidden states, usually a trained one.
        classes: the classes in the order of their numbers; null takes those of the data.
        pooling: which states of the encoder make the vector of a text: their mean or maximum, the first or the last; null
            takes those that the head was made for.
        pairs: whether it reads pairs of texts; null goes by `data.unit`.
        dropout: rate before the last layer of the head.
        causal: whether a position of the encoder sees only what precedes it; null: as the encoder was made or trained.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        classes: list[str] | None = None,
        pooling: Pooling | None = None,
        pairs: bool | None = None,
        dropout: float = 0.0,
        causal: bool | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, classes, optimization, compile)
        if pooling not in (None, *get_args(Pooling)):
            raise UserError(f"pooling {pooling!r} is unknown: use {', '.join(get_args(Pooling))}, or null")
        self._pooling, self.pairs, self.dropout, self.causal = pooling, pairs, dropout, causal

    def take_facts(self, data: TextDataModule, stage: str) -> None:
        super().take_facts(data, stage)
        paired = data.unit == "pair"
        if self.pairs is None:
            self.pairs = paired
            self.settle("pairs", paired)
        elif self.pairs != paired:
            trained, remedy = ("pairs of texts", "pair") if self.pairs else ("single texts", "text")
            raise UserError(
                f"this {type(self).__name__} reads {trained}, and data.unit is {data.unit!r}: set it to {remedy!r}"
            )

    def new_head(self, outputs: int) -> nn.Module:
        """A head on the vectors (B, D) of texts, which the pooling makes."""
        head, pooling = text_head(self.encoder, outputs, self.dropout)
        self.pooling = self._pooling or pooling
        return head

    def read(self, vectors: Tensor) -> Tensor:
        """The outputs for the vectors (B, D) of texts."""
        raise NotImplementedError

    def rows_and_parts(self, batch: TokenBatch) -> tuple[TokenBatch, Tensor]:
        """As `Task.rows_and_parts`; both texts of a pair are in one row.

        Raises:
            UserError: the task reads pairs, and the batch has none.
        """
        if not self.pairs:
            return super().rows_and_parts(batch)
        if batch.pair is None:
            raise UserError(f"this {type(self).__name__} reads pairs of texts: give each text its pair")
        own = torch.arange(len(batch), device=batch.input_ids.device)
        drop = len(self.tokenizer.prefix) if self.tokenizer.suffix else 0  # [CLS] A [SEP] B [SEP], but <s> A <s> B
        return join_pairs(batch, Pairing(own, own + len(batch), own >= 0), self.tokenizer.pad_id, drop)

    def pooled(self, batch: TokenBatch) -> Tensor:
        """(B, D): the vector of each text, or pair of texts, of a batch."""
        if not self.pairs:
            return pool(self.states(batch), batch, self.pooling)
        rows, parts = self.rows_and_parts(batch)
        return pool(self.encoder(rows, added=added_by_parts(parts, self.encoder)), rows, self.pooling)

    def document_of_line(self, line: str, number: int) -> Document:
        return pair_of_line(line, number) if self.pairs else Document(line)
