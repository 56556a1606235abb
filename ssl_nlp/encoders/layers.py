"""The parts of `Transformer`: rotary positions, attention to a text and to a source, gated feed-forward, key-value cache.

Modules and weights have the names of ModernBERT in `transformers`, except that its two fused matrices are split.
"""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data.batch import TokenBatch


class AttentionMask(NamedTuple):
    """Which positions see which.

    Attributes:
        added: (B, 1, T or 1, S) or (T, S), added to the attention scores: 0 where a position sees another, else -inf.
            None: all see all, except as `is_causal` says.
        is_causal: whether a position sees only itself and what precedes it, which kernels know without a mask.
    """

    added: Tensor | None
    is_causal: bool


class KeyValueCache:
    """Keys and values of the positions that a causal encoder has seen, for generation (without gradients).

    Attributes:
        states: (layers, 2, B, heads, length, D / heads).
        segment_ids: (B, length).
        seen: number of positions that are filled.
        packed: whether any batch so far was packed, or padded on the left.
    """

    def __init__(self, states: Tensor) -> None:
        self.states = states
        self.segment_ids = torch.zeros(states.shape[2], states.shape[4], dtype=torch.long, device=states.device)
        self.seen = 0
        self.packed = False

    @property
    def empty(self) -> bool:
        """Whether nothing has been seen."""
        return self.seen == 0

    def begin(self, batch: TokenBatch) -> None:
        """Note the segments of the next positions.

        Raises:
            ValueError: there is no room for so many rows or positions, or rows are padded on the right.
        """
        rows, length = batch.input_ids.shape
        if rows != self.segment_ids.shape[0] or self.seen + length > self.segment_ids.shape[1]:
            room = (
                f"{self.segment_ids.shape[0]} rows of {self.segment_ids.shape[1]} positions, {self.seen} of them taken"
            )
            raise ValueError(f"{rows} x {length} tokens do not fit into a cache for {room}")
        if batch.padded and not batch.packed:
            raise ValueError("rows that are to be continued are padded on the left, and marked as packed")
        self.packed |= batch.packed
        self.segment_ids[:, self.seen : self.seen + length] = batch.segment_ids

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the newest keys and values (B, heads, T, D / heads) of a layer, and return all of them."""
        keys, values = self.states[layer, :, :, :, : self.seen + key.shape[2]].unbind(0)
        keys[:, :, self.seen :] = key
        values[:, :, self.seen :] = value
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keep these rows (N,) of the cache, in this order; a row may be kept several times."""
        if len(rows) == len(self.segment_ids):  # many rows of a beam search stay where they are
            moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
            self.states[:, :, moved, :, : self.seen] = self.states[:, :, rows[moved], :, : self.seen]
        else:
            kept = self.states.new_empty(*self.states.shape[:2], len(rows), *self.states.shape[3:])
            kept[..., : self.seen, :] = self.states[:, :, rows, :, : self.seen]
            self.states = kept
        self.segment_ids = self.segment_ids[rows]


