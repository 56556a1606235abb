"""Methods that write a sentence from its embedding, and some of them sentences from vectors that they draw."""

from collections.abc import Sequence
from typing import ClassVar, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.modules.decoder import Decoder, DecoderKind
from ssl_nlp.modules.generation import texts_of
from ssl_nlp.modules.sampling import Choose, Sampling, SamplingOptions, check_amount, most_probable
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.texts import listed

EXAMINED = 8
"""Sentences of a validation batch on which costly metrics are taken."""
BATCH = 64
"""Sentences that are written at a time."""


class SentenceDecoding(Method):
    """A method with a vector for each sentence, which is its embedding, and a `Decoder` that writes the sentence from it.

    A subclass writes `embed_batch` and `loss`, and sets `vector_scale`, the `scale` of its decoder.

    Args:
        encoder: bidirectional.
        latent_dim: width Z of the vector; None: that of the encoder's states.
        decoder_layers: number of layers of the decoder.
        decoder_kind: of network.
        tied_embeddings: let encoder and decoder share their token embeddings.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: an argument is invalid; or, in `connect`, the tokenizer puts nothing in front of a sentence.
    """

    units = ("sentence",)
    vector_scale: ClassVar[float]

    def __init__(
        self,
        encoder: Encoder | None,
        latent_dim: int | None,
        decoder_layers: int,
        decoder_kind: DecoderKind,
        tied_embeddings: bool,
        optimization: Optimization | None,
        compile: bool,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        for name, value in {"latent_dim": latent_dim, "decoder_layers": decoder_layers}.items():
            if value is not None and value < 1:
                raise UserError(f"{name} must be 1 or more, not {value}")
        if decoder_kind not in (kinds := get_args(DecoderKind)):
            raise UserError(f"decoder_kind {decoder_kind!r} is unknown: use {', '.join(kinds)}")
        self.latent_dim = latent_dim
        self.decoder_layers = decoder_layers
        self.decoder_kind = decoder_kind
        self.tied_embeddings = tied_embeddings

    def build(self) -> None:
        self.decoder = Decoder(
            self.decoder_kind,
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
        """(B, T): the tokens of each sentence after its first one, and its end token unless the text was cut."""
        following = batch.following(type(self).__name__)
        last = batch.is_text & ~F.pad(batch.is_text[:, 1:], (0, 1))
        return following.masked_fill(last & (following != self.tokenizer.end_id), IGNORE_INDEX)

    def accuracies(self, vectors: Tensor, batch: TokenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Accuracy of sentences (B, T) decoded greedily from their vectors (B, Z).

        Returns:
            Sums and counts: `token_accuracy`, the share of tokens, ends included, that are right, and `exact_match`,
            the share of sentences that are right from beginning to end.
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
        """Each sentence as the decoder writes it from its embedding, greedily.

        No sentence becomes longer than the longest of the texts.

        Raises:
            UserError: `texts` is a single text or holds anything but texts.
        """
        texts = listed(texts)
        longest = max((len(ids) for ids, _ in self.tokenizer.encode(texts)), default=0)
        return self.decode(self.embed(texts), longest)

    @torch.no_grad()
    def decode(self, vectors: Tensor, max_new_tokens: int, choose: Choose = most_probable) -> list[str]:
        """A sentence for each vector (N, Z), of at most `max_new_tokens` and of what the decoder's `max_length` allows."""
        steps = min(max_new_tokens, self.decoder.network.max_length + 1 - len(self.tokenizer.prefix))
        texts: list[str] = []
        with self.evaluating():
            for some in vectors.to(self.device).split(BATCH):
                texts += texts_of(self.tokenizer, self.decoder.write(some, steps, choose))
        return texts

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        sentences = [next(iter(split_sentences(text)), "") for text in texts]
        pairs = zip(sentences, self.reconstruct(sentences), strict=True)
        return [{"text": text, "reconstruction": reconstruction} for text, reconstruction in pairs]


class SentenceDrawing(SentenceDecoding):
    """A method that also draws vectors from a prior of its own, and so sentences. A subclass writes `from_prior`."""

    def from_prior(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        """(N, Z): vectors that are drawn from the prior; without a generator, by torch's default one."""
        raise NotImplementedError

    def between(self, first: Tensor, last: Tensor, share: Tensor) -> Tensor:
        """(N, Z): points on the way from one vector (1, Z) to another (1, Z), at shares (N, 1) of it: a straight line."""
        return torch.lerp(first, last, share)

    @torch.no_grad()
    def draw(self, number: int, max_new_tokens: int = 64, **options: Unpack[SamplingOptions]) -> list[str]:
        """Sentences from the prior: draw a vector v for each, then token by token from p(x | v).

        Args:
            number: how many, 0 or more.
            max_new_tokens: the longest sentence, at most the decoder's `max_length`.
            options: `temperature`, `top_k`, `top_p` and `seed`, as in `SamplingOptions`.

        Raises:
            UserError: an argument is out of its range.
        """
        check_amount(max_new_tokens, number)
        sampling = Sampling(self.device, **options)
        with self.evaluating():
            vectors = self.from_prior(number, sampling.generator)
        return self.decode(vectors, max_new_tokens, sampling)

    @torch.no_grad()
    def interpolate(self, first: str, second: str, steps: int = 7) -> list[str]:
        """Write sentences greedily on the way between the embeddings of two sentences (arXiv:1511.06349, section 4.3).

        Args:
            first: where the way begins.
            second: where it ends.
            steps: number of sentences, those of the two ends included.

        Raises:
            UserError: `steps` is below 2.
        """
        if steps < 2:
            raise UserError(f"interpolate: steps must be 2 or more, not {steps}")
        ends = self.embed([first, second])
        longest = max(len(ids) for ids, _ in self.tokenizer.encode([first, second]))
        return self.decode(self.between(ends[:1], ends[1:], torch.linspace(0, 1, steps)[:, None]), longest)

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        drawn = self.draw(len(texts), seed=0)
        return [row | {"from_prior": text} for row, text in zip(super().samples(texts), drawn, strict=True)]


def examined(size: int) -> Tensor:
    """Row numbers of at most `EXAMINED` of `size` rows, evenly spaced: rows of a batch are often sorted by length."""
    count = min(size, EXAMINED)
    return torch.arange(count) * size // count


def take_rows(batch: TokenBatch, rows: Tensor) -> TokenBatch:
    """Some rows of a batch of sentences, with what a decoder reads."""
    following = None if batch.next_ids is None else batch.next_ids[rows]
    return TokenBatch(batch.input_ids[rows], batch.segment_ids[rows], following, packed=False, padded=batch.padded)
