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
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.data.words import first_words
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.prompts import score_words
from ssl_nlp.methods.scoring import score_rows
from ssl_nlp.modules.decoder import check_prefix
from ssl_nlp.modules.generation import Continuation, check_sampling, continue_rows, seeded, texts_of
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.modules.pooling import Pooling
from ssl_nlp.objectives.predictions import Predictions
from ssl_nlp.objectives.scores import Prompt, Scores, WordScores
from ssl_nlp.training.sums import Loss, Term
from ssl_nlp.training.texts import listed

BATCH = 64
"""Texts that are drawn at a time."""


class CausalLM(Method):
    """Autoregressive language model over a causal encoder. Its embedding is the state of the last token."""

    causal = True
    units = Method.all_units
    pooling: Pooling = "last"
    language_term = "next_token"
    likelihood = "likelihood"

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
        if batch.next_ids is None:
            kind = type(self).__name__
            raise UserError(f"{kind} needs the next tokens of a batch: views that change the text have none")
        return replace(batch, causal=True), batch.next_ids

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
        """The negative log-likelihood of each text and its end."""

        def score_batch(batch: TokenBatch) -> tuple[Tensor, Tensor]:
            assert batch.next_ids is not None
            hidden = self.encoder(replace(batch, causal=True))
            nats = self.head.losses(hidden.flatten(0, 1), batch.next_ids.flatten())
            return nats.view_as(batch.next_ids).sum(dim=1), (batch.next_ids != IGNORE_INDEX).sum(dim=1)

        return score_rows(self, texts, batch_size, score_batch)

    def score_words(self, prompts: Sequence[Prompt], batch_size: int = 64) -> WordScores:
        """The log-likelihood of each word of a prompt and the text after it, given the text before it."""
        return score_words(self, self.head, prompts, batch_size, causal=True)

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        return (statistics.tokens + statistics.documents) / statistics.bytes  # each document's end is predicted too

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        room = self.encoder.max_length // 2  # a byte is at most a token
        prompts = [first_words(text, 8, room).encode()[: room - 1].decode(errors="ignore") for text in texts]
        continuations = self.generate(prompts, max_new_tokens=min(32, room), temperature=0.8, top_p=0.95, seed=0)
        return [{"prompt": p, "continuation": c} for p, c in zip(prompts, continuations, strict=True)]

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """Continue each prompt; the results do not repeat the prompts.

        Args:
            prompts: texts, also empty ones. All are continued in one batch.
            max_new_tokens: the longest continuation; a document that ends sooner is shorter.
            temperature: divides the logits; 0 takes the most probable token every time.
            top_k: sample from the k most probable tokens only.
            top_p: sample from the smallest set of tokens with at least this probability (arXiv:1904.09751).
            seed: makes the samples reproducible.
        """
        check_sampling(temperature, top_k, top_p, max_new_tokens)
        ends = -len(self.tokenizer.suffix) or None
        rows = [ids[:ends] for ids, _ in self.tokenizer.encode(listed(prompts))]
        longest = max(map(len, rows), default=0)
        if longest + max_new_tokens > self.encoder.max_length:
            raise UserError(
                f"a prompt of {longest} tokens and max_new_tokens {max_new_tokens} exceed the encoder's max_length of "
                f"{self.encoder.max_length}: shorten the prompt or ask for fewer"
            )
        return self._continue(rows, max_new_tokens, temperature, top_k, top_p, seeded(seed, self.device))

    @torch.no_grad()
    def draw(
        self,
        number: int,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """Documents from the beginning, each drawn token by token after the start token alone.

        Args:
            number: how many, 0 or more.
            max_new_tokens: the longest document, at most what the encoder's `max_length` leaves room for.
            temperature, top_k, top_p, seed: as for `generate`.
        """
        check_sampling(temperature, top_k, top_p, max_new_tokens, number)
        check_prefix(self.tokenizer)
        generator = seeded(seed, self.device)
        prefix = self.tokenizer.prefix
        steps = min(max_new_tokens, self.encoder.max_length - len(prefix))
        texts: list[str] = []
        for start in range(0, number, BATCH):
            rows = [prefix] * min(BATCH, number - start)
            texts += self._continue(rows, steps, temperature, top_k, top_p, generator)
        return texts

    def _continue(
        self,
        rows: list[list[int]],
        steps: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        generator: torch.Generator,
    ) -> list[str]:
        """The continuations of rows of tokens, in evaluation mode; the mode is restored after."""
        if not rows:
            return []
        with self.evaluating():
            begun = Continuation(self.encoder, self.head, self.tokenizer, rows, steps)
            new = continue_rows(begun, steps, temperature, top_k, top_p, generator)
        return texts_of(self.tokenizer, new)