class Source(NamedTuple):
    """B source texts of S tokens as a decoder reads them, the same at every step of writing.

    Attributes:
        layers: for each layer of the decoder, keys and values (B, heads, S, D / heads).
        mask: hides the padding.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: AttentionMask

    def select(self, texts: Tensor) -> "Source":
        """These texts (N,) alone, in this order."""
        added = None if self.mask.added is None else self.mask.added[texts]
        layers = tuple((keys[texts], values[texts]) for keys, values in self.layers)
        return Source(layers, AttentionMask(added, is_causal=False))


class Embeddings(nn.Module):
    def __init__(self, vocab_size: int, dim: int, pad_id: int, dropout: float) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocab_size, dim, padding_idx=pad_id)
        self.norm = nn.LayerNorm(dim, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor, added: Tensor | None) -> Tensor:
        states = self.tok_embeddings(input_ids)
        return self.drop(self.norm(states if added is None else states + added))


class Layer(nn.Module):
    """Attention and feed-forward, each on normed states and added to them. Embeddings reach the first one normed.

    With a `source_dim`, attention to a source text, whose states have this width, comes between the two
    (arXiv:1706.03762, section 3.1).
    """

    def __init__(
        self, dim: int, heads: int, hidden: int, dropout: float, index: int, source_dim: int | None = None
    ) -> None:
        super().__init__()
        self.index = index
        self.attn_norm = nn.LayerNorm(dim, bias=False) if index > 0 else nn.Identity()
        self.attn = Attention(dim, heads, dropout, index)
        if source_dim is not None:
            self.cross_norm = nn.LayerNorm(dim, bias=False)
            self.cross_attn = CrossAttention(dim, heads, dropout, source_dim)
        self.mlp_norm = nn.LayerNorm(dim, bias=False)
        self.mlp = GatedMLP(dim, hidden, dropout)

    def forward(
        self,
        states: Tensor,
        turn: Tensor,
        mask: AttentionMask,
        cache: KeyValueCache | None,
        source: Source | None = None,
    ) -> Tensor:
        states = states + self.attn(self.attn_norm(states), turn, mask, cache)
        if source is not None:
            states = states + self.cross_attn(self.cross_norm(states), *source.layers[self.index], source.mask)
        return states + self.mlp(self.mlp_norm(states))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, dropout: float, index: int) -> None:
        super().__init__()
        self.heads = heads
        self.index = index
        # Three matrices cost what one costs, and Muon orthogonalises each of them.
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.Wo = nn.Linear(dim, dim, bias=False)
        self.out_drop = nn.Dropout(dropout)

    def forward(self, states: Tensor, turn: Tensor, mask: AttentionMask, cache: KeyValueCache | None) -> Tensor:
        states = lowered(states)
        shape = (*states.shape[:-1], self.heads, -1)
        query = rotate(self.q_proj(states).view(shape), turn).transpose(1, 2)
        key = rotate(self.k_proj(states).view(shape), turn).transpose(1, 2)
        value = self.v_proj(states).view(shape).transpose(1, 2)
        if cache is not None:
            key, value = cache.extend(self.index, key, value)
        mixed = attend(query, key, value, mask)
        return self.out_drop(self.Wo(mixed.transpose(1, 2).flatten(-2)))


class CrossAttention(nn.Module):
    """Attention to the states of a source text. Positions of the two texts are not compared, so nothing is turned."""

    def __init__(self, dim: int, heads: int, dropout: float, source_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(source_dim, dim, bias=False)
        self.v_proj = nn.Linear(source_dim, dim, bias=False)
        self.Wo = nn.Linear(dim, dim, bias=False)
        self.out_drop = nn.Dropout(dropout)

    def read(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, S, D / heads) of source states (B, S, source_dim)."""
        source = lowered(source)
        shape = (*source.shape[:-1], self.heads, -1)
        return self.k_proj(source).view(shape).transpose(1, 2), self.v_proj(source).view(shape).transpose(1, 2)

    def forward(self, states: Tensor, keys: Tensor, values: Tensor, mask: AttentionMask) -> Tensor:
        """(B * K, T, D) from states of the same shape: K rows, one after the other, read the same of B sources."""
        states = lowered(states)
        query = self.q_proj(states).view(len(keys), -1, self.heads, states.shape[-1] // self.heads).transpose(1, 2)
        mixed = attend(query, keys, values, mask)
        return self.out_drop(self.Wo(mixed.transpose(1, 2).reshape(states.shape)))


def attend(query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask) -> Tensor:
    """Attention of (B, heads, T or S, D / heads). On CPUs in float32, several times faster than in bfloat16."""
    raised = query.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    dtype = torch.float32 if raised else value.dtype
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    added = None if mask.added is None else mask.added.to(dtype)
    with torch.autocast("cpu", enabled=False) if raised else nullcontext():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=added, is_causal=mask.is_causal)


def lowered(states: Tensor) -> Tensor:
    """States in the precision of autocast: cast once for all the matrix products that read them."""
    kind = states.device.type
    return states.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else states


class GatedMLP(nn.Module):
    """GeGLU (Shazeer 2020, "GLU Variants Improve Transformer", equation 6)."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        # Two matrices, because GELU on half the columns of one takes three times as long on a CPU.
        self.input_proj = nn.Linear(dim, hidden, bias=False)
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.Wo = nn.Linear(hidden, dim, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        states = lowered(states)
        return self.Wo(self.drop(F.gelu(self.input_proj(states)) * self.gate_proj(states)))


def rotary_table(length: int, head_dim: int, theta: float) -> Tensor:
    """(length, head_dim / 2, 2) float32: cosine and sine of every position's angles (Su et al. 2021, equation 34).

    Coordinates 2i and 2i + 1 are a pair, which turns by position * theta^(-2i / head_dim).
    """
    speed = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), speed)
    return torch.stack((angle.cos(), angle.sin()), dim=-1)


def rotate(states: Tensor, turn: Tensor) -> Tensor:
    """Queries or keys (B, T, heads, D / heads) turned by `turn` (T, heads, D / heads / 2, 2), float32.

    A pair of coordinates is a complex number: one product of those is faster than four real ones.
    """
    pairs = states.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # A compiler fuses real numbers only.
        (x, y), (cos, sin) = pairs.unbind(-1), turn.unbind(-1)
        turned = torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turn))
    return turned.flatten(-2)
