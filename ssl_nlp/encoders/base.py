"""The base class of encoders, for methods and tasks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.encoders.depth import depths, layers_of
from ssl_nlp.encoders.language_head import HeadLayers
from ssl_nlp.encoders.sif import SIF
from ssl_nlp.encoders.tokens import Tokens
from ssl_nlp.errors import UserError
from ssl_nlp.runs.ancestry import Ancestor
from ssl_nlp.runs.bases import Base

Frozen = Literal["all", "embeddings"]


class DecoderStart(NamedTuple):
    """The weights that a decoder which reads the encoder's states begins with.

    Attributes:
        weights: by their names in the decoder.
        where: the checkpoint that they are from, for messages.
    """

    weights: Mapping[str, Tensor]
    where: str


class Encoder(nn.Module, ABC):
    """Hidden states for token batches.

    An encoder is configured by its constructor and gets its parameters from `build`, once the vocabulary is known: its
    size comes from the data and is never typed. A subclass writes `_create`, `forward`, `embedding`
    and `hparams`.

    Args:
        freeze: which part keeps its weights in training, and has no dropout: `all`, `embeddings`, or a number N for the
            embeddings and the first N layers. null: every part is trained.
        adapter: few parameters that are trained instead of the encoder's own.
        embedding_from: a run, a .ckpt file or a file of word vectors, whose vectors the token embedding begins with, for
            those tokens that are words and have one there.

    Attributes:
        dim: width D of the hidden states. Known after `build`.
        max_length: the longest row that `forward` takes. Known after `build`.
        vocab_size, pad_id, causal: as in `build`. Causal means that a position sees only itself and what
            precedes it.
        exportable: whether `torch.onnx` can write a graph of it.
        separate: whether the states are two halves, the first of which sees only what precedes a position, the second only
            what follows it.
        tokenizer_name: the tokenizer that the encoder was made for (a hub name or a local path), None if any will do.
        pretrained: whether the weights are published ones, which a learning rate for new weights would ruin.
        stock_head: the layers of a classifier in the stock classes of `transformers` for this encoder: `prediction` (dense,
            GELU, norm, linear), `tanh` (dense, tanh, linear; only linear for tokens) or `linear`; or `maximum`, a linear
            layer on the maximum of the states. Known after `build`.
        tokens: the fingerprint of the tokenizer whose ids the encoder reads; None if `build` was not given one.
        tokenizer: that of the run that the weights come from, which the data then use; None if they come from no run.
        start: loads the weights that `build` begins with into the encoder; None once it has, or if there are none.
        decoder_start: those of a decoder that read the encoder's states, for a new one, which takes them; None without.
        base: the weights that `build` begins with, for the checkpoints of an adapted encoder, which leave them out. None:
            they are random, so that checkpoints hold them.
        made_causal: whether the weights were trained causally, which `build` goes by unless it is told; None: not known.
        ancestry: the runs and published models that the weights come from, the oldest first.
        adapter: of the constructor.
        prompt_length: number of vectors that the adapter puts in front of each text.
        lacks_language_head: whether `language_head` was to give a published head, and there is none.
    """

    absent_in_checkpoints: ClassVar[tuple[str, ...]] = ("embedding_from",)  # a file to read
    exportable: bool = True

    dim: int
    max_length: int
    vocab_size: int
    pad_id: int
    causal: bool
    separate: bool = False
    tokenizer_name: str | None = None
    pretrained: bool = False
    stock_head: Literal["prediction", "tanh", "linear", "maximum"] = "prediction"
    tokens: str | None = None
    tokenizer: Any = None  # a `Tokenizer`, which only `Trained` knows
    ancestry: tuple[Ancestor, ...] = ()
    freeze: Frozen | int | None = None
    adapter: Adapter | None = None
    embedding_from: str | None = None
    prompt: nn.Embedding
    prompt_length: int = 0
    lacks_language_head: bool = False
    _tokens: Tokens | None = None  # the tokenizer of `build`, for `_create` alone
    base_names: tuple[str, ...] = ()  # of the weights in the state dict that an adapter has frozen
    _built: dict[str, int | bool] | None = None
    start: Callable[["Encoder"], None] | None = None
    decoder_start: DecoderStart | None = None
    base: Base | None = None
    made_causal: bool | None = None

    def __init__(
        self, freeze: Frozen | int | None = None, adapter: Adapter | None = None, embedding_from: str | None = None
    ) -> None:
        super().__init__()
        self.freeze = checked_freeze(freeze)
        self.adapter = adapter
        self.embedding_from = embedding_from

    def build(self, vocab_size: int, pad_id: int, causal: bool | None, tokenizer: Tokens | None = None) -> None:
        """Create the parameters. Called by the model's `connect`; a second call with the same arguments does nothing.

        Args:
            vocab_size: V, rows of the token embedding.
            pad_id: the id of padding.
            causal: whether a position sees only itself and what precedes it. None: as it was made or trained, and
                bidirectional if it may be either.
            tokenizer: the one that makes the ids: two tokenizers of equal size give the same id to different tokens.

        Raises:
            UserError: the encoder cannot be causal (or bidirectional) as the model needs it, does not know that many
                tokens, or was built with other arguments.
        """
        tokens = None if tokenizer is None else tokenizer.fingerprint()
        if causal is None:
            causal = self.made_causal if self._built is None else self.causal
        wanted: dict[str, int | bool] = {"vocab_size": vocab_size, "pad_id": pad_id, "causal": bool(causal)}
        if self._built is not None and self._built != wanted:
            was, now = (", ".join(f"{name}={value}" for name, value in d.items()) for d in (self._built, wanted))
            raise UserError(f"this encoder was built for {was} and cannot serve {now}: make a new one")
        if None not in (tokens, self.tokens) and tokens != self.tokens:
            raise UserError(
                "this encoder was trained with another tokenizer than the data's, so that the same id means another token: "
                "give the data the corpus and tokenizer settings that it was trained with, or make a new encoder"
            )
        if self._built is None:
            self.vocab_size, self.pad_id, self.causal = vocab_size, pad_id, bool(causal)
            self._takes_direction = causal is not None
            self._tokens = tokenizer
            self._create()
            self._tokens = None
            self._load_start()
            if self.adapter is not None:
                self._adapt(self.adapter)
            self._freeze()
            self._built = wanted | {"causal": self.causal}
        self.tokens = tokens or self.tokens

    def _load_start(self) -> None:
        if self.start is None:
            return
        try:
            self.start(self)
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"the weights to start from do not fit the {type(self).__name__} ({reason})") from error
        self.start = None

    def _adapt(self, adapter: Adapter) -> None:
        if self.freeze is not None:
            raise UserError("encoder: an adapter freezes all of the encoder: leave freeze out")
        self.base = self.base or self.published_base()
        adapter.attach(self)

    # ------------------------------------------------------------------------------------------------------- frozen parts

    def _freeze(self) -> None:
        """Exclude the parts that `freeze` names from training.

        Raises:
            UserError: there are not that many layers.
        """
        layers = len(layers_of(self))
        if isinstance(self.freeze, int) and self.freeze > layers:
            raise UserError(
                f"encoder.freeze {self.freeze}: this encoder has {layers} layers: give a number up to {layers}, "
                "embeddings or all"
            )
        for module in self._chosen():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        self.keep_frozen_still()

    def _chosen(self) -> list[nn.Module]:
        """The modules that `freeze` names."""
        if self.freeze is None:
            return []
        if self.freeze == "all":
            return [*self.modules()]
        deepest = 0 if self.freeze == "embeddings" else self.freeze
        return [module for module, depth in depths(self).items() if depth <= deepest]

    def keep_frozen_still(self) -> None:
        """Put the frozen modules into evaluation mode, so that they have no dropout; those around trained ones stay."""
        for module in self._chosen():
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.training = False

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules but the frozen ones."""
        super().train(mode)
        self.keep_frozen_still()
        return self

    # ------------------------------------------------------------------------------------------- what a subclass writes

    @abstractmethod
    def _create(self) -> None:
        """Create the parameters from the arguments of `build`, and set `dim` and `max_length` if they are not set yet.

        Unless `_takes_direction`, nobody asked for a causal or a bidirectional encoder: one that is made to be either sets
        `causal`.

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
    def adapted(self) -> nn.Module:
        """The module whose linear maps adapters change; peft names its weights as seen from here."""
        return self

    @property
    @abstractmethod
    def embedding(self) -> nn.Embedding:
        """The token embedding (V, E), to which a language modelling head ties its weights."""

    def look_up(self, ids: Tensor, unknown: Sequence[str] = ()) -> Tensor:
        """(..., E): the vectors of tokens (...) before any dropout, with their gradient; `unknown` as in `TokenBatch`."""
        return F.embedding(ids, self.embedding.weight, sparse=self.embedding.sparse)

    @torch.no_grad()
    def token_vectors(self, ids: Tensor, unknown: Sequence[str] = ()) -> Tensor:
        """(N, E): copies of the vectors of tokens (N,), as the encoder reads them outside of training."""
        return self.look_up(ids, unknown)

    def spells(self, word: str) -> bool:
        """Whether the encoder makes a vector of a word that the vocabulary lacks (`TokenBatch.unknown`)."""
        return False

    @property
    def part_embedding(self) -> nn.Embedding | None:
        """The encoder's own embedding (2 or more, E) of the part of a row that a token is in, as BERT has one, if any.

        The encoder itself adds that of part 0 everywhere.
        """
        return None

    @property
    def sif(self) -> SIF | None:
        """A weighted mean of the states, learned from the training text, if the encoder has one."""
        return None

    def language_head(self) -> HeadLayers | None:
        """New copies of the layers of the language modelling head that belongs to the encoder; None if none does."""
        return None

    @abstractmethod
    def hparams(self) -> dict[str, Any]:
        """The constructor's arguments as plain data: with them, `build` and the weights, nothing else is needed.

        `embedding_from` is not among them.
        """

    def new_cache(self, rows: int, length: int) -> Any:
        """An empty key-value cache for `length` positions of `rows` rows. Only causal encoders have one.

        Its `select(rows)` keeps rows (N,) of it, in this order, some of them perhaps several times.
        """
        raise NotImplementedError

    def published_base(self) -> Base | None:
        """The published weights that have just been loaded, if any."""
        return None

    def load_published(self, base: Base, where: str) -> None:
        """Load published weights from files of this machine.

        Args:
            base: the weights that are meant.
            where: the path of the checkpoint that needs them.

        Raises:
            UserError: they are not there, or others are in their place.
        """
        raise UserError(f"{where} holds an adapter of {base['place']}, which is not a {type(self).__name__}")

    def stock_parts(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Linear maps of `adapted` by the name in the model of `transformers`, where one may hold several.

        Args:
            names: of those wanted; the parts of a fused map are listed with those beside them.
        """
        return {name: [name] for name in names}

    def stock_rows(self, name: str, rows: Tensor) -> Tensor:
        """The rows of a linear map's weight, or of what is added to it, in the order of the model of `transformers`."""
        return rows

    def penalty(self) -> Tensor | None:
        """A scalar that training adds to the loss, if the adapter has one."""
        return None if self.adapter is None else self.adapter.penalty(self)

    def after_step(self, step: int, steps: float) -> None:
        """Called after each step of the optimizer, the first of which is 0, of `steps` in all (infinite if unknown)."""
        if self.adapter is not None:
            self.adapter.after_step(self, step, steps)

    # ---------------------------------------------------------------------------------------------- for subclasses

    def _check_length(self, length: int) -> None:
        if length > self.max_length + self.prompt_length:
            raise UserError(
                f"a row of {length - self.prompt_length} tokens is longer than the encoder's max_length of "
                f"{self.max_length}: shorten the rows, or raise max_length"
            )

    def _check_continued(self, batch: TokenBatch) -> None:
        if batch.padded and not batch.packed:
            raise ValueError("rows that are to be continued are padded on the left, and marked as packed")


def checked_freeze(freeze: Frozen | int | None) -> Frozen | int | None:
    """The argument `freeze` of an encoder.

    Raises:
        UserError: it is none that an encoder takes.
    """
    if freeze in (None, "all", "embeddings") or (type(freeze) is int and freeze >= 0):
        return freeze
    raise UserError(f"encoder.freeze must be all, embeddings or a number of layers, not {freeze!r}")
