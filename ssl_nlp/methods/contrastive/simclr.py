"""SimCLR (Chen et al., arXiv:2002.05709) for text; with dropout as its only view, SimCSE (Gao et al., arXiv:2104.08821).

    loss = - sum over both texts a of each pair of log( exp(s(a, b) / T) / sum over candidates c of exp(s(a, c) / T) )

where b is the other text of the pair, s the cosine of two vectors and T the temperature (NT-Xent, equation 1). The model
sees two views of each sentence, or two texts that belong together, in one pass. Candidates are all other texts of the
batch over all ranks, except those known not to be negatives: texts of rows that share a text with the anchor's row.
"""

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import concatenate
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.contrastive.two_texts import VALIDATION_TEMPERATURE, Contrastive
from ssl_nlp.modules.heads import Projection
from ssl_nlp.modules.pooling import Pooling
from ssl_nlp.objectives.views import View
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss

LOWEST_TEMPERATURE = 0.01  # of a learned one, as in CLIP (arXiv:2103.00020, section 2.5)


class SimCLR(Contrastive):
    """NT-Xent between two views of each sentence, or between the two texts of each pair.

    Validation is the same for every run: see `Contrastive`.

    Args:
        encoder: turns tokens into hidden states.
        views: corruptions, applied one after the other to each of the two texts. Empty: the views differ
            by dropout alone (SimCSE). None: a fifth of the tokens is deleted.
        temperature: T, by which similarities are divided; its initial value if it is learned.
        learn_temperature: learn the logarithm of T, with 0.01 as the lowest T.
        projection: head between the embedding and the vectors that the loss compares.
        pooling: how the embedding comes from the hidden states.
        decoupled: leave the positive out of the sum over candidates (DCL, arXiv:2110.06848, section 3).
        chunk: texts to encode at a time, of which there are two for each row of a batch. Only one chunk's activations
            are in memory at any time: each is encoded once more, with the same dropout, when its gradient is due
            (GradCache, arXiv:2101.06983). The loss is that of the whole batch. None: all at once.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: an argument is invalid; or as `Contrastive`.
    """

    short_name = "simclr"

    def __init__(
        self,
        encoder: Encoder | None = None,
        views: list[View] | None = None,
        temperature: float = 0.1,
        learn_temperature: bool = False,
        projection: Projection | None = None,
        pooling: Pooling = "mean",
        decoupled: bool = False,
        chunk: int | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, views, projection, pooling, optimization, compile)
        if not 0 < temperature < math.inf:
            raise UserError(f"temperature must be positive and finite, not {temperature}")
        if learn_temperature and temperature < LOWEST_TEMPERATURE:
            raise UserError(
                f"temperature {temperature} is below {LOWEST_TEMPERATURE}, the lowest that is learned: raise it"
            )
        if chunk is not None and chunk < 1:
            raise UserError(f"chunk must be 1 or more, or null, not {chunk}")
        self.fixed_temperature = temperature
        self.learn_temperature = learn_temperature
        self.decoupled = decoupled
        self.chunk = chunk

    def build(self) -> None:
        super().build()
        if self.learn_temperature:
            # One element rather than a scalar, which FSDP cannot shard.
            self.log_temperature = nn.Parameter(torch.tensor([math.log(self.fixed_temperature)]))

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        if data.batch_size * self.trainer.world_size < 2:
            raise UserError("a batch of one row has no negatives: set data.batch_size to 2 or more")

    @property
    def temperature(self) -> float | Tensor:
        """T, (1,) if it is learned."""
        if not self.learn_temperature:
            return self.fixed_temperature
        return self.log_temperature.exp()

    @torch.no_grad()
    def after_step(self) -> None:
        if self.learn_temperature:  # clamped here and not in `temperature`, where it would lose its gradient
            self.log_temperature.clamp_(min=math.log(LOWEST_TEMPERATURE))

    def loss(self, batch: TokenBatch) -> Loss:
        first, second, ids = self.two_texts(batch)
        vectors = self.encode(concatenate([first, second], self.tokenizer.pad_id))
        if not self.training:
            return self.nt_xent(vectors, ids, VALIDATION_TEMPERATURE)
        temperature = self.temperature
        loss = self.nt_xent(vectors, ids, temperature, self.decoupled)
        if isinstance(temperature, Tensor):
            loss.metrics["temperature"] = (temperature.sum(), torch.ones_like(temperature.sum()))
        return loss

    def encode(self, texts: TokenBatch) -> Tensor:
        """(B, E): the vectors of `texts`, `chunk` of them at a time."""
        if self.chunk is None:
            return self.vectors(texts)

        # Tensors are separate arguments because `checkpoint` saves the random state of the devices of its arguments only.
        def encode(input_ids: Tensor, segment_ids: Tensor) -> Tensor:
            rows = TokenBatch(input_ids, segment_ids, packed=texts.packed, padded=texts.padded, causal=texts.causal)
            return self.vectors(rows)

        chunks = zip(texts.input_ids.split(self.chunk), texts.segment_ids.split(self.chunk), strict=True)
        return torch.cat([checkpoint(encode, *chunk, use_reentrant=False) for chunk in chunks])
