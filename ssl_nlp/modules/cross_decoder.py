"""A decoder that writes a text while it attends to the states of another one: the second half of an encoder-decoder."""

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.encoders import Encoder, Transformer
from ssl_nlp.encoders.base import DecoderStart
from ssl_nlp.errors import UserError
from ssl_nlp.modules.decoder import LONGEST, attention_heads
from ssl_nlp.modules.generation import Continuation
from ssl_nlp.modules.heads import LanguageModelHead


def beginning(tokenizer: Tokenizer) -> list[int]:
    """The tokens that a decoder begins with: those in front of a text or, if there are none, padding, as in T5."""
    return tokenizer.prefix or [tokenizer.pad_id]


def begun(target: TokenBatch, tokenizer: Tokenizer) -> TokenBatch:
    """Texts (B, T) with the `beginning` of a decoder, which predicts their first tokens, too.

    They have it already unless the tokenizer puts nothing in front of a text. Then the rows become longer by one position.
    """
    if tokenizer.prefix:
        return target
    assert target.next_ids is not None
    return replace(
        target,
        input_ids=F.pad(target.input_ids, (1, 0), value=tokenizer.pad_id),
        segment_ids=F.pad(target.segment_ids, (1, 0), value=1),
        next_ids=torch.cat([target.input_ids[:, :1], target.next_ids], dim=1),
        starts_word=None,
        n_tokens=target.n_tokens + len(target),
    )


def decoder_problems(layers: int, width: int | None, dropout: float) -> dict[str, bool]:
    """Complaints about a decoder's settings, and whether each applies, as `refuse` takes them."""
    return {
        f"decoder_layers must be 1 or more, not {layers}": layers < 1,
        f"decoder_width must be even and 2 or more, or null, not {width}": (
            width is not None and (width < 2 or width % 2 != 0)
        ),
        f"dropout of the decoder must be at least 0 and less than 1, not {dropout}": not 0 <= dropout < 1,
    }


class CrossDecoder(nn.Module):
    """p(target | source): an autoregressive Transformer that sees the preceding tokens and attends to the source's states.

    Its layers are those of `Transformer`, with rotary positions, and cross-attention between attention and feed-forward
    (arXiv:1706.03762, section 3.1).

    Args:
        layers: number of layers.
        encoder: of the source. It is built, so that its width D and its token embedding (V, E) are known. If it has a
            `decoder_start`, this decoder begins with it.
        tokenizer: frames both texts. The decoder begins with its `beginning`, and ends with the end token.
        width: of the decoder's states; None: E.
        dropout: as in `Transformer`.
        tied: share the encoder's token embedding. The output layer always shares the decoder's.

    Raises:
        UserError: an embedding of width E is to be shared by a decoder of another width; or the decoder that this one is to
            begin with is another one.
    """

    def __init__(
        self, layers: int, encoder: Encoder, tokenizer: Tokenizer, width: int | None, dropout: float, tied: bool
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.prefix = beginning(tokenizer)
        own = encoder.embedding.embedding_dim
        width = own if width is None else width
        if tied and width != own:
            raise UserError(
                f"a decoder of width {width} cannot share the encoder's token embedding of width {own}: leave the width "
                "out, or give the decoder an embedding of its own"
            )
        self.transformer = Transformer(
            size=None,
            dim=width,
            layers=layers,
            heads=attention_heads(width),
            max_length=min(encoder.max_length, LONGEST),
            dropout=dropout,
        )
        self.transformer.source_dim = encoder.dim
        self.transformer.build(tokenizer.vocab_size, tokenizer.pad_id, causal=True)
        if tied:
            self.transformer.embeddings.tok_embeddings = encoder.embedding
        self.head = LanguageModelHead(width, self.transformer.embedding)
        if encoder.decoder_start is not None:
            self._load(encoder.decoder_start, tied)
            encoder.decoder_start = None

    def _load(self, start: DecoderStart, tied: bool) -> None:
        """Begin with the weights of another decoder.

        Raises:
            UserError: its shape is another one, or its token embedding is not the encoder's, which this one shares.
        """
        own = self.state_dict()
        for name in [*own, *start.weights]:
            theirs, mine = (tuple(found[name].shape) if name in found else "none" for found in (start.weights, own))
            if theirs != mine:
                raise UserError(
                    f"the decoder of {start.where} has another shape ({name} is {theirs} there and {mine} here): give this "
                    "one the decoder_layers and decoder_width of that run"
                )
        name = "transformer.embeddings.tok_embeddings.weight"
        if tied and not torch.equal(start.weights[name].to(own[name]), own[name]):
            raise UserError(
                f"the decoder of {start.where} has a token embedding of its own, and this one shares the encoder's: set "
                "tied_embeddings to false"
            )
        self.load_state_dict(start.weights)

    def forward(self, states: Tensor, source: TokenBatch, target: TokenBatch) -> Tensor:
        """(B, T, E): the states that predict what follows each token of `target`.

        Args:
            states: (B, S, D), of the source.
            source: (B, S), one text a row, padded on the right.
            target: (B, T), the tokens that are predicted (teacher forcing), one text a row.
        """
        return self.transformer(replace(target, causal=True), source=self.transformer.read(states, source))

    def loss(
        self, states: Tensor, source: TokenBatch, target: TokenBatch, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """-log p(target | source), summed over all tokens and ends, and their number.

        Args:
            states, source, target: as in `forward`; the target with its `next_ids`.
            smoothing: this share of each target's probability is spread evenly over the vocabulary.
        """
        assert target.next_ids is not None
        return self.head.loss(self(states, source, target).flatten(0, 1), target.next_ids.flatten(), smoothing)

    @torch.no_grad()
    def losses(self, states: Tensor, source: TokenBatch, target: TokenBatch) -> Tensor:
        """(B, T): -log p of each token of the targets in nats, 0 where there is none. Arguments as in `loss`."""
        assert target.next_ids is not None
        nats = self.head.losses(self(states, source, target).flatten(0, 1), target.next_ids.flatten())
        return nats.view_as(target.next_ids)

    @property
    def longest(self) -> int:
        """The most tokens that it can write, the end token not counted."""
        return self.transformer.max_length - len(self.prefix)

    @torch.no_grad()
    def begin(self, states: Tensor, source: TokenBatch, steps: int, special: Collection[int] = ()) -> Continuation:
        """The beginning of a text for each source, for `continue_rows` or `BeamSearch` to continue.

        Args:
            states, source: as in `forward`.
            steps: the most tokens that are appended, the end included; at most `longest` + 1.
            special: ids of special tokens that may be written.
        """
        read = self.transformer.read(states, source)
        prefixes = [self.prefix] * len(source)
        return Continuation(self.transformer, self.head, self.tokenizer, prefixes, steps, source=read, special=special)
