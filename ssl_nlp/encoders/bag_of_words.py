"""Token vectors and nothing else, as in word2vec (arXiv:1301.3781) and fastText (arXiv:1607.01759, arXiv:1607.04606)."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.encoders.base import Encoder, Frozen
from ssl_nlp.encoders.character_ngrams import CharacterNGrams
from ssl_nlp.encoders.sif import SIF
from ssl_nlp.errors import UserError, refuse


class BagOfWords(Encoder):
    """The state of a token is its embedding, whatever stands around it, so the encoder is causal and bidirectional alike.

    The mean of the states is the mean word vector of a text. The vectors begin uniform in [-1 / dim, 1 / dim], as those of
    fastText, and that of padding is 0. A method that trains no vectors for the tokens of the frame should set these to 0,
    because the mean counts them.

    With n-grams, the state of a token is the mean of its own vector and those of the character n-grams of its spelling, so
    that rare words learn from others; fastText's program takes the mean, its paper the sum. A word that the
    vocabulary of a tokenizer of kind `word` lacks gets the mean of its n-grams in `embed` and in evaluations; training text
    has only the unknown token in its place.

    Args:
        dim: width D of the vectors.
        dropout: of the vectors.
        max_length: the longest row.
        sif: the constant a of a further pooling beside the mean, in which rare words count more (`ssl_nlp.encoders.sif`).
            null: there is none.
        ngrams: characters of the shortest and longest n-grams, such as [3, 6]; a mark at either end of a word counts as
            one. null: there are none.
        buckets: rows of the table of n-gram vectors. The more n-grams share a row, the less it says of each; fastText has 2
            million.
        freeze: `all`, `embeddings` or 0 keep the vectors as they are in training. null: they are trained.
        embedding_from: a run, a .ckpt file or a file of word vectors, whose vectors the token embedding begins with, for
            those tokens that are words and have one there.

    Raises:
        UserError: arguments are invalid; all of them are listed in one line.
    """

    stock_head = "linear"

    def __init__(
        self,
        dim: int = 300,
        dropout: float = 0.0,
        max_length: int = 8192,
        sif: float | None = 1e-3,
        ngrams: Sequence[int] | None = None,
        buckets: int = 200_000,
        freeze: Frozen | int | None = None,
        embedding_from: str | None = None,
    ) -> None:
        super().__init__(freeze, embedding_from=embedding_from)
        problems = {
            f"dim must be at least 1, not {dim}": dim < 1,
            f"dropout must be at least 0 and less than 1, not {dropout}": not 0 <= dropout < 1,
            f"max_length must be at least 1, not {max_length}": max_length < 1,
            f"sif must be above 0, or null, not {sif}": sif is not None and not 0 < sif < math.inf,
            f"ngrams must be the lengths of the shortest and the longest, such as [3, 6], or null, not {ngrams}": (
                ngrams is not None
                and not (len(ngrams) == 2 and {*map(type, ngrams)} == {int} and 1 <= ngrams[0] <= ngrams[1])
            ),
            f"buckets must be at least 1, not {buckets}": buckets < 1,
            "embedding_from cannot fill vectors that are means with n-grams: leave one of the two out": (
                ngrams is not None and embedding_from is not None
            ),
        }
        refuse(problems, "encoder")
        self.dim, self.dropout, self.max_length, self._a = dim, dropout, max_length, sif
        self.lengths, self.buckets = None if ngrams is None else (ngrams[0], ngrams[1]), buckets
        self.exportable = ngrams is None  # a graph would have to look up bags of any size

    def _create(self) -> None:
        self.vectors = nn.Embedding(self.vocab_size, self.dim, padding_idx=self.pad_id)
        nn.init.uniform_(self.vectors.weight, -1 / self.dim, 1 / self.dim)
        nn.init.zeros_(self.vectors.weight[self.pad_id])
        self.ngrams = None if self.lengths is None else self._create_ngrams(*self.lengths)
        self.drop = nn.Dropout(self.dropout)
        self.weighted = None if self._a is None else SIF(self.vocab_size, self.dim, self._a)

    def _create_ngrams(self, shortest: int, longest: int) -> CharacterNGrams:
        if self._tokens is None:
            raise UserError("encoder: ngrams need the spelling of tokens: give build the tokenizer")
        return CharacterNGrams(self._tokens.spellings(), self.dim, shortest, longest, self.buckets)

    def _adapt(self, adapter: Adapter) -> None:
        raise UserError("encoder.adapter: BagOfWords has no layers that an adapter could change: leave it out")

    @property
    def embedding(self) -> nn.Embedding:
        return self.vectors

    @property
    def sif(self) -> SIF | None:
        return self.weighted

    def hparams(self) -> dict[str, Any]:
        given = {"dim": self.dim, "dropout": self.dropout, "max_length": self.max_length, "sif": self._a}
        ngrams = None if self.lengths is None else [*self.lengths]
        return given | {"ngrams": ngrams, "buckets": self.buckets, "freeze": self.freeze}

    def spells(self, word: str) -> bool:
        return self.ngrams is not None and self.ngrams.spells(word)

    def look_up(self, ids: Tensor, unknown: Sequence[str] = ()) -> Tensor:
        if self.ngrams is None:
            return super().look_up(ids)
        tokens, places = ids.unique(return_inverse=True)  # each bag is added up once
        known = tokens[tokens < self.vocab_size]
        words = [unknown[number] for number in (tokens[len(known) :] - self.vocab_size).tolist()]
        sums, sizes = self.ngrams(known, words)
        own = F.pad(self.vectors(known), (0, 0, 0, len(words)))
        parts = sizes + F.pad(known.new_ones(len(known)), (0, len(words)))
        return F.embedding(places, (own + sums) / parts[:, None])

    def forward(self, batch: TokenBatch, cache: "Nothing | None" = None, added: Tensor | None = None) -> Tensor:
        self._check_length(batch.input_ids.shape[1])
        ids = batch.input_ids
        states: Tensor = self.vectors(ids) if self.ngrams is None else self.look_up(ids, batch.unknown)
        return self.drop(states if added is None else states + added)

    def new_cache(self, rows: int, length: int) -> "Nothing":
        self._check_length(length)
        return Nothing()


class Nothing:
    """Takes the place of a key-value cache: no state depends on earlier positions."""

    def select(self, rows: Tensor) -> None:
        """Keep these rows (N,): nothing to do."""
