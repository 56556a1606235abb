"""The common part of contrastive methods: two texts that belong together, and the vectors that the loss compares."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import concatenate
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.modules.heads import Projection
from ssl_nlp.modules.pooling import POOLINGS, Pooling
from ssl_nlp.objectives.contrastive import info_nce, nearest_is_positive, sentence_ids, two_view_pairs
from ssl_nlp.objectives.geometry import unit_vectors
from ssl_nlp.objectives.predictions import Contrasts
from ssl_nlp.objectives.scores import Unable
from ssl_nlp.objectives.views import Delete, View, apply_views
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.ranks import gather_rows
from ssl_nlp.training.sums import Loss, Term

DEFAULT_VIEWS = (Delete(0.2),)
VALIDATION_VIEWS = (Delete(0.2),)
VALIDATION_TEMPERATURE = 0.05
TRIED = 64  # random sentences, and tokens of each, to try whether views change anything


class Contrastive(Method):
    """A method that tells the other text of a pair from all others.

    The pairs are those of the data (`unit: pair`: captions, translations) or else two views of a sentence. Views are
    random and applied to each text separately; with dropout in the encoder, the two differ in that as well.

    Validation is the same for every run, whatever its views and temperature: NT-Xent over the texts of a batch, at
    temperature 0.05 and without dropout. Where the data have no pairs, it takes two copies of each sentence and deletes a
    fifth of the tokens of each; otherwise a run whose only view is dropout would see the same text twice.

    Args:
        encoder: turns tokens into hidden states.
        views: corruptions, applied one after the other. Empty: the views differ by dropout alone (SimCSE,
            arXiv:2104.08821, section 3). None: a fifth of the tokens is deleted.
        projection: head between the embedding and the vectors that the loss compares.
        pooling: how the embedding comes from the hidden states.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: `pooling` is unknown; or, in `check_data` or by the first batch, neither views nor dropout nor pairs
            would make a difference.
    """

    loss_unit = "nats per text"
    against_collapse = "a lower learning rate, more negatives or stronger views"
    units = ("sentence", "pair")
    anchors: ClassVar[int] = 2  # texts of a row that have a loss in training

    def __init__(
        self,
        encoder: Encoder | None = None,
        views: list[View] | None = None,
        projection: Projection | None = None,
        pooling: Pooling = "mean",
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        if pooling not in POOLINGS:
            raise UserError(f"pooling {pooling!r} is unknown: use mean, first or last")
        self.views: Sequence[View] = DEFAULT_VIEWS if views is None else views
        self.projection = projection or Projection()
        self.pooling = pooling

    def build(self) -> None:
        self.head = self.projection.build(self.encoder.dim)
        self._needs_pairs = not self._varies()

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        if data.unit == "sentence":
            self._check_difference(None)
        self.check_views(self.views, data.length // 2 if data.unit == "pair" else data.length)

    def _check_difference(self, pair: TokenBatch | None) -> None:
        if pair is None and self._needs_pairs:
            raise UserError(
                f"{type(self).__name__} would see the same text twice: set the encoder's dropout above 0, "
                "name views that change something, or use paired data (data.unit: pair)"
            )

    @torch.no_grad()
    def _varies(self) -> bool:
        """Whether the two copies of a sentence differ, in tokens because of views or in states because of dropout."""
        training = self.encoder.training
        self.encoder.train()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            content = self.maskable.nonzero().squeeze(1)
            ids = content[torch.randint(len(content), (TRIED, min(TRIED, self.encoder.max_length)))]
            batch, few = (
                TokenBatch(rows, torch.ones_like(rows), packed=False, padded=False) for rows in (ids, ids[:4, :16])
            )
            one, other = (apply_views(self.views, batch, self.vocabulary) for _ in range(2))
            different = not torch.equal(one.input_ids, other.input_ids)
            different = different or not torch.equal(self.encoder(few), self.encoder(few))
        self.encoder.train(training)
        return different

    def two_texts(self, batch: TokenBatch) -> tuple[TokenBatch, TokenBatch, Tensor]:
        """The two texts of each row as the model sees them, and ids (B, 2) of the original texts."""
        self._check_difference(batch.pair)
        second = batch if batch.pair is None else replace(batch.pair, causal=batch.causal)
        ids = torch.stack([sentence_ids(batch), sentence_ids(second)], dim=1)
        views = self.views
        if not self.training:
            views = VALIDATION_VIEWS if batch.pair is None else ()
        seen = [apply_views(views, text, self.vocabulary) for text in (batch, second)]
        return seen[0], seen[1], ids

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"info_nce": torch.tensor(self.anchors * len(batch), device=batch.input_ids.device)}

    def vectors(self, batch: TokenBatch) -> Tensor:
        """(B, E): the vectors that the loss compares."""
        projected: Tensor = self.head(self.embed_batch(batch))
        return projected

    def nt_xent(self, vectors: Tensor, ids: Tensor, temperature: float | Tensor, decoupled: bool = False) -> Loss:
        """Tell the other text of a row from all texts of all ranks.

        Args:
            vectors: (2B, E), of the first texts and, below them, the second ones.
            ids: (B, 2), which texts those are.
            temperature: positive.
            decoupled: leave the positive out of the sum.
        """
        candidates, positives, excluded = self._candidates(vectors, ids)
        losses = info_nce(vectors, candidates, positives, temperature, excluded, decoupled)
        hits, asked = nearest_is_positive(vectors, candidates, positives, excluded)
        number = torch.tensor(len(losses), device=losses.device)
        return Loss({"info_nce": Term(losses.sum(), number)}, {"accuracy": (hits.sum(), asked.sum())})

    def _candidates(self, vectors: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates of all ranks, with the positives and exclusions of `two_view_pairs`; arguments as for `nt_xent`."""
        ids = torch.cat([ids, ids.flip(1)])
        candidates, offset = gather_rows(vectors)
        return candidates, *two_view_pairs(ids, gather_rows(ids)[0], offset)

    @torch.no_grad()
    def explain_loss(self, batch: TokenBatch) -> Contrasts:
        """The other text of each pair."""
        if batch.pair is None:
            raise Unable(
                "two views of a text share so much that their loss may be 0: pairs have a limit (data.unit pair)"
            )
        if self.trained and self.trainer.world_size > 1:
            raise Unable("the candidates are on several ranks: validate on one device")
        first, second, ids = self.two_texts(batch)
        vectors = self.vectors(concatenate([first, second], self.tokenizer.pad_id))
        candidates, positives, excluded = self._candidates(vectors, ids)
        losses = info_nce(vectors, candidates, positives, VALIDATION_TEMPERATURE, excluded).double()
        same_row = torch.eye(len(batch), dtype=torch.bool, device=losses.device)
        of_rows = excluded[: len(batch), : len(batch)] & ~same_row
        return Contrasts(first, second, of_rows, losses.view(2, -1).sum(dim=0))

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        """Each text with its nearest neighbour among the others."""
        if len(texts) < 2:
            return []
        units = unit_vectors(self.embed(texts))
        nearest = (units @ units.T).fill_diagonal_(-torch.inf).max(dim=1)
        return [
            {"text": text, "nearest": texts[other], "cosine": f"{cosine:.2f}"}
            for text, other, cosine in zip(texts, nearest.indices.tolist(), nearest.values.tolist(), strict=True)
        ]
