"""A convolutional network over the tokens (Kim, arXiv:1408.5882, section 2)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.encoders.base import Encoder, Frozen
from ssl_nlp.encoders.layers import Embeddings
from ssl_nlp.errors import UserError, refuse


class TextCNN(Encoder):
    """Each state is a map of a few neighbouring tokens: one layer of convolutions of several widths, and a ReLU.

    A convolution reads zeros where its window leaves the document. A causal window ends with the token itself; others have
    it in the middle, with one more token before it than after it if the width is even. The same weights serve both.
    A classifier of texts takes the maximum of the states over the text, as Kim's does; evaluators and objectives pool them
    like those of any encoder.

    Args:
        dim: width D of the states, divided evenly among the convolutions; the default is Kim's, 100 for each.
        widths: tokens that the convolutions read.
        embedding_dim: width E of the token embeddings; null: D.
        dropout: of the embeddings and of the states.
        max_length: the longest row.
        freeze: which part keeps its weights in training, and has no dropout: `all`, `embeddings`, or a number N for the
            embeddings and the first N layers, of which there is one. null: every part is trained.
        adapter: few parameters that are trained instead of the encoder's own.
        embedding_from: a run, a .ckpt file or a file of word vectors, whose vectors the token embedding begins with, for
            those tokens that are words and have one there.

    Raises:
        UserError: arguments are invalid; all of them are listed in one line.
    """

    stock_head = "maximum"

    def __init__(
        self,
        dim: int = 300,
        widths: Sequence[int] = (3, 4, 5),
        embedding_dim: int | None = None,
        dropout: float = 0.0,
        max_length: int = 1024,
        freeze: Frozen | int | None = None,
        adapter: Adapter | None = None,
        embedding_from: str | None = None,
    ) -> None:
        super().__init__(freeze, adapter, embedding_from)
        self.dim = dim
        self.widths = list(widths)
        self.embedding_dim = embedding_dim
        self.dropout = dropout
        self.max_length = max_length
        counts = {"dim": dim, "embedding_dim": embedding_dim, "max_length": max_length}
        problems = {
            **{f"{name} must be at least 1, not {n}": n is not None and n < 1 for name, n in counts.items()},
            f"widths must be one or more different numbers, at least 1 each, not {self.widths}": (
                not widths or min(widths) < 1 or len(set(widths)) < len(widths)
            ),
            f"dim {dim} cannot be divided among {len(widths)} widths": bool(widths) and dim % len(widths) > 0,
            f"dropout must be at least 0 and less than 1, not {dropout}": not 0 <= dropout < 1,
        }
        refuse(problems, "encoder")

    def hparams(self) -> dict[str, Any]:
        return {
            "dim": self.dim, "widths": self.widths, "embedding_dim": self.embedding_dim, "dropout": self.dropout,
            "max_length": self.max_length, "freeze": self.freeze, "adapter": self.adapter,
        }  # fmt: skip

    def _create(self) -> None:
        width = self.embedding_dim or self.dim
        self.embeddings = Embeddings(self.vocab_size, width, self.pad_id, self.dropout)
        nn.init.trunc_normal_(self.embedding.weight, std=0.02, a=-0.04, b=0.04)
        self.layers = nn.ModuleList([Convolutions(width, self.dim // len(self.widths), self.widths, self.dropout)])

    @property
    def embedding(self) -> nn.Embedding:
        return self.embeddings.tok_embeddings

    def forward(self, batch: TokenBatch, cache: "WindowCache | None" = None, added: Tensor | None = None) -> Tensor:
        self._check_length(batch.input_ids.shape[1] + (0 if cache is None else cache.seen))
        causal = self.causal if batch.causal is None else batch.causal
        states, segment_ids = self.embeddings(batch.input_ids, added), batch.segment_ids
        [layer] = self.layers
        assert isinstance(layer, Convolutions)
        if cache is None:
            before, after = layer.margins(causal)
            states, segment_ids = F.pad(states, (0, 0, before, after)), F.pad(segment_ids, (before, after))
        elif causal:
            self._check_continued(batch)
            states, segment_ids = cache.extend(states, segment_ids)
        else:
            raise UserError("a bidirectional encoder cannot continue a text: a cache needs a causal one")
        return layer(states, segment_ids, causal)

    def new_cache(self, rows: int, length: int) -> "WindowCache":
        self._check_length(length + self.prompt_length)
        weight, reach = self.embedding.weight, max(self.widths) - 1
        segment_ids = torch.zeros(rows, reach, dtype=torch.long, device=weight.device)
        return WindowCache(weight.new_zeros(rows, reach, weight.shape[1]), segment_ids)


class Convolutions(nn.Module):
    """Convolutions of several widths over states of width E, each a linear map of what is in its window.

    Args:
        width: E.
        maps: outputs of each convolution.
        widths: tokens that they read.
        dropout: of the outputs.
    """

    def __init__(self, width: int, maps: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.maps = nn.ModuleDict({str(size): nn.Linear(size * width, maps) for size in widths})
        self.reach = max(widths) - 1
        self.drop = nn.Dropout(dropout)

    def margins(self, causal: bool) -> tuple[int, int]:
        """How many tokens before and after its own the widest convolution reads."""
        after = 0 if causal else self.reach // 2
        return self.reach - after, after

    def forward(self, states: Tensor, segment_ids: Tensor, causal: bool) -> Tensor:
        """(B, T, D) from the states of a row and of its margins, (B, before + T + after, E).

        Args:
            states: of the row and its margins.
            segment_ids: (B, before + T + after), 0 where there is nothing.
            causal: whether windows end with the token itself.
        """
        before, after = self.margins(causal)
        length = states.shape[1] - before - after
        own = segment_ids[:, before : before + length]
        starts = range(before + after + 1)
        inside = torch.stack([segment_ids[:, start : start + length] == own for start in starts], dim=2)
        windows = torch.stack([states[:, start : start + length] for start in starts], dim=2) * inside.unsqueeze(-1)
        outputs = []
        for size, linear in zip(map(int, self.maps), self.maps.values(), strict=True):
            first = before - (size - 1 if causal else size // 2)
            outputs.append(linear(windows[:, :, first : first + size].flatten(2)))
        found: Tensor = self.drop(F.relu(torch.cat(outputs, dim=-1)))
        return found


class WindowCache:
    """The embeddings of the last tokens of the rows that a causal encoder has seen, for generation (without gradients).

    Attributes:
        states: (rows, reach, E): as many as the widest convolution looks back.
        segment_ids: (rows, reach), 0 where there was nothing yet.
        seen: number of positions.
    """

    def __init__(self, states: Tensor, segment_ids: Tensor) -> None:
        self.states, self.segment_ids = states, segment_ids
        self.seen = 0

    @property
    def empty(self) -> bool:
        """Whether nothing has been seen."""
        return self.seen == 0

    def extend(self, states: Tensor, segment_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Put the past before a row: states (rows, reach + T, E) and their segments, of which the last `reach` are kept."""
        self.seen += states.shape[1]
        length = states.shape[1]
        states = torch.cat([self.states, states], dim=1)
        segment_ids = torch.cat([self.segment_ids, segment_ids], dim=1)
        self.states, self.segment_ids = states[:, length:], segment_ids[:, length:]
        return states, segment_ids

    def select(self, rows: Tensor) -> None:
        """Keep these rows (N,), in this order; a row may be kept several times."""
        self.states, self.segment_ids = self.states[rows], self.segment_ids[rows]
