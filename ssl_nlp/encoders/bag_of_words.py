"""Token vectors and nothing else, as in word2vec (arXiv:1301.3781) and fastText's classifier (arXiv:1607.01759)."""

import math
from typing import Any

from torch import Tensor, nn

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.encoders.base import Encoder, Frozen
from ssl_nlp.encoders.sif import SIF
from ssl_nlp.errors import UserError


class BagOfWords(Encoder):
    """The state of a token is its embedding, whatever stands around it, so the encoder is causal and bidirectional alike.

    The mean of the states is the mean word vector of a text. The vectors begin uniform in [-1 / dim, 1 / dim], as those of
    fastText, and that of padding is 0. A method that trains no vectors for the tokens of the frame should set these to 0,
    because the mean counts them.

    Args:
        dim: width D of the vectors.
        dropout: of the vectors.
        max_length: the longest row.
        sif: the constant a of a further pooling beside the mean, in which rare words count more (`ssl_nlp.encoders.sif`).
            null: there is none.
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
        freeze: Frozen | int | None = None,
        embedding_from: str | None = None,
    ) -> None:
        super().__init__(freeze, embedding_from=embedding_from)
        problems = {
            f"dim must be at least 1, not {dim}": dim < 1,
            f"dropout must be at least 0 and less than 1, not {dropout}": not 0 <= dropout < 1,
            f"max_length must be at least 1, not {max_length}": max_length < 1,
            f"sif must be above 0, or null, not {sif}": sif is not None and not 0 < sif < math.inf,
        }
        if found := [text for text, holds in problems.items() if holds]:
            raise UserError(f"encoder: {'; '.join(found)}")
        self.dim, self.dropout, self.max_length, self._a = dim, dropout, max_length, sif

    def _create(self) -> None:
        self.vectors = nn.Embedding(self.vocab_size, self.dim, padding_idx=self.pad_id)
        nn.init.uniform_(self.vectors.weight, -1 / self.dim, 1 / self.dim)
        nn.init.zeros_(self.vectors.weight[self.pad_id])
        self.drop = nn.Dropout(self.dropout)
        self.weighted = None if self._a is None else SIF(self.vocab_size, self.dim, self._a)

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
        return given | {"freeze": self.freeze}

    def forward(self, batch: TokenBatch, cache: "Nothing | None" = None, added: Tensor | None = None) -> Tensor:
        self._check_length(batch.input_ids.shape[1])
        states: Tensor = self.vectors(batch.input_ids)
        return self.drop(states if added is None else states + added)

    def new_cache(self, rows: int, length: int) -> "Nothing":
        self._check_length(length)
        return Nothing()


class Nothing:
    """Takes the place of a key-value cache: no state depends on earlier positions."""

    def select(self, rows: Tensor) -> None:
        """Keep these rows (N,): nothing to do."""
