"""A module at work on texts, without a trainer: embeddings, and samples for people to read."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ssl_nlp.corpora import Document
from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.encoding import characters_within
from ssl_nlp.data.units import pad_rows, spread_texts
from ssl_nlp.encoders.no_encoder import NoEncoder
from ssl_nlp.encoders.sif import SIF
from ssl_nlp.errors import UserError
from ssl_nlp.modules.pooling import POOLINGS, Pooling, pool
from ssl_nlp.terminal import say
from ssl_nlp.training.module import Module
from ssl_nlp.training.token_vectors import begin_with_vectors

LONGEST_SAMPLE = 200  # characters of a text that `samples` gets
SIF_TEXTS, SIF_LENGTH = 10_000, 128  # texts of the train split, and their first tokens, from which `Encoder.sif` learns


class TextsCut(UserWarning):
    """Warns that texts were longer than the encoder's `max_length` and were cut."""


class TextModule(Module):
    """A module whose encoder embeds texts: what methods and tasks can both do with what they have learned."""

    pooling: Pooling = "mean"  # of the hidden states, where the loss compares or decodes whole texts

    _begins_with = ""  # what its token embedding begins with

    def connect(self, tokenizer: Tokenizer) -> None:
        super().connect(tokenizer)
        if self.encoder.decoder_start is not None:
            raise UserError(f"{type(self).__name__} has no decoder to start from a run's: leave encoder.decoder out")

    def prepare(self, tokenizer: Tokenizer) -> None:
        if (name := self.encoder.embedding_from) is not None:
            self._begins_with = begin_with_vectors(self.encoder, tokenizer, name)
            self.encoder.embedding_from = None
        super().prepare(tokenizer)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self._begins_with and self.global_rank == 0:
            say(self._begins_with)

    def states(self, batch: TokenBatch) -> Tensor:
        """(B, T, D): the hidden states that embeddings are pooled from."""
        return self.encoder(batch)

    def own_embedding(self, hidden: Tensor, batch: TokenBatch) -> Tensor | None:
        """(B, E): an embedding beyond the poolings of the states (B, T, D), such as the mean of a posterior, if any."""
        return None

    def embed_batch(self, batch: TokenBatch) -> Tensor:
        """(B, E): the embeddings of B texts, one a row: the module's own, or the states pooled by `pooling`."""
        hidden = self.states(batch)
        own = self.own_embedding(hidden, batch)
        return pool(hidden, batch, self.pooling) if own is None else own

    @property
    def embedding_dim(self) -> int:
        """Width E of the embeddings."""
        return self.encoder.dim

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        """Output of the model for a few texts, for people to read: a row each, as text by column name."""
        return []

    def sample_documents(self, documents: list[Document]) -> list[dict[str, str]]:
        """As `samples`, of whole documents. Only tasks read their labels."""
        return self.samples([" ".join(document.text.split())[:LONGEST_SAMPLE] for document in documents])

    def embed(
        self,
        texts: Iterable[str],
        batch_size: int = 64,
        pooling: Pooling | Literal["sif"] | None = None,
        causal: bool | None = None,
    ) -> Tensor:
        """Frozen embeddings of texts, (N, E) float32 on the CPU, in evaluation mode; the mode is restored after.

        Texts longer than the encoder's `max_length` are cut, with a `TextsCut` warning.

        Args:
            texts: N of them.
            batch_size: texts at a time.
            pooling: of the hidden states; `sif` needs an encoder that has it. None: the module's own embedding, or its
                `pooling`.
            causal: whether a position of the encoder sees only what precedes it; None: as it was built.

        Raises:
            UserError: a single text instead of a list of them, a batch size below 1, a pooling that there is not, no
                encoder, or one that cannot be causal or bidirectional as asked.
        """
        if isinstance(self.encoder, NoEncoder):
            raise UserError(f"{type(self).__name__} has no encoder and embeds no text: use a model that has one")
        sif = self.encoder.sif
        known = (*POOLINGS, *(["sif"] if sif is not None else []))
        if pooling not in (None, *known):
            raise UserError(f"pooling {pooling!r} is unknown: use {', '.join(known)}, or leave it out")

        def embed_batch(batch: TokenBatch) -> dict[str, Tensor]:
            batch = replace(batch, causal=causal)
            if pooling is None:
                return {"": self.embed_batch(batch)}
            hidden = self.states(batch)
            if pooling == "sif":
                return {"": cast(SIF, sif)(hidden, batch)}
            return {"": pool(hidden, batch, pooling)}

        return self._embed(texts, batch_size, embed_batch).get("", torch.empty(0, self.embedding_dim))

    def covers(self, word: str) -> bool:
        """Whether the tokenizer knows a word or all of its pieces, or the encoder spells it.

        If not, its embedding is that of any unknown word.
        """
        [ids], _ = self.tokenizer.encode_open([word], self.encoder.spells)
        return self.tokenizer.unk_id not in ids[len(self.tokenizer.prefix) : len(ids) - len(self.tokenizer.suffix)]

    def spelling(self, texts: Sequence[str]) -> Tensor:
        """(N,) float64: the nats that it costs to spell out the unknown tokens of each text.

        Each byte that such a token stands for, and the end of the token, costs log 257, as if all 257 symbols were equally
        likely. Added to the score, this gives a text a probability even where the tokenizer loses part of it.
        """
        unknown = self.tokenizer.unk_id
        symbols = [
            sum(
                len(text[span[0] : span[1]].encode("utf-8", "surrogatepass")) + 1
                for number, span in zip(ids, spans, strict=True)
                if number == unknown and span is not None
            )
            for text, (ids, _, spans) in zip(texts, self.tokenizer.encode_with_offsets(list(texts)), strict=True)
        ]
        return torch.tensor(symbols, dtype=torch.float64) * math.log(257)

    def embed_all(self, texts: Iterable[str], batch_size: int = 64) -> dict[str, Tensor]:
        """Embeddings as `embed` makes them, by their pooling, and `own` if there is one, from one pass of the encoder."""
        # A class of the user's own may override it, which costs another pass.
        overridden = type(self).embed_batch is not TextModule.embed_batch

        def embed_batch(batch: TokenBatch) -> dict[str, Tensor]:
            hidden = self.states(batch)
            found: dict[str, Tensor] = {how: pool(hidden, batch, how) for how in POOLINGS}
            if self.encoder.sif is not None:
                found["sif"] = self.encoder.sif(hidden, batch)
            own = self.own_embedding(hidden, batch)
            if own is None and overridden:
                own = self.embed_batch(batch)
            return found if own is None else found | {"own": own}

        return self._embed(texts, batch_size, embed_batch)

    def characters_read(self, texts: Iterable[str]) -> list[int]:
        """How many characters of each text the encoder has room for; the rest is cut."""
        room = self.encoder.max_length - len(self.tokenizer.suffix)
        return characters_within(self.tokenizer, listed(texts), room)

    def parameter_counts(self) -> tuple[int, int]:
        """The number of all parameters, and of those that are trained."""
        parameters = [*self.parameters()]
        return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode, also of an encoder that another module lends; all parts have their modes back after."""
        parts = [*self.modules(), *self.encoder.modules()]
        modes = [part.training for part in parts]
        self.eval()
        self.encoder.eval()
        try:
            yield
        finally:
            for part, mode in zip(parts, modes, strict=True):
                part.training = mode

    # ------------------------------------------------------------------------------------------- smooth inverse frequency

    def on_train_end(self) -> None:
        self._fit_sif()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trained:
            self._fit_sif()  # in place: the checkpoint holds these very tensors
        super().on_save_checkpoint(checkpoint)

    @torch.no_grad()
    def _fit_sif(self) -> None:
        """Let the encoder learn the weights of words and their common component from texts of the train split.

        Where parameters are sharded, the weighted mean stays the plain one.
        """
        sif = self.encoder.sif
        if sif is None or self._data is None or self.sharded:
            return
        counts = torch.from_numpy(self._data.token_counts())
        frame = {*self.tokenizer.special_ids} - {self.tokenizer.unk_id}
        counts[sorted(frame)] = -1
        length = min(SIF_LENGTH, self.encoder.max_length)
        texts = spread_texts(self._data.counted, self.tokenizer, SIF_TEXTS, length)
        batches = (batch.to(self.device) for batch in texts)
        with self.evaluating():
            sif.fit(counts, ((self.states(batch), batch) for batch in batches))

    # ----------------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _embed(
        self, texts: Iterable[str], batch_size: int, embed_batch: Callable[[TokenBatch], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        ids, unknown = self.tokenizer.encode_open(listed(texts, batch_size), self.encoder.spells)
        ids = cut_rows(ids, self.tokenizer, self.encoder.max_length)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        embeddings: dict[str, Tensor] = {}
        with self.evaluating():
            for start in range(0, len(ids), batch_size):
                rows = order[start : start + batch_size]
                batch = pad_rows([ids[i] for i in rows], None, self.tokenizer, self.encoder.max_length)
                batch = replace(batch, unknown=unknown)
                for name, found in embed_batch(batch.to(self.device)).items():
                    embeddings.setdefault(name, torch.empty(len(ids), found.shape[1]))[rows] = found.float().cpu()
        return embeddings


def cut_rows(rows: list[list[int]], tokenizer: Tokenizer, longest: int) -> list[list[int]]:
    """Framed texts, cut to `longest` tokens with a `TextsCut` warning where they are longer."""
    cut = sum(len(row) > longest for row in rows)
    if not cut:
        return rows
    said = f"{cut:,} of {len(rows):,} texts are longer than the encoder's {longest} tokens and are cut"
    warnings.warn(said, TextsCut, stacklevel=5)
    return [tokenizer.cut(row, longest) for row in rows]


def listed(texts: Iterable[str], batch_size: int = 1) -> list[str]:
    """Texts as a list.

    Raises:
        UserError: it is a single text, whose letters would count as texts, or some are not texts; or the batch size is
            below 1.
    """
    if isinstance(texts, str):
        raise UserError(f"{texts[:40]!r} is a single text: give a list of texts, such as [text]")
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more, not {batch_size}")
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"text {number} is of type {type(text).__name__}: give a list of texts")
    return texts
