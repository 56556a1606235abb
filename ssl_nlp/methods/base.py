"""The contract of a method: what it sees, its heads and its loss. `ssl_nlp.training.Module` does the rest."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer
from ssl_nlp.data.batch_maker import RowKind
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.errors import UserError
from ssl_nlp.objectives.scores import Likelihood
from ssl_nlp.objectives.views import View, Vocabulary, apply_views
from ssl_nlp.training.texts import TextModule


class Method(TextModule):
    """A self-supervised objective over an encoder.

    A subclass writes `loss`, which computes a `Loss` from a `TokenBatch`, and most write `build`, which creates the heads.
    It sets the class attributes below, where the defaults do not fit. From `TextModule` and `Module` it may also override
    `states`, `own_embedding`, `check_data`, `after_step`, `summarize`, `samples`, `count_targets` and `players`. It reads
    `encoder`, `tokenizer`, `vocabulary`, `training`, `step` and `total_steps`. It never sees a label.

    Args:
        encoder: turns tokens into hidden states. Left out where the method is one of several in a `MultiObjective`.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    all_units: ClassVar[tuple[RowKind, ...]] = ("block", "sentence", "pair")  # those that hold texts
    against_collapse: ClassVar[str] = "a lower learning rate"  # what helps when embeddings have collapsed
    language_term: ClassVar[str | None] = None  # the term of the loss whose exponential is a perplexity
    likelihood: ClassVar[Likelihood | None] = None  # what the method can say of the probability of a text, if anything

    maskable: Tensor  # (V,) bool, the tokens that are not special
    token_counts: Tensor  # (V,) int64, how often each token occurs in the training split

    def collapse(self, embeddings: Tensor) -> str | None:
        """A sign, other than their directions, that embeddings (N, E) of different texts have collapsed, if any."""
        return None

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        """Targets of `language_term` per UTF-8 byte of text, for bits per byte."""
        raise NotImplementedError

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        if self.language_term is None:
            return means
        nats = means[f"loss/{self.language_term}"]
        means = means | {"perplexity": nats.exp()}
        if statistics is not None:
            means["bits_per_byte"] = nats * (self.targets_per_byte(statistics) / math.log(2))
        return means

    # ---------------------------------------------------------------------------------------------- what a method may use

    @property
    def vocabulary(self) -> Vocabulary:
        """The facts about tokens that corruptions of a batch need."""
        return Vocabulary(self.tokenizer.pad_id, self.tokenizer.mask_id, self.maskable, self.token_counts)

    @property
    def replacements(self) -> Tensor:
        """(V,) bool: tokens that random replacements are drawn from, those of the corpus where it is known."""
        used = self.maskable & (self.token_counts > 0)
        return torch.where(used.any(), used, self.maskable)

    def check_views(self, views: Sequence[View], length: int) -> None:
        """Try views on a row of `length` tokens.

        Raises:
            UserError: they need a tokenizer with a mask token, or make a text too long for the encoder.
        """
        ids = torch.zeros(1, length, dtype=torch.int64, device=self.maskable.device)
        with torch.random.fork_rng():
            seen = apply_views(views, TokenBatch(ids, torch.ones_like(ids), packed=False), self.vocabulary)
        if (width := seen.input_ids.shape[1]) > self.encoder.max_length:
            raise UserError(
                f"the views make {width} tokens of data.length {length}, and the encoder's max_length is "
                f"{self.encoder.max_length}: shorten the one or raise the other"
            )

    def prepare(self, tokenizer: Tokenizer) -> None:
        self.register_buffer("token_counts", torch.zeros(tokenizer.vocab_size, dtype=torch.int64))
        maskable = torch.ones(tokenizer.vocab_size, dtype=torch.bool)
        maskable[tokenizer.special_ids] = False
        self.register_buffer("maskable", maskable, persistent=False)
        super().prepare(tokenizer)

    def take_counts(self, data: TextDataModule) -> None:
        self.token_counts.copy_(torch.from_numpy(data.token_counts()))

    def predict_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        return self.embed_batch(self.visible(batch))
