"""MoCo (He et al., arXiv:1911.05722) for text: negatives from a queue, encoded by a slow copy of the encoder.

    loss = - sum over queries q of log( exp(s(q, k) / T) / (exp(s(q, k) / T) + sum over the queue of exp(s(q, c) / T)) )

where s is the cosine of two vectors and T the temperature (equation 1). The query is one text of a pair, encoded by the
encoder; the key k is the other one, encoded by the momentum encoder, whose weights are a moving average of the encoder's.
The queue holds the keys of earlier batches. It starts empty: the first batch has no negatives and no loss. Texts that
are known not to be negatives, because the query's row has them too, are left out.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import concatenate
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.methods.contrastive.two_texts import VALIDATION_TEMPERATURE, Contrastive
from ssl_nlp.modules.heads import Projection
from ssl_nlp.modules.pooling import Pooling, pool
from ssl_nlp.objectives.contrastive import info_nce_with_queue, nearest_is_positive
from ssl_nlp.objectives.geometry import unit_vectors
from ssl_nlp.objectives.views import View
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.parts import counts_only
from ssl_nlp.training.ranks import gather_rows
from ssl_nlp.training.sums import Loss, Term

EMPTY = -1  # the id of an empty place in the queue; ids of texts are not negative


class MoCo(Contrastive):
    """InfoNCE between queries and the keys of a momentum encoder. Its embedding is the encoder's.

    Validation is the same for every run, without momentum encoder and queue: see `Contrastive`.

    Args:
        encoder: turns tokens into hidden states.
        views: corruptions, applied one after the other to each of the two texts. Empty: the views differ
            by dropout alone. None: a fifth of the tokens is deleted.
        temperature: T, by which similarities are divided.
        momentum: share of its weights that the momentum encoder keeps in the first step. It rises to 1 until the last
            one, as half a cosine (BYOL, arXiv:2006.07733, section 3.3); with an unknown number of steps it stays.
        queue: keys that are kept, a multiple of the rows of a batch over all ranks.
        key_dropout: whether the momentum encoder has the encoder's dropout.
        projection: head between the embedding and the vectors that the loss compares.
        pooling: how the embedding comes from the hidden states.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: arguments are invalid; or as `Contrastive`.
    """

    short_name = "moco"
    anchors = 1

    queue: Tensor
    queue_ids: Tensor
    queue_end: Tensor

    def __init__(
        self,
        encoder: Encoder | None = None,
        views: list[View] | None = None,
        temperature: float = 0.1,
        momentum: float = 0.99,
        queue: int = 4096,
        key_dropout: bool = False,
        projection: Projection | None = None,
        pooling: Pooling = "mean",
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, views, projection, pooling, optimization, compile)
        problems = {
            f"temperature must be positive and finite, not {temperature}": not 0 < temperature < math.inf,
            f"momentum must be between 0 and 1, not {momentum}": not 0 <= momentum <= 1,
            f"queue must be 1 or more, not {queue}": queue < 1,
        }
        refuse(problems)
        self.temperature, self.momentum = temperature, momentum
        self.queue_size = queue
        self.key_dropout = key_dropout
        self._new_keys: list[tuple[Tensor, Tensor]] = []

    def build(self) -> None:
        super().build()
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.head).requires_grad_(False)
        width = self.projection.width if self.projection.depth else self.encoder.dim
        self.register_buffer("queue", torch.zeros(self.queue_size, width))
        self.register_buffer("queue_ids", torch.full((self.queue_size,), EMPTY))
        self.register_buffer("queue_end", torch.zeros((), dtype=torch.int64))

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        rows = data.batch_size * self.trainer.world_size
        if self.queue_size % rows:
            raise UserError(
                f"queue {self.queue_size} is not a multiple of the {rows} rows of a batch over all ranks: "
                f"use {max(1, round(self.queue_size / rows)) * rows}"
            )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.compile_encoder:
            self.key_encoder.compile(dynamic=None)

    def loss(self, batch: TokenBatch) -> Loss:
        first, second, ids = self.two_texts(batch)
        if not self.training:
            vectors = self.vectors(concatenate([first, second], self.tokenizer.pad_id))
            return self.nt_xent(vectors, ids, VALIDATION_TEMPERATURE)
        queries, keys = self.vectors(first), self.keys(second)
        if torch.is_grad_enabled() and not counts_only():
            self._new_keys.append((keys, ids[:, 1]))
        excluded = self.queue_ids == EMPTY
        for texts in ids.T:
            excluded = excluded | (texts[:, None] == self.queue_ids)
        losses = info_nce_with_queue(queries, keys, self.queue, self.temperature, excluded)
        with_keys = F.pad(excluded, (len(keys), 0), value=True)
        positives = torch.arange(len(keys), device=keys.device)
        hits, asked = nearest_is_positive(queries, torch.cat([keys, self.queue]), positives, with_keys)
        number = torch.tensor(len(losses), device=losses.device)
        return Loss({"info_nce": Term(losses.sum(), number)}, {"accuracy": (hits.sum(), asked.sum())})

    @torch.no_grad()
    def keys(self, batch: TokenBatch) -> Tensor:
        """(B, E): the vectors of the momentum encoder, of length 1."""
        self.key_encoder.train(self.key_dropout)
        return unit_vectors(self.key_head(pool(self.key_encoder(batch), batch, self.pooling)))

    @torch.no_grad()
    def after_step(self) -> None:
        """Update the momentum encoder, and put the keys of the step into the queue, the same on all ranks."""
        share = 1 - momentum_in_step(self.step, self.total_steps, self.momentum)
        slow, fast = (nn.ModuleList(parts) for parts in ((self.key_encoder, self.key_head), (self.encoder, self.head)))
        torch._foreach_lerp_([*slow.parameters()], [*fast.parameters()], share)
        for mine, theirs in zip(slow.buffers(), fast.buffers(), strict=True):
            mine.copy_(theirs)
        for keys, ids in self._new_keys:
            self._enqueue(gather_rows(keys)[0], gather_rows(ids)[0])
        self._new_keys = []

    def _enqueue(self, keys: Tensor, ids: Tensor) -> None:
        """Replace the oldest keys by new ones (N, E); the last batch of an epoch may wrap around the end of the queue."""
        keys, ids = keys[-self.queue_size :], ids[-self.queue_size :]
        places = (self.queue_end + torch.arange(len(keys), device=keys.device)) % self.queue_size
        self.queue[places] = keys.to(self.queue.dtype)  # keys are float32 or wider
        self.queue_ids[places] = ids
        self.queue_end.add_(len(keys)).remainder_(self.queue_size)


def momentum_in_step(step: int, total_steps: float, start: float) -> float:
    """The momentum in optimizer step `step`: from `start` in step 0 to 1 at `total_steps`; `start` if these are infinite.

    BYOL's schedule (arXiv:2006.07733, section 3.3), which MoCo v3 has taken over.
    """
    return 1 - (1 - start) * (math.cos(math.pi * min(step / total_steps, 1)) + 1) / 2
