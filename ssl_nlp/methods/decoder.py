"""What `Autoencoder` and `VAE` share: a decoder that writes a sentence from one vector, and what is asked of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.encoders import Encoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.head import LanguageModelHead
from ssl_nlp.methods.optimization import Optimization
from ssl_nlp.methods.sampling import continue_rows, texts_of
from ssl_nlp.objectives.cross_entropy import IGNORE_INDEX

HEAD_DIM = 64
"""Width of an attention head, where that divides the decoder's."""
LONGEST = 8192
"""Tokens of the longest sentence that is written, where the encoder knows no limit."""
EXAMINED = 8
"""Sentences of a validation batch on which costly metrics are taken."""
BATCH = 64
"""Sentences that are written at a time."""


class Decoder(nn.Module):
    """p(sentence | vector): an autoregressive Transformer that sees the tokens before and the vector, and nothing else.

    The vector, mapped to the width of the token embeddings, is added to each of them: no position has to fetch it from
    another one.

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
        if not tokenizer.prefix:
            raise UserError("this tokenizer puts no token in front of a sentence, and a decoder has to begin with one")
        self.tokenizer = tokenizer
        self.scale = scale
        width = encoder.embedding.embedding_dim
        heads = next((heads for heads in range(width // HEAD_DIM, 1, -1) if width % (2 * heads) == 0), 1)
        self.transformer = Transformer(
            size=None, dim=width, layers=layers, heads=heads, max_length=min(encoder.max_length, LONGEST)
        )
        self.transformer.build(tokenizer.vocab_size, tokenizer.pad_id, causal=True)
        if tied:
            self.transformer.embeddings.tok_embeddings = encoder.embedding
        self.condition = nn.Linear(vector_dim, width, bias=False)
        nn.init.normal_(self.condition.weight, std=vector_dim**-0.5)
        self.head = LanguageModelHead(width, self.transformer.embedding)

    def forward(self, vectors: Tensor, batch: TokenBatch) -> Tensor:
        """(B, T, E): the states that predict what follows each token of `batch`, given vectors (B, Z)."""
        # Whether the encoder may look ahead does not matter here.
        return self.transformer(replace(batch, causal=True), added=self.added(vectors))

    def added(self, vectors: Tensor) -> Tensor:
        """(B, 1, E): what joins every token embedding, given vectors (B, Z)."""
        # The scale stands beside the weight, not in it: the steps of an optimizer do not shrink with a weight, and a few
        # of Muon's would make the vector far larger than any token.
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
        """(B, steps or fewer): token ids for each vector (B, Z), what follows an end token being meaningless.

        By default each token is the likeliest; the other arguments are those of `sample`.
        """
        rows, added = [self.tokenizer.prefix] * len(vectors), self.added(vectors)
        return continue_rows(
            self.transformer, self.head, self.tokenizer, rows, steps, temperature, top_k, top_p, generator, added
        )


class SentenceDecoding(Method):
    """A method with a vector for each sentence, which is its embedding, and a `Decoder` that writes the sentence from it.

    A subclass writes `embed_batch` and `loss`, and sets `vector_scale`, the `scale` of its decoder.

    Args:
        encoder: bidirectional.
        latent_dim: width Z of the vector; None: that of the encoder's states.
        decoder_layers: number of layers of the decoder.
        tied_embeddings: let encoder and decoder share their token embeddings.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    units = ("sentence",)
    vector_scale: ClassVar[float]

    def __init__(
        self,
        encoder: Encoder | None,
        latent_dim: int | None,
        decoder_layers: int,
        tied_embeddings: bool,
        optimization: Optimization | None,
        compile: bool,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        for name, value in {"latent_dim": latent_dim, "decoder_layers": decoder_layers}.items():
            if value is not None and value < 1:
                raise UserError(f"{name} {value} is not positive: take 1 or more")
        self.latent_dim = latent_dim
        self.decoder_layers = decoder_layers
        self.tied_embeddings = tied_embeddings

    def build(self) -> None:
        self.decoder = Decoder(
            self.embedding_dim,
            self.decoder_layers,
            self.encoder,
            self.tokenizer,
            self.tied_embeddings,
            self.vector_scale,
        )

    @property
    def embedding_dim(self) -> int:
        return self.encoder.dim if self.latent_dim is None else self.latent_dim

    def targets(self, batch: TokenBatch) -> Tensor:
        """(B, T): the tokens of each sentence after its first one, and its end; none for what was cut off and not seen."""
        if batch.next_ids is None:
            raise UserError(f"{type(self).__name__} needs the next tokens of a batch: views that change it have none")
        last = batch.is_text & ~F.pad(batch.is_text[:, 1:], (0, 1))
        cut = last & (batch.next_ids != self.tokenizer.end_id)
        return batch.next_ids.masked_fill(cut, IGNORE_INDEX)

    def accuracies(self, vectors: Tensor, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """How well sentences (B, T) are written from their vectors (B, Z), always with the likeliest token.

        Returns:
            Sums and counts: `token_accuracy`, the share of tokens, ends included, that stand at their place, and
            `exact_match`, the share of sentences that are right from the beginning to the end.
        """
        targets = self.targets(batch)[:, len(self.tokenizer.prefix) - 1 :]
        written = self.decoder.write(vectors, targets.shape[1])
        is_end = written == self.tokenizer.end_id
        written = written.masked_fill(is_end.cumsum(dim=1) > is_end.long(), -1)  # what follows an end
        written = F.pad(written, (0, targets.shape[1] - written.shape[1]), value=-1)
        asked = targets != IGNORE_INDEX
        right = (written == targets) & asked
        return {
            "token_accuracy": (right.sum(), asked.sum()),
            "exact_match": ((right == asked).all(dim=1).sum(), torch.tensor(len(batch), device=batch.input_ids.device)),
        }

    def reconstruct(self, texts: Sequence[str]) -> list[str]:
        """Each sentence as the decoder writes it from its embedding, the likeliest token each time.

        None becomes longer than the longest of the texts.
        """
        texts = list(texts)
        longest = max((len(ids) for ids, _ in self.tokenizer.encode(texts)), default=0)
        return self.decode(self.embed(texts), longest)

    @torch.no_grad()
    def decode(
        self,
        vectors: Tensor,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> list[str]:
        """A sentence for each vector (N, Z), of at most `max_new_tokens` and of what the decoder's `max_length` allows.

        The other arguments are those of `Decoder.write`.
        """
        training = self.training
        self.eval()
        steps = min(max_new_tokens, self.decoder.transformer.max_length + 1 - len(self.tokenizer.prefix))
        texts: list[str] = []
        for some in vectors.to(self.device).split(BATCH):
            new = self.decoder.write(some, steps, temperature, top_k, top_p, generator)
            texts += texts_of(self.tokenizer, new)
        self.train(training)
        return texts

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        sentences = [next(iter(split_sentences(text)), "") for text in texts]
        pairs = zip(sentences, self.reconstruct(sentences), strict=True)
        return [{"text": text, "reconstruction": reconstruction} for text, reconstruction in pairs]


def examined(size: int) -> Tensor:
    """Row numbers of at most `EXAMINED` of `size` rows, evenly spaced: rows of a batch are often sorted by length."""
    count = min(size, EXAMINED)
    return torch.arange(count) * size // count


def take_rows(batch: TokenBatch, rows: Tensor) -> TokenBatch:
    """Some rows of a batch of sentences, with what a decoder reads."""
    following = None if batch.next_ids is None else batch.next_ids[rows]
    return TokenBatch(batch.input_ids[rows], batch.segment_ids[rows], following, packed=False, padded=batch.padded)
