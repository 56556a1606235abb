"""A decoder that writes a sentence from one vector."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.encoders import Encoder, Recurrent, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.modules.generation import Continuation, continue_rows
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.modules.sampling import Choose, most_probable

DecoderKind = Literal["transformer", "rnn", "lstm", "gru"]
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
    """p(sentence | vector): an autoregressive network that sees the preceding tokens and the vector, and nothing else.

    The vector, mapped to the width of the token embeddings, is added to each of them, so that every position has it. A
    recurrent network also begins with it (Bowman et al., arXiv:1511.06349, section 3): as in the code of He et al.
    (arXiv:1901.05534), the cells of an LSTM begin with a linear map of the vector, and all states with the tanh of one.

    Args:
        kind: of the network: a Transformer, or one of the networks of `Recurrent`.
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
        self,
        kind: DecoderKind,
        vector_dim: int,
        layers: int,
        encoder: Encoder,
        tokenizer: Tokenizer,
        tied: bool,
        scale: float,
    ) -> None:
        super().__init__()
        check_prefix(tokenizer)
        self.kind = kind
        self.tokenizer = tokenizer
        self.scale = scale
        width = encoder.embedding.embedding_dim
        longest = min(encoder.max_length, LONGEST)
        if kind == "transformer":
            heads = attention_heads(width)
            self.transformer = Transformer(size=None, dim=width, layers=layers, heads=heads, max_length=longest)
        else:
            self.recurrent = Recurrent(kind, dim=width, layers=layers, max_length=longest)
        self.network.build(tokenizer.vocab_size, tokenizer.pad_id, causal=True)
        if tied:
            self.network.embeddings.tok_embeddings = encoder.embedding
        self.condition = nn.Linear(vector_dim, width, bias=False)
        nn.init.normal_(self.condition.weight, std=vector_dim**-0.5)
        if kind != "transformer":
            self.first = nn.Linear(vector_dim, layers * width, bias=False)
            nn.init.normal_(self.first.weight, std=vector_dim**-0.5)
        self.head = LanguageModelHead(width, self.network.embedding)

    @property
    def network(self) -> Transformer | Recurrent:
        """The network. Its weights are called `transformer` or `recurrent` in checkpoints."""
        return self.transformer if self.kind == "transformer" else self.recurrent

    def forward(self, vectors: Tensor, batch: TokenBatch) -> Tensor:
        """(B, T, E): the states that predict what follows each token of `batch`, given vectors (B, Z)."""
        batch = replace(batch, causal=True)  # which may say otherwise, for the encoder
        begin = self.begin(vectors)
        given = {} if begin is None else {"begin": begin}
        return self.network(batch, added=self.added(vectors), **given)

    def added(self, vectors: Tensor) -> Tensor:
        """(B, 1, E): the addition to every token embedding, given vectors (B, Z)."""
        # The scale is not part of the weight because the steps of an optimizer do not shrink with a weight: a few of
        # Muon's would make the vector far larger than any token.
        return self.scale * self.condition(vectors.to(self.condition.weight.dtype)).unsqueeze(1)

    def begin(self, vectors: Tensor) -> Tensor | None:
        """(layers, 1 or 2, B, E): what a recurrent network begins with, given vectors (B, Z); None for a Transformer."""
        if not isinstance(self.network, Recurrent):
            return None
        cells = self.first(vectors.to(self.first.weight.dtype)).unflatten(1, (self.network.depth, -1)).transpose(0, 1)
        return torch.stack([cells.tanh(), cells] if self.network.kind == "lstm" else [cells.tanh()], dim=1)

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

    def write(self, vectors: Tensor, steps: int, choose: Choose = most_probable) -> Tensor:
        """(B, steps or fewer): token ids for each vector (B, Z); the ids after an end token are meaningless."""
        if not len(vectors):
            return torch.empty(0, 0, dtype=torch.int64, device=vectors.device)
        prefixes = [self.tokenizer.prefix] * len(vectors)
        added, begin = self.added(vectors), self.begin(vectors)
        rows = Continuation(self.network, self.head, self.tokenizer, prefixes, steps, added, begin=begin)
        return continue_rows(rows, steps, choose)
