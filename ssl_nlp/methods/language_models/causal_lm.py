"""GPT: predict the next token (Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018).

    loss = - sum over t of log p(x_{t+1} | x_1 ... x_t)

The model sees each document from its start token on and predicts every token of it, the end included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX, concatenate
from ssl_nlp.errors import UserError
from ssl_nlp.methods.language_models.left_to_right import LeftToRight
from ssl_nlp.methods.prompts import score_words
from ssl_nlp.methods.scoring import score_rows
from ssl_nlp.modules.generation import Continuation
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.modules.pooling import Pooling
from ssl_nlp.objectives.predictions import Predictions
from ssl_nlp.objectives.scores import Prompt, Scores, WordScores
from ssl_nlp.training.sums import Loss, Term


class CausalLM(LeftToRight):
    """Autoregressive language model over a causal encoder. Its embedding is the state of the last token."""

    pooling: Pooling = "last"

    def build(self) -> None:
        self.head = LanguageModelHead(self.encoder.dim, self.encoder.embedding, self.encoder.language_head())

    def loss(self, batch: TokenBatch) -> Loss:
        return Loss({"next_token": self.next_token(batch)})

    def next_token(self, batch: TokenBatch) -> Term:
        """The loss of all next tokens of a batch."""
        batch, following = self._next_tokens(batch)
        hidden = self.encoder(batch)
        return Term(*self.head.loss(hidden.flatten(0, 1), following.flatten()))

    def _next_tokens(self, batch: TokenBatch) -> tuple[TokenBatch, Tensor]:
        """All rows as the model reads them, those of the pair below, and their next tokens (B, T)."""
        if batch.pair is not None:
            batch = concatenate([batch, batch.pair], self.tokenizer.pad_id)
        return replace(batch, causal=True), batch.following(type(self).__name__)

    @torch.no_grad()
    def explain_loss(self, batch: TokenBatch) -> Predictions:
        """Every next token, from those before it."""
        seen, following = self._next_tokens(batch)
        nats = self.head.losses(self.encoder(seen).flatten(0, 1), following.flatten())
        return Predictions(seen, following, nats.view_as(following).sum(dim=1))

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        parts = [part.next_ids for part in (batch, batch.pair) if part is not None and part.next_ids is not None]
        return {"next_token": torch.stack([(ids != IGNORE_INDEX).sum() for ids in parts]).sum()}

    def score(self, texts: Iterable[str], batch_size: int = 64) -> Scores:
        """The negative log-likelihood of each text and its end.

        Raises:
            UserError: `texts` is a single text or holds anything but texts, or `batch_size` is below 1.
        """

        def score_batch(batch: TokenBatch) -> tuple[Tensor, Tensor]:
            assert batch.next_ids is not None
            hidden = self.encoder(replace(batch, causal=True))
            nats = self.head.losses(hidden.flatten(0, 1), batch.next_ids.flatten())
            return nats.view_as(batch.next_ids).sum(dim=1), (batch.next_ids != IGNORE_INDEX).sum(dim=1)

        return score_rows(self, texts, batch_size, score_batch)

    def score_words(self, prompts: Sequence[Prompt], batch_size: int = 64) -> WordScores:
        """The log-likelihood of each word of a prompt and the text after it, given the text before it."""
        return score_words(self, self.head, prompts, batch_size, causal=True)

    def begin(self, rows: list[list[int]], steps: int) -> Continuation:
        if not all(rows):
            raise UserError(
                "a text can only begin with a token in front of it, and this tokenizer puts none there: continue a prompt"
            )
        return Continuation(self.encoder, self.head, self.tokenizer, rows, steps)
