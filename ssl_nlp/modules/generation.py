"""Generation of text, token by token, for causal language models and decoders."""

from collections.abc import Collection
from typing import Protocol

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.encoders import Encoder
from ssl_nlp.encoders.layers import Source
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.modules.sampling import Choose, most_probable


class Continuable(Protocol):
    """Rows of tokens, to each of which a model appends one token at a time."""

    tokenizer: Tokenizer

    def logits(self) -> Tensor:
        """(B, V) float32, for the next token of each row."""

    def append(self, ids: Tensor) -> None:
        """Append a token to each row, given ids (B,)."""


class Continuation:
    """Rows of tokens that a causal model continues, one token at a time.

    Args:
        encoder: causal, in evaluation mode.
        head: on top of it.
        tokenizer: theirs.
        rows: B lists of at least one token id; B is not 0.
        steps: the most tokens that are appended to a row.
        added: (B, 1, E), added to every token embedding by the encoder.
        source: what the encoder reads of B source texts, where it is a decoder.
        special: ids of special tokens that may be written, beside the end.
        begin: (layers, 1 or 2, B, D), the states with which a recurrent encoder begins; None: 0.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: LanguageModelHead,
        tokenizer: Tokenizer,
        rows: list[list[int]],
        steps: int,
        added: Tensor | None = None,
        source: Source | None = None,
        special: Collection[int] = (),
        begin: Tensor | None = None,
    ) -> None:
        self.encoder, self.head, self.tokenizer, self.added, self.source = encoder, head, tokenizer, added, source
        self.device = device = encoder.embedding.weight.device
        longest = max(map(len, rows))
        padding = [longest - len(row) for row in rows]  # on the left, so that all rows continue at the same column
        ids = torch.tensor([[tokenizer.pad_id] * p + row for p, row in zip(padding, rows, strict=True)], device=device)
        segments = torch.tensor([[0] * p + [1] * (longest - p) for p in padding], device=device)
        self._unread = TokenBatch(ids, segments, packed=any(padding), padded=any(padding), causal=True)
        self._cache = encoder.new_cache(len(rows), longest + steps - 1)  # the last token is never read
        if begin is not None:
            self._cache.states.copy_(begin)
        never = {*tokenizer.special_ids} - {tokenizer.end_id, *special}
        self._never = torch.tensor(sorted(never), device=device).long()

    def logits(self) -> Tensor:
        """(B, V) float32, for the next token of each row: -inf for special tokens that may not be written."""
        sources = {} if self.source is None else {"source": self.source}
        hidden = self.encoder(self._unread, self._cache, self.added, **sources)
        logits = self.head(hidden[:, -1])[:, : self.tokenizer.vocab_size].float()  # an embedding may have spare rows
        logits[:, self._never] = -torch.inf
        return logits

    def append(self, ids: Tensor) -> None:
        """Append a token to each row, given ids (B,)."""
        ids = ids.unsqueeze(1)
        self._unread = TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False, causal=True)

    def select(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """Keep these rows (N,) in this order, after `logits` and before `append`; a row may be kept several times.

        Args:
            rows: numbers of rows. All rows of a source stand one after the other, and all sources have as many rows.
            sources: numbers of the sources that are kept; None: all of them.
        """
        self._cache.select(rows)
        if self.added is not None:
            self.added = self.added[rows]
        if self.source is not None and sources is not None:
            self.source = self.source.select(sources)


@torch.no_grad()
def continue_rows(rows: Continuable, steps: int, choose: Choose = most_probable) -> Tensor:
    """Continue each row, token by token.

    Args:
        rows: B of them.
        steps: the longest continuation, at most the `steps` of a `Continuation`.
        choose: chooses the next tokens, such as a `Sampling`.

    Returns:
        (B, steps or fewer) new token ids; the ids after a row's end token are meaningless.
    """
    new: list[Tensor] = []
    finished: bool | Tensor = False
    for _ in range(steps):
        ids = choose(rows.logits())
        new.append(ids)
        finished = (ids == rows.tokenizer.end_id) | finished
        if finished.all():
            break
        rows.append(ids)
    return torch.stack(new, dim=1)


def texts_of(tokenizer: Tokenizer, new: Tensor) -> list[str]:
    """The texts of continuations (B, steps), each up to its end token."""
    end = tokenizer.end_id
    return [tokenizer.decode(row[: row.index(end)] if end in row else row) for row in new.tolist()]
