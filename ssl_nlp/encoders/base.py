"""The base class of encoders, for methods and tasks."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.errors import UserError


class Encoder(nn.Module, ABC):
    """Hidden states for token batches.

    An encoder is configured by its constructor and gets its parameters from `build`, once the vocabulary is known: its
    size comes from the data and is never typed. A subclass writes `_create`, `forward`, `embedding`
    and `hparams`.

    Attributes:
        dim: width D of the hidden states. Known after `build`.
        max_length: the longest row that `forward` takes. Known after `build`.
        vocab_size, pad_id, causal: the arguments of `build`. Causal means that a position sees only itself and what
            precedes it.
        tokenizer_name: the tokenizer that the encoder was made for (a hub name or a local path), None if any will do.
        pretrained: whether the weights are published ones, which a learning rate for new weights would ruin.
        stock_head: the layers of a classifier in the stock classes of `transformers` for this encoder: `prediction` (dense,
            GELU, norm, linear), `tanh` (dense, tanh, linear; only linear for tokens) or `linear`. Known after `build`.
        tokens: the fingerprint of the tokenizer whose ids the encoder reads; None if `build` was not given one.
    """

    dim: int
    max_length: int
    vocab_size: int
    pad_id: int
    causal: bool
    tokenizer_name: str | None = None
    pretrained: ClassVar[bool] = False
    stock_head: Literal["prediction", "tanh", "linear"] = "prediction"
    tokens: str | None = None
    _built: dict[str, int | bool] | None = None

    def build(self, vocab_size: int, pad_id: int, causal: bool, tokens: str | None = None) -> None:
        """Create the parameters. Called by the model's `connect`; a second call with the same arguments does nothing.

        Args:
            vocab_size: V, rows of the token embedding.
            pad_id: the id of padding.
            causal: whether a position sees only itself and what precedes it.
            tokens: `Tokenizer.fingerprint()` of the tokenizer that makes the ids: two tokenizers of equal size give
                the same id to different tokens.

        Raises:
            UserError: the encoder cannot be causal (or bidirectional) as the model needs it, does not know that many
                tokens, or was built with other arguments.
        """
        wanted: dict[str, int | bool] = {"vocab_size": vocab_size, "pad_id": pad_id, "causal": causal}
        if self._built is None:
            self.vocab_size, self.pad_id, self.causal = vocab_size, pad_id, causal
            self._create()
            self._built = wanted
        elif self._built != wanted:
            was, now = (", ".join(f"{name}={value}" for name, value in d.items()) for d in (self._built, wanted))
            raise UserError(f"this encoder was built for {was} and cannot serve {now}: make a new one")
        elif None not in (tokens, self.tokens) and tokens != self.tokens:
            raise UserError(
                "this encoder was trained with another tokenizer than the data's, so that the same id means another token: "
                "give the data the corpus and tokenizer settings that it was trained with, or make a new encoder"
            )
        self.tokens = tokens or self.tokens

    @abstractmethod
    def _create(self) -> None:
        """Create the parameters from the arguments of `build`, and set `dim` and `max_length` if they are not set yet.

        Raises:
            UserError: as `build`.
        """

    @abstractmethod
    def forward(self, batch: TokenBatch, cache: Any = None, added: Tensor | None = None) -> Tensor:
        """(B, T, D) hidden states. Attention stays within a segment, positions restart with it.

        `batch.causal`, if it is not None, overrides `causal`: one encoder may serve objectives of both kinds.
        `added`, (B, T, E) or (B, 1, E), is added to the token embeddings of width E: segment embeddings, or a vector
        that a decoder reads.

        With a `cache` of `new_cache`, `batch` continues the rows that the cache has seen, and the cache grows. Rows of
        unequal length are then padded on the left (segment 0), so that the continuation follows their ends.

        Raises:
            UserError: a row is longer than `max_length`, or the encoder cannot be causal or bidirectional as asked.
        """

    @property
    @abstractmethod
    def embedding(self) -> nn.Embedding:
        """The token embedding (V, E), to which a language modelling head ties its weights."""

    @abstractmethod
    def hparams(self) -> dict[str, Any]:
        """The constructor's arguments as plain data: with them, `build` and the weights, nothing else is needed."""

    def new_cache(self, rows: int, length: int) -> Any:
        """An empty key-value cache for `length` positions of `rows` rows. Only causal encoders have one.

        Its `select(rows)` keeps rows (N,) of it, in this order, some of them perhaps several times.
        """
        raise NotImplementedError

    def _check_length(self, length: int) -> None:
        if length > self.max_length:
            raise UserError(
                f"a row of {length} tokens is longer than the encoder's max_length of {self.max_length}: "
                "shorten the rows, or raise max_length"
            )
