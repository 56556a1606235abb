"""Language models that write a text from left to right, token by token, and so continue texts and draw new ones."""

from collections.abc import Sequence
from typing import Unpack

import torch

from ssl_nlp.data.store import TextStatistics
from ssl_nlp.data.words import first_words
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.modules.generation import Continuable, continue_rows, texts_of
from ssl_nlp.modules.sampling import Sampling, SamplingOptions, check_amount
from ssl_nlp.training.texts import listed

BATCH = 64
"""Texts that are drawn at a time."""


class LeftToRight(Method):
    """A method with p(next token | tokens before it), from a text's start token on to its end.

    A subclass writes `loss`, with a term `next_token`, `score`, and `begin`.
    """

    causal = True
    units = Method.all_units
    language_term = "next_token"
    likelihood = "likelihood"

    def begin(self, rows: list[list[int]], steps: int) -> Continuable:
        """The beginnings of texts, rows of tokens, to be continued by at most `steps` tokens each."""
        raise NotImplementedError

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int = 64, **options: Unpack[SamplingOptions]
    ) -> list[str]:
        """Continue each prompt; the results do not repeat the prompts.

        Args:
            prompts: texts, also empty ones. All are continued in one batch.
            max_new_tokens: the longest continuation; a document that ends sooner is shorter.
            options: `temperature`, `top_k`, `top_p` and `seed`, as in `SamplingOptions`.

        Raises:
            UserError: an argument is out of its range, `prompts` is a single text or holds anything but texts, or a prompt
                leaves no room for `max_new_tokens`, or has no tokens and the method cannot begin without one.
        """
        check_amount(max_new_tokens)
        sampling = Sampling(self.device, **options)
        suffix = len(self.tokenizer.suffix)
        rows = [ids[: len(ids) - suffix] for ids, _ in self.tokenizer.encode(listed(prompts))]
        longest = max(map(len, rows), default=0)
        if longest + max_new_tokens > self.encoder.max_length:
            raise UserError(
                f"a prompt of {longest} tokens and max_new_tokens {max_new_tokens} exceed the encoder's max_length of "
                f"{self.encoder.max_length}: shorten the prompt or ask for fewer"
            )
        return self._continue(rows, max_new_tokens, sampling)

    def draw(self, number: int, max_new_tokens: int = 64, **options: Unpack[SamplingOptions]) -> list[str]:
        """Documents from the beginning, each drawn token by token after the start token alone.

        Args:
            number: how many, 0 or more.
            max_new_tokens: the longest document, at most what the encoder's `max_length` leaves room for.
            options: as for `generate`.

        Raises:
            UserError: an argument is out of its range, the encoder has no room for a text, or the method needs a token in
                front of a text and there is none.
        """
        check_amount(max_new_tokens, number)
        sampling = Sampling(self.device, **options)
        prefix = self.tokenizer.prefix
        steps = min(max_new_tokens, self.encoder.max_length - len(prefix))
        if steps < 1:
            raise UserError(f"the encoder's max_length of {self.encoder.max_length} leaves no room for text: raise it")
        texts: list[str] = []
        for start in range(0, number, BATCH):
            texts += self._continue([prefix] * min(BATCH, number - start), steps, sampling)
        return texts

    @torch.no_grad()
    def _continue(self, rows: list[list[int]], steps: int, sampling: Sampling) -> list[str]:
        """The continuations of rows of tokens, in evaluation mode; the mode is restored after."""
        if not rows:
            return []
        with self.evaluating():
            new = continue_rows(self.begin(rows, steps), steps, sampling)
        return texts_of(self.tokenizer, new)

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        room = self.encoder.max_length // 2  # a byte is at most a token
        prompts = [first_words(text, 8, room).encode()[: room - 1].decode(errors="ignore") for text in texts]
        continuations = self.generate(prompts, max_new_tokens=min(32, room), temperature=0.8, top_p=0.95, seed=0)
        return [{"prompt": p, "continuation": c} for p, c in zip(prompts, continuations, strict=True)]

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        return (statistics.tokens + statistics.documents) / statistics.bytes  # each document's end is predicted too
