"""The common part of `SpanCorruption` and `TextInfilling`, which restore a corrupted text with an encoder and a decoder."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.filling import with_gap
from ssl_nlp.modules import BeamSearch, CrossDecoder
from ssl_nlp.modules.cross_decoder import decoder_problems
from ssl_nlp.objectives.infilling import Frame, Noise
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term
from ssl_nlp.training.texts import listed

BATCH = 64
"""Texts that are filled at a time."""


class Denoising(Method):
    """A method whose encoder reads a text with missing spans, and whose decoder writes what it was.

    A subclass sets `validation`, explains the arguments, and writes `corrupt`, `marked` and `filled`.

    Attributes:
        validation: the noise of a validation, the same for all runs, so that they are comparable.
    """

    units = ("sentence",)
    validation: ClassVar[Noise]

    def __init__(
        self,
        encoder: Encoder | None,
        masking_rate: float,
        mean_span: float,
        decoder_layers: int,
        decoder_width: int | None,
        dropout: float,
        tied_embeddings: bool,
        search: BeamSearch | None,
        optimization: Optimization | None,
        compile: bool,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        problems = {
            f"masking_rate must be between 0 and 1, not {masking_rate}": not 0 < masking_rate < 1,
            f"mean_span must be 1 or more, not {mean_span}": not 1 <= mean_span < float("inf"),
            **decoder_problems(decoder_layers, decoder_width, dropout),
        }
        refuse(problems)
        self.noise = Noise(masking_rate, mean_span)
        self.decoder_layers, self.decoder_width, self.dropout = decoder_layers, decoder_width, dropout
        self.tied_embeddings, self.search = tied_embeddings, search or BeamSearch()

    def build(self) -> None:
        self.decoder = CrossDecoder(
            self.decoder_layers, self.encoder, self.tokenizer, self.decoder_width, self.dropout, self.tied_embeddings
        )

    # ------------------------------------------------------------------------------------------- what a subclass writes

    @abstractmethod
    def corrupt(self, batch: TokenBatch, noise: Noise) -> tuple[TokenBatch, TokenBatch]:
        """The texts (B, T) as the encoder reads them, and the texts that the decoder writes, with their `next_ids`."""

    @abstractmethod
    def marked(self, text: str) -> list[int]:
        """The tokens that the encoder reads of a text with `[MASK]` in it."""

    @abstractmethod
    def filled(self, source: Sequence[int], written: Sequence[int]) -> str:
        """The text whose missing spans the decoder has written.

        Args:
            source: tokens that the encoder has read.
            written: tokens of the decoder, without its end.
        """

    @property
    def special_written(self) -> Sequence[int]:
        """Ids of the special tokens that targets contain, beside the end."""
        return ()

    def longest(self, source_tokens: int) -> int:
        """The most tokens that are written for a source of so many."""
        return self.search.longest(source_tokens)

    # ------------------------------------------------------------------------------------------------------------- loss

    @property
    def frame(self) -> Frame:
        """The tokens around a text."""
        tokenizer = self.tokenizer
        return Frame(tokenizer.prefix, tokenizer.suffix, self.decoder.prefix, tokenizer.end_id, tokenizer.pad_id)

    def loss(self, batch: TokenBatch) -> Loss:
        source, target = self._corrupted(batch)
        return Loss({"target_token": Term(*self.decoder.loss(self.encoder(source), source, target))})

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        following = self._corrupted(batch)[1].next_ids
        assert following is not None
        return {"target_token": (following != IGNORE_INDEX).sum()}

    def _corrupted(self, batch: TokenBatch) -> tuple[TokenBatch, TokenBatch]:
        return self.corrupt(batch, self.noise if self.training else self.validation)

    # ---------------------------------------------------------------------------------------------------------- filling

    @torch.no_grad()
    def infill(self, texts: Iterable[str], batch_size: int = BATCH) -> list[str]:
        """Each text with a span of any length in place of each `[MASK]`: the most probable ones that `search` finds.

        Raises:
            UserError: a text has no mask, more of them than the method can tell apart, or is too long for the encoder.
        """
        rows = [self.marked(text) for text in listed(texts, batch_size)]
        for row in rows:
            if len(row) > self.encoder.max_length:
                raise UserError(
                    f"a text of {len(row)} tokens exceeds the encoder's max_length of {self.encoder.max_length}: shorten it"
                )
        filled = []
        with self.evaluating():
            for start in range(0, len(rows), batch_size):
                some = rows[start : start + batch_size]
                batch = pad_rows(some, None, self.tokenizer, self.encoder.max_length).to(self.device)
                longest = [min(self.longest(len(row)), self.decoder.longest) for row in some]
                begun = self.decoder.begin(self.encoder(batch), batch, max(longest) + 1, self.special_written)
                found = self.search.search(begun, longest)
                filled += [self.filled(row, written) for row, written in zip(some, found, strict=True)]
        return filled

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        gaps = [with_gap(text, 3, self.tokenizer, self.encoder.max_length) for text in texts]
        filled = self.infill([text for text, _ in gaps])
        return [
            {"text": text, "hidden": hidden, "filled": written}
            for (text, hidden), written in zip(gaps, filled, strict=True)
        ]
