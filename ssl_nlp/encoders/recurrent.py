"""Recurrent networks as encoders: Elman's network, the LSTM and the GRU, with the cells of torch."""

from contextlib import nullcontext
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.encoders.base import Encoder, Frozen
from ssl_nlp.encoders.language_head import HeadLayers, our_layers
from ssl_nlp.encoders.layers import Embeddings
from ssl_nlp.errors import UserError, refuse

Kind = Literal["rnn", "lstm", "gru"]

CELLS: dict[Kind, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CPU_STEPS = 16
"""Positions that a cell reads at a time on a CPU, where the gradient of a packed sequence takes time that grows with the
square of its length: for an LSTM over 128 positions, three times as long as in such pieces."""


class Recurrent(Encoder):
    """A stack of recurrent layers.

    Every document is a sequence of its own, also where several share a row: its first state is 0. Nothing is carried from
    one row to the next, so that it reads what a Transformer reads.

    Args:
        kind: `rnn` (Elman 1990, with tanh), `lstm` (Hochreiter & Schmidhuber 1997) or `gru` (arXiv:1406.1078).
        bidirectional: whether each layer also reads from the end to the start. null: as the method needs it.
        separate: whether the two directions see nothing of each other, as in ELMo: two stacks, each with half of the
            states. Otherwise each layer reads both directions of the layer below.
        layers: number of layers.
        dim: width D of the hidden states; each of two directions has half of it.
        embedding_dim: width E of the token embeddings; null: D.
        dropout: of the embeddings and of the output of each layer, not from one position to the next (arXiv:1409.2329).
        tied: whether the output layer of a language model has the weights of the token embedding (arXiv:1608.05859); the
            dense layer before it leads from D to E. false: it has weights of its own.
        max_length: the longest row. The default is that of `Transformer`, so that both read as much of a long text.
        freeze: which part keeps its weights in training, and has no dropout: `all`, `embeddings`, or a number N for the
            embeddings and the first N layers. null: every part is trained.
        adapter: few parameters that are trained instead of the encoder's own. Only `PromptTuning` fits.
        embedding_from: a run, a .ckpt file or a file of word vectors, whose vectors the token embedding begins with, for
            those tokens that are words and have one there.

    Raises:
        UserError: arguments are invalid; all of them are listed in one line.
    """

    exportable = False  # torch's exporter writes lengths that are fixed, or wrong, into graphs of recurrent layers

    def __init__(
        self,
        kind: Kind = "lstm",
        bidirectional: bool | None = None,
        separate: bool = False,
        layers: int = 2,
        dim: int = 256,
        embedding_dim: int | None = None,
        dropout: float = 0.0,
        tied: bool = True,
        max_length: int = 1024,
        freeze: Frozen | int | None = None,
        adapter: Adapter | None = None,
        embedding_from: str | None = None,
    ) -> None:
        super().__init__(freeze, adapter, embedding_from)
        self.kind: Kind = kind
        self.bidirectional = bidirectional
        self.separate = separate
        self.depth = layers
        self.dim = dim
        self.embedding_dim = embedding_dim
        self.dropout = dropout
        self.tied = tied
        self.max_length = max_length
        counts = {"layers": layers, "dim": dim, "embedding_dim": embedding_dim, "max_length": max_length}
        problems = {
            f"kind {kind!r} is unknown: use {', '.join(get_args(Kind))}": kind not in CELLS,
            **{f"{name} must be at least 1, not {n}": n is not None and n < 1 for name, n in counts.items()},
            f"dropout must be at least 0 and less than 1, not {dropout}": not 0 <= dropout < 1,
            "separate directions are two: leave bidirectional out": separate and bidirectional is False,
            "separate directions share their output layer with the token embedding: set tied to true": (
                separate and not tied
            ),
        }
        refuse(problems, "encoder")

    def hparams(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "bidirectional": self.bidirectional, "separate": self.separate, "layers": self.depth,
            "dim": self.dim, "embedding_dim": self.embedding_dim, "dropout": self.dropout, "tied": self.tied,
            "max_length": self.max_length, "freeze": self.freeze, "adapter": self.adapter,
        }  # fmt: skip

    def _create(self) -> None:
        self._choose_direction()
        directions = 1 if self.causal else 2
        if self.dim % directions:
            raise UserError(f"encoder: dim {self.dim} is odd, and each of two directions has half of it: make it even")
        width = self.embedding_dim or self.dim
        self.embeddings = Embeddings(self.vocab_size, width, self.pad_id, self.dropout)
        nn.init.trunc_normal_(self.embedding.weight, std=0.02, a=-0.04, b=0.04)
        self.layers = nn.ModuleList()
        for index in range(self.depth):
            halves = self.separate and index > 0
            self.layers.append(
                RecurrentLayer(self.kind, width, self.dim // directions, directions, halves, self.dropout)
            )
            width = self.dim

    def _choose_direction(self) -> None:
        """Set `causal`, which the weights go by.

        Raises:
            UserError: the encoder is asked to see in another direction than it is made for.
        """
        made = not (self.bidirectional or self.separate)
        fixed = made if self.bidirectional is not None or self.separate else self.made_causal
        if not self._takes_direction:
            self.causal = bool(fixed)
        elif fixed is not None and fixed != self.causal:
            self._refuse(self.causal)

    def _refuse(self, causal: bool) -> None:
        needed, made = ("causal", "bidirectional") if causal else ("bidirectional", "causal")
        settings = {"separate": self.separate or None, "bidirectional": self.bidirectional}
        culprits = [f"encoder.{name} is {str(value).lower()}" for name, value in settings.items() if value is not None]
        culprit = culprits[0] if culprits else f"the weights of this {self.kind} are those of a {made} one"
        raise UserError(
            f"this method needs a {needed} encoder, and {culprit}: make another one for it, or use a Transformer, which "
            "can be either"
        )

    @property
    def embedding(self) -> nn.Embedding:
        return self.embeddings.tok_embeddings

    def language_head(self) -> HeadLayers | None:
        return None if self.tied else our_layers(self.dim, self.embedding, tied=False)

    # torch's cells are compiled already, and the sizes of packed sequences would make a compiler begin anew all the time.
    @torch.compiler.disable
    def forward(
        self,
        batch: TokenBatch,
        cache: "RecurrentCache | None" = None,
        added: Tensor | None = None,
        begin: Tensor | None = None,
    ) -> Tensor:
        """As `Encoder.forward`.

        Args:
            begin: (layers, 1 or 2, B, D), the states before the first token of each row and, of an LSTM, those of its cell;
                None: 0, or those of the cache.
        """
        rows, length = batch.input_ids.shape
        self._check_length(length + (0 if cache is None else cache.seen))
        if batch.causal not in (None, self.causal):
            self._refuse(bool(batch.causal))
        if cache is not None:
            self._check_continued(batch)
            cache.begin(batch)
        documents = documents_of(batch)
        states = self.embeddings(batch.input_ids, added).flatten(0, 1)[documents.places]
        if documents.number == 0:
            return states.new_zeros(rows, length, self.dim)
        lines = documents.places[: documents.number] // length  # the row of each document
        before = begin if cache is None else cache.states
        for index, layer in enumerate(self.layers):
            states, end = layer(states, documents, None if before is None else before[index][:, lines])
            if cache is not None:
                cache.states[index][:, lines] = end.to(cache.states.dtype)
        hidden = states.new_zeros(rows * length, self.dim)
        return hidden.index_put((documents.places,), states).view(rows, length, self.dim)

    def new_cache(self, rows: int, length: int) -> "RecurrentCache":
        if not self.causal:
            raise UserError(f"this {self.kind} is bidirectional and cannot continue a text: make a causal one")
        self._check_length(length + self.prompt_length)
        return RecurrentCache(self.embedding.weight.new_zeros(self.depth, 1 + (self.kind == "lstm"), rows, self.dim))


class RecurrentLayer(nn.Module):
    """One layer: a cell that reads documents forwards and, if there are two directions, one that reads them backwards.

    Args:
        kind: of cell.
        width: of what the layer reads.
        units: of the states of each direction.
        directions: 1 or 2.
        halves: whether each direction reads only its own half, which the layer below has made in the same direction.
        dropout: of the states.
    """

    def __init__(self, kind: Kind, width: int, units: int, directions: int, halves: bool, dropout: float) -> None:
        super().__init__()
        self.halves = halves
        names = ("forwards", "backwards")[:directions]
        self.cells = nn.ModuleDict({name: CELLS[kind](width // 2 if halves else width, units) for name in names})
        self.drop = nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
                if kind == "lstm" and "bias_ih" in name:  # remember at first (Jozefowicz et al. 2015, section 2.2)
                    nn.init.ones_(parameter[units : 2 * units])

    def forward(self, states: Tensor, documents: "Documents", begin: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States (N, directions * units) from what is below, (N, width), in the order of `documents`.

        Args:
            states: of the layer below.
            documents: where they belong.
            begin: (1 or 2, documents, units), the state before the first token and, of an LSTM, that of its cell; None: 0.

        Returns:
            The states, and those after the last token, like `begin`, of the direction that reads forwards.
        """
        forwards, backwards = states.chunk(2, dim=1) if self.halves else (states, states)
        found, last = read(self.cells["forwards"], forwards, documents, begin)
        made = [found]
        if "backwards" in self.cells:
            turned, _ = read(self.cells["backwards"], backwards[documents.mirrored], documents)
            made.append(turned[documents.mirrored])
        return self.drop(torch.cat(made, dim=1)), last


class RecurrentCache:
    """The last states of the rows that a causal encoder has seen, for generation (without gradients).

    Attributes:
        states: (layers, 1 or 2, rows, D): the state and, of an LSTM, that of the cell.
        seen: number of positions.
    """

    def __init__(self, states: Tensor) -> None:
        self.states = states
        self.seen = 0

    @property
    def empty(self) -> bool:
        """Whether nothing has been seen."""
        return self.seen == 0

    def begin(self, batch: TokenBatch) -> None:
        """Count the next positions.

        Raises:
            ValueError: there are other rows than before, or one has several documents.
        """
        if len(batch) != self.states.shape[2]:
            raise ValueError(f"{len(batch)} rows do not fit into a cache for {self.states.shape[2]} rows")
        if batch.packed and int(batch.segment_ids.max()) > 1:
            raise ValueError("a cache of recurrent states continues one document in each row")
        self.seen += batch.input_ids.shape[1]

    def select(self, rows: Tensor) -> None:
        """Keep these rows (N,), in this order; a row may be kept several times."""
        self.states = self.states[:, :, rows]


class Documents(NamedTuple):
    """The documents of a batch as one packed sequence: the first tokens of all documents, then the second ones, and so on.

    At each position the longest document comes first. There are N tokens.

    Attributes:
        places: (N,) int64: where each token stands in the flattened rows.
        mirrored: (N,) int64: for each token, the one that is as far from the end of the document as this one is from its
            start. It turns all documents round.
        number: of documents.
        sizes: (longest,) int64, on the CPU: the number of documents that have a token at each position.
    """

    places: Tensor
    mirrored: Tensor
    number: int
    sizes: Tensor


def documents_of(batch: TokenBatch) -> Documents:
    """The documents of a batch."""
    text = batch.is_text.flatten().nonzero().squeeze(1)
    position = batch.positions().flatten()[text]
    document = (position == 0).cumsum(0) - 1
    lengths, sizes = document.bincount(), position.bincount()
    rank = lengths.argsort(descending=True, stable=True).argsort()[document]
    before = sizes.cumsum(0) - sizes
    order = before[position] + rank  # the place of each token in the packed sequence
    mirrored = before[lengths[document] - 1 - position] + rank
    return Documents(
        torch.empty_like(text).scatter_(0, order, text),
        torch.empty_like(text).scatter_(0, order, mirrored),
        len(lengths),
        sizes.cpu(),
    )


def cpu_has_bfloat16() -> bool:
    """Whether oneDNN, whose layers torch uses under autocast, computes in bfloat16 on this CPU."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def read(cell: nn.Module, states: Tensor, documents: Documents, begin: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The states (N, units) that a cell of torch makes of states (N, width), and those after the last token of a document.

    Args:
        cell: reads forwards.
        states: in the order of `documents`.
        documents: where they belong.
        begin: as the second result, (1 or 2, documents, units): the state, and that of the cell if it is an LSTM.
    """
    kind = states.device.type
    # On a GPU autocast would compute in float16, whatever its own precision, and small gradients would be lost. cuDNN's
    # products of float32 are in TF32. And CPUs without AVX-512 have no LSTM in bfloat16.
    unable = kind == "cuda" or (kind == "cpu" and isinstance(cell, nn.LSTM) and not cpu_has_bfloat16())
    raised = unable and torch.is_autocast_enabled(kind)
    states = states.to(next(cell.parameters()).dtype) if raised else states
    pieces = documents.sizes.split(CPU_STEPS if kind == "cpu" else len(documents.sizes))
    made, last = [], begin
    for sizes, part in zip(pieces, states.split([int(sizes.sum()) for sizes in pieces]), strict=True):
        first = None if last is None else last[:, : sizes[0]].to(part.dtype).split(1)
        with torch.autocast(kind, enabled=False) if raised else nullcontext():
            packed, ended = cell(PackedSequence(part, sizes), first[0] if first and len(first) == 1 else first)
        made.append(packed.data)
        ends = torch.cat(ended if isinstance(ended, tuple) else (ended,))
        last = ends if last is None else torch.cat([ends, last[:, sizes[0] :]], dim=1)
    assert last is not None
    return torch.cat(made), last
