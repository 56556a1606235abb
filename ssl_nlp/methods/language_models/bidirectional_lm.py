"""ELMo's two language models, one for each direction (Peters et al., arXiv:1802.05365, section 3.1).

    loss = - mean over t of log p(x_{t+1} | x_1 ... x_t) - mean over t of log p(x_{t-1} | x_t ... x_n)

The forward model reads each document from its start token on and predicts every token and the end. The backward model reads
it from its last token back and predicts every token before that one, the first word among them; the start token is its end.
Neither sees anything of the other, at any layer. They share the token embedding and the output layer.

Unlike ELMo this reads the tokens of the tokenizer, not the characters of words, and has neither residual connections nor
projections between its layers. Nothing follows a document here unless the tokenizer ends texts with a token of its own, as
BERT's does, so the backward model has nothing to predict the last token from; the paper's sum includes it, given the end.
A row that begins or ends within a document is read from there, as by every method.

Both together say how likely a token is between its neighbours, if what precedes it and what follows it are independent
given the token itself. Bayes' rule then gives, for every place of a text in one pass,

    p(x_t | all others)  is proportional to  p(x_t | x_1 ... x_{t-1}) * p(x_t | x_{t+1} ... x_n) / p(x_t)

over all tokens but special ones, which never stand within a text. p(x_t) is the share of the token in the training text,
with 1 added to each count.
"""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX, concatenate
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.scoring import check_kind, score_rows
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.objectives.predictions import Predictions
from ssl_nlp.objectives.scores import Likelihood, Scores
from ssl_nlp.training.sums import Loss, Term


class BidirectionalLM(Method):
    """A forward and a backward language model that see nothing of each other.

    The encoder keeps its directions apart, as `Recurrent` does with `separate`. The embedding is the mean of the states of
    both. Perplexity, bits per byte and `score` come from the forward model. `score(texts, kind="pseudo-likelihood")` uses
    both models.

    Raises:
        UserError: in `connect`, the directions of the encoder see each other.
    """

    units = Method.all_units
    language_term = "next_token"
    likelihood = "likelihood"
    likelihoods: ClassVar[tuple[Likelihood, ...]] = ("likelihood", "pseudo-likelihood")
    loss_unit = "nats per token, both directions"

    def build(self) -> None:
        if not self.encoder.separate:
            raise UserError(
                "BidirectionalLM needs an encoder whose two directions see nothing of each other: use Recurrent with "
                "separate set to true"
            )
        self.head = LanguageModelHead(self.encoder.dim // 2, self.encoder.embedding)

    def loss(self, batch: TokenBatch) -> Loss:
        if batch.pair is not None:
            batch = concatenate([batch, batch.pair], self.tokenizer.pad_id)
        return Loss(
            {
                name: Term(*self.head.loss(hidden.flatten(0, 1), targets.flatten()))
                for (name, targets), hidden in zip(_targets(batch).items(), self._directions(batch), strict=True)
            }
        )

    def _directions(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """(B, T, D / 2) each: the states of the forward and of the backward model."""
        forward, backward = self.encoder(batch).chunk(2, dim=-1)
        return forward, backward

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        parts = [_targets(part) for part in (batch, batch.pair) if part is not None]
        counts = {name: [(part[name] != IGNORE_INDEX).sum() for part in parts] for name in parts[0]}
        return {name: torch.stack(numbers).sum() for name, numbers in counts.items()}

    @torch.no_grad()
    def explain_loss(self, batch: TokenBatch) -> Predictions:
        """Every next token, from those before it: the part of the forward model."""
        if batch.pair is not None:
            batch = concatenate([batch, batch.pair], self.tokenizer.pad_id)
        following = _targets(batch)["next_token"]
        nats = self.head.losses(self._directions(batch)[0].flatten(0, 1), following.flatten())
        return Predictions(batch, following, nats.view_as(following).sum(dim=1))

    def score(self, texts: Iterable[str], batch_size: int = 64, kind: Likelihood | None = None) -> Scores:
        """The negative log-likelihood of each text and its end under the forward model, or its pseudo-log-likelihood.

        Args:
            texts: N of them.
            batch_size: texts that are computed together.
            kind: one of `likelihoods`; None: the first.

        Raises:
            UserError: `kind` is none of `likelihoods`, `texts` is a single text or holds anything but texts, or
                `batch_size` is below 1.
        """
        check_kind(kind, self.likelihoods)
        if kind == "pseudo-likelihood":
            return self._pseudo_likelihood(texts, batch_size, within_words=False)

        def score_batch(batch: TokenBatch) -> tuple[Tensor, Tensor]:
            following = _targets(batch)["next_token"]
            nats = self.head.losses(self._directions(batch)[0].flatten(0, 1), following.flatten())
            return nats.view_as(following).sum(dim=1), (following != IGNORE_INDEX).sum(dim=1)

        return score_rows(self, texts, batch_size, score_batch)

    def pseudo_score(self, texts: Iterable[str], batch_size: int = 64) -> Scores:
        """The pseudo-log-likelihood in which no token sees the later tokens of its word (arXiv:2305.10588).

        The backward model has read these wherever it predicts such a token. So the forward model predicts it alone, and it
        sees nothing that follows its word.

        Raises:
            UserError: `texts` is a single text or holds anything but texts, or `batch_size` is below 1.
        """
        return self._pseudo_likelihood(texts, batch_size, within_words=True)

    def _pseudo_likelihood(self, texts: Iterable[str], batch_size: int, within_words: bool) -> Scores:
        log_prior = (self.token_counts.float() + 1).log()  # up to a constant, which cancels

        def score_batch(batch: TokenBatch) -> tuple[Tensor, Tensor]:
            ids = batch.input_ids
            targets = ids.masked_fill(~(batch.is_text & self.maskable[ids]), IGNORE_INDEX)
            forward, backward = self._directions(batch)
            adjacent = batch.is_text[:, 1:]  # rows of one text, padded on the right
            from_left = F.pad(forward[:, :-1], (0, 0, 1, 0)), F.pad(adjacent, (1, 0))
            if within_words:
                assert batch.starts_word is not None
                adjacent = adjacent & batch.starts_word[:, 1:]
            from_right = F.pad(backward[:, 1:], (0, 0, 0, 1)), F.pad(adjacent, (0, 1))
            contexts = [(states.flatten(0, 1), known.flatten()) for states, known in (from_left, from_right)]
            nats = self.head.joint_losses(contexts, log_prior, self.maskable, targets.flatten())
            return nats.view_as(ids).sum(dim=1), (targets != IGNORE_INDEX).sum(dim=1)

        return score_rows(self, texts, batch_size, score_batch, "pseudo-likelihood")

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        return (statistics.tokens + statistics.documents) / statistics.bytes  # each document's end is predicted too


def _targets(batch: TokenBatch) -> dict[str, Tensor]:
    """(B, T) each: the token after each position in its document, and the one before it; `IGNORE_INDEX` where none is."""
    following = batch.following("BidirectionalLM")
    before = F.pad(batch.input_ids[:, :-1], (1, 0))
    first = batch.segment_ids != F.pad(batch.segment_ids[:, :-1], (1, 0))
    return {"next_token": following, "previous_token": before.masked_fill(first | ~batch.is_text, IGNORE_INDEX)}
