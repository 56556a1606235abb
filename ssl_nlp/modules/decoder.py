"""A decoder that writes a sentence from one vector."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.encoders import Encoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.modules.generation import Continuation, continue_rows
from ssl_nlp.modules.heads import LanguageModelHead

HEAD_DIM = 64
"""Width of an attention head, where that divides the decoder's."""
LONGEST = 8192
"""Tokens of the longest sentence that is written, where the encoder knows no limit."""


def attention_heads(width: int) -> int:
    """The number of heads of a decoder: of width `HEAD_DIM` or a little more, of an even width in any case."""
    return next((heads for heads in range(width // HEAD_DIM, 1, -1) if width % (2 * heads) == 0), 1)


def check_prefix(tokenizer: Tokenizer) -> None:
    """Check that a decoder has a token to begin with.

    Raises:
        UserError: the tokenizer puts nothing in front of a text.
    """
    if not tokenizer.prefix:
        raise UserError(
            "a decoder needs a token in front of the text, and this tokenizer puts none there: use another one"
        )


class Decoder(nn.Module):
    """p(sentence | vector): an autoregressive Transformer that sees the preceding tokens and the vector, and nothing else.

    The vector, mapped to the width of the token embeddings, is added to each of them, so that every position has it.

    Args:
        vector_dim: width Z of the vectors.
        layers: number of layers.
        encoder: gives the width E, that of its token embeddings, and the longest sentence.
        tokenizer: frames the sentences. The decoder begins with the prefix and ends with the end token.
        tied: share the encoder's token embedding.
        scale: standard deviation of what a vector with components of about 1 adds at first; that of token embeddings is
            0.02.

    Raises:
        UserError: the tokenizer puts nothing in front of a sentence.
    """

    def __init__(
        self, vector_dim: int, layers: int, encoder: Encoder, tokenizer: Tokenizer, tied: bool, scale: float
    ) -> None:
        super().__init__()
        check_prefix(tokenizer)
        self.tokenizer = tokenizer
        self.scale = scale
        width = encoder.embedding.embedding_dim
        self.transformer = Transformer(
            size=None,
            dim=width,
            layers=layers,
            heads=attention_heads(width),
            max_length=min(encoder.max_length, LONGEST),
        )
        self.transformer.build(tokenizer.vocab_size, tokenizer.pad_id, causal=True)
        if tied:
            self.transformer.embeddings.tok_embeddings = encoder.embedding
        self.condition = nn.Linear(vector_dim, width, bias=False)
        nn.init.normal_(self.condition.weight, std=vector_dim**-0.5)
        self.head = LanguageModelHead(width, self.transformer.embedding)

    def forward(self, vectors: Tensor, batch: TokenBatch) -> Tensor:
        """(B, T, E): the states that predict what follows each token of `batch`, given vectors (B, Z)."""
        # The batch may say otherwise, for the encoder.
        return self.transformer(replace(batch, causal=True), added=self.added(vectors))

    def added(self, vectors: Tensor) -> Tensor:
        """(B, 1, E): the addition to every token embedding, given vectors (B, Z)."""
        # The scale is not part of the weight because the steps of an optimizer do not shrink with a weight: a few of
        # Muon's would make the vector far larger than any token.
        return self.scale * self.condition(vectors.to(self.condition.weight.dtype)).unsqueeze(1)

    def loss(self, vectors: Tensor, batch: TokenBatch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(sentence | vector), summed over all tokens of all sentences, and the number of tokens, ends included.

        Args:
            vectors: (B, Z).
            batch: (B, T), one sentence a row, perhaps distorted.
            targets: (B, T), the `next_ids` of the sentences.
        """
        return self.head.loss(self(vectors, batch).flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def sentence_losses(self, vectors: Tensor, batch: TokenBatch, targets: Tensor) -> Tensor:
        """(B,): -log p(sentence | vector) in nats, with the arguments of `loss`."""
        return self.head.losses(self(vectors, batch).flatten(0, 1), targets.flatten()).view_as(targets).sum(dim=1)

    def write(
        self,
        vectors: Tensor,
        steps: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(B, steps or fewer): token ids for each vector (B, Z); the ids after an end token are meaningless.

        Greedy by default; the other arguments are those of `sample`.
        """
        if not len(vectors):
            return torch.empty(0, 0, dtype=torch.int64, device=vectors.device)
        prefixes = [self.tokenizer.prefix] * len(vectors)
        rows = Continuation(self.transformer, self.head, self.tokenizer, prefixes, steps, self.added(vectors))
        return continue_rows(rows, steps, temperature, top_k, top_p, generator)
