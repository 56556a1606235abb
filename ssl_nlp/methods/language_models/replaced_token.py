"""ELECTRA's replaced-token detection (Clark et al., arXiv:2003.10555, section 2).

    loss = mean over masked t of -log p_G(x_t | x with some tokens masked)
           + 50 * mean over all t of -log p_D(whether x_t was replaced | x with some tokens replaced)

A small generator G reads the text with 15 % of its tokens masked, and what it draws in their place makes the text that the
encoder, the discriminator D, sees. D says of every token whether it was replaced; a drawn token that happens to be the
original was not. No gradient goes through the drawing: G learns as a masked language model, and shares its token
embeddings with D.

As in the paper's code, "all tokens" are those that are not padding. Special tokens are among them: they are never masked
or replaced, so D has to call them original. Where the code leaves 15 % of the tokens to be predicted visible to G, all are
masked here, as the paper says.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Encoder, Transformer
from ssl_nlp.encoders.depth import layers_of
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.methods.base import Method
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.objectives.masking import choose_positions
from ssl_nlp.objectives.predictions import Detections
from ssl_nlp.objectives.replaced_token import (
    allowed_logits,
    detection_loss,
    detection_losses,
    replace_tokens,
    sample_tokens,
)
from ssl_nlp.seeding import random_state_kept
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term

VALIDATION_RATE = 0.15
HEAD_WIDTH = 64  # of the generator's attention, as in the paper's models (appendix A)
EXAMINED = 8
"""Tokens of a row that stand for all where the limit of the loss is computed: each costs a pass of the generator."""
DRAWN_AT_ONCE = 4096  # tokens whose logits over the vocabulary exist at the same time


class ReplacedToken(Method):
    """Replaced-token detection. The encoder is the discriminator; its embedding is the mean of the states.

    Args:
        encoder: the discriminator, bidirectional.
        masking_rate: share of the tokens that the generator fills in training; validation always takes 0.15.
        generator_size: width of the generator as a share of the encoder's. It is as deep as the encoder, without dropout.
        detection_weight: weight of the discriminator's loss; the generator's has weight 1.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: arguments are invalid; all of them are listed in one line. In `connect`, the tokenizer has no mask token.
    """

    loss_unit = "nats per token, weighted sum"

    def __init__(
        self,
        encoder: Encoder | None = None,
        masking_rate: float = 0.15,
        generator_size: float = 0.25,
        detection_weight: float = 50.0,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        problems = {
            f"masking_rate must be between 0 and 1, not {masking_rate}": not 0 < masking_rate < 1,
            f"generator_size must be above 0 and at most 1, not {generator_size}": not 0 < generator_size <= 1,
            f"detection_weight must be positive and finite, not {detection_weight}": not 0
            < detection_weight
            < math.inf,
        }
        refuse(problems)
        self.masking_rate = masking_rate
        self.generator_size = generator_size
        self.detection_weight = detection_weight

    def build(self) -> None:
        mask_id = self.tokenizer.mask_id
        if mask_id is None:
            raise UserError("this tokenizer has no mask token: ReplacedToken needs one, CausalLM does not")
        self.mask_id = mask_id
        shared = self.encoder.embedding
        heads = max(1, round(self.generator_size * self.encoder.dim / HEAD_WIDTH))
        self.generator = Transformer(
            size=None,
            dim=max(1, round(self.generator_size * self.encoder.dim / (2 * heads))) * 2 * heads,  # even in each head
            layers=max(1, len(layers_of(self.encoder))),
            heads=heads,
            max_length=self.encoder.max_length,
        )
        self.generator.build(self.vocab_size, self.tokenizer.pad_id, causal=False)
        self.generator.embeddings.tok_embeddings = ProjectedEmbedding(shared, self.generator.dim)  # type: ignore[assignment]  # reads ids likewise
        self.generator_head = LanguageModelHead(self.generator.dim, shared)
        self.detection_head = DetectionHead(self.encoder.dim)

    def loss(self, batch: TokenBatch) -> Loss:
        _, corrupted, replaced, generator, drawn_right = self._corrupt(batch)
        logits = self._detect(batch.with_input_ids(corrupted))
        discriminator = Term(*detection_loss(logits, replaced, batch.is_text), self.detection_weight)
        called = logits > 0
        kept = batch.is_text & ~replaced
        metrics = {
            "replaced_accuracy": ((called & replaced).sum(), replaced.sum()),
            "original_accuracy": ((~called & kept).sum(), kept.sum()),
            "generator_accuracy": (drawn_right, generator.targets),
        }
        return Loss({"generator": generator, "discriminator": discriminator}, metrics)

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"generator": self._choose(batch)[1].sum(), "discriminator": batch.is_text.sum()}

    def _choose(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """The positions to mask, as `choose_positions` gives them."""
        rate = self.masking_rate if self.training else VALIDATION_RATE
        count = max(1, round(rate * batch.n_tokens))  # fixed for a batch: no shape depends on the data
        return choose_positions(batch, self.maskable, count, "token")

    def _corrupt(self, batch: TokenBatch) -> tuple[TokenBatch, Tensor, Tensor, Term, Tensor]:
        """Let the generator fill masks.

        Returns:
            The text with masks, as the generator reads it, and (B, T) with what it drew, where that differs from the
            original (B, T), the generator's loss, and how often it drew the original.
        """
        positions, chosen = self._choose(batch)
        original = batch.input_ids.flatten()[positions]
        masks = torch.full_like(positions, self.mask_id)
        masked = batch.with_input_ids(replace_tokens(batch.input_ids, positions, chosen, masks)[0])
        hidden = self.generator(masked).flatten(0, 1)[positions]
        loss = Term(*self.generator_head.loss(hidden, torch.where(chosen, original, IGNORE_INDEX)))
        drawn = self._draw(hidden)
        corrupted, replaced = replace_tokens(batch.input_ids, positions, chosen, drawn)
        return masked, corrupted, replaced, loss, ((drawn == original) & chosen).sum()

    @torch.no_grad()
    def _draw(self, hidden: Tensor) -> Tensor:
        """(K,) tokens of the generator at its states (K, G), never special ones."""
        blocks = hidden.split(DRAWN_AT_ONCE)
        return torch.cat([sample_tokens(self.generator_head(block), self.maskable) for block in blocks])

    def _detect(self, batch: TokenBatch) -> Tensor:
        """(B, T) log-odds that a token was replaced."""
        logits: Tensor = self.detection_head(self.encoder(batch))
        return logits

    @torch.no_grad()
    def explain_loss(self, batch: TokenBatch) -> Detections:
        """Whether some tokens of each row were replaced: the loss of the discriminator."""
        masked, drawn, replaced, _, _ = self._corrupt(batch)
        losses = detection_losses(self._detect(batch.with_input_ids(drawn)), replaced).double()
        examined = torch.multinomial(batch.is_text.float(), EXAMINED, replacement=True)
        tokens, is_masked = batch.is_text.sum(dim=1), masked.input_ids == self.mask_id
        eligible = batch.is_text & self.maskable[batch.input_ids]
        return Detections(
            masked,
            drawn,
            replaced,
            examined,
            self._odds(masked, drawn, examined).masked_fill(~eligible.gather(1, examined), -torch.inf),
            float(is_masked.sum() / eligible.sum()),
            tokens,
            losses.gather(1, examined).mean(dim=1) * tokens,
        )

    def _odds(self, masked: TokenBatch, drawn: Tensor, examined: Tensor) -> Tensor:
        """(B, E): the log of how much more probable the drawn tokens are with a token masked than with it in sight.

        Args:
            masked: the rows as the generator read them.
            drawn: (B, T), with what it drew.
            examined: (B, E), the positions of these tokens, each masked or not while the others stay as they are.
        """
        hidden = masked.input_ids == self.mask_id
        as_it_is, odds = self._drawn_nats(masked, drawn, hidden), []
        for place in examined.T[:, :, None]:
            was_hidden = hidden.gather(1, place)
            changed = self._drawn_nats(masked, drawn, hidden.scatter(1, place, ~was_hidden))
            odds.append(torch.where(was_hidden[:, 0], changed - as_it_is, as_it_is - changed))
        return torch.stack(odds, dim=1)

    def _drawn_nats(self, batch: TokenBatch, drawn: Tensor, hidden: Tensor) -> Tensor:
        """(B,) -log of the probability with which the generator draws hidden tokens (B, T) from the others."""
        states = self.generator(batch.with_input_ids(drawn.masked_fill(hidden, self.mask_id)))[hidden]
        log_p = allowed_logits(self.generator_head(states), self.maskable).double().log_softmax(dim=-1)
        nats = -log_p.gather(1, drawn[hidden][:, None])[:, 0]
        return nats.new_zeros(len(drawn)).index_add(0, hidden.nonzero()[:, 0], nats)

    @torch.no_grad()
    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        if not texts:
            return []
        ids = [ids[: min(32, self.encoder.max_length)] for ids, _ in self.tokenizer.encode(texts)]
        batch = pad_rows(ids, None, self.tokenizer, self.encoder.max_length).to(self.device)
        with self.evaluating():
            with random_state_kept(self.device):
                torch.manual_seed(0)
                _, corrupted, replaced, _, _ = self._corrupt(batch)
            suspected = self._detect(batch.with_input_ids(corrupted)) > 0
        return [
            {
                "text": self.tokenizer.decode(now[: len(was)]),
                "replaced": self._changes(was, now, gone),
                "suspected": self._changes(was, now, doubt),
            }
            for was, now, gone, doubt in zip(
                ids, corrupted.tolist(), replaced.tolist(), suspected.tolist(), strict=True
            )
        ]

    def _changes(self, was: list[int], now: list[int], where: list[bool]) -> str:
        """The tokens at some positions, each with the original token if it was replaced."""
        token = self.tokenizer.token
        shown = [
            token(new).strip() + (f" (was {token(old).strip()})" if new != old else "")
            for old, new, here in zip(was, now, where, strict=False)
            if here
        ]
        return ", ".join(shown)


class ProjectedEmbedding(nn.Module):
    """Another model's token embeddings (V, E), brought to width `dim` by a linear layer (section 3.2, footnote).

    The embedding is trained too, but its weights belong to the other model and not to this one.
    """

    def __init__(self, embedding: nn.Embedding, dim: int) -> None:
        super().__init__()
        self._embedding = [embedding]  # in a list, so that it does not appear twice in a checkpoint
        self.projection = nn.Linear(embedding.embedding_dim, dim, bias=False)
        nn.init.trunc_normal_(self.projection.weight, std=0.02, a=-0.04, b=0.04)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, T) to (B, T, dim)."""
        projected: Tensor = self.projection(self._embedding[0](input_ids))
        return projected


class DetectionHead(nn.Module):
    """Hidden states (..., D) to log-odds (...): dense, GELU, linear, as in the paper's code."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, 1)
        for layer in (self.dense, self.output):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.output(F.gelu(self.dense(hidden)))
        return logits.squeeze(-1)
