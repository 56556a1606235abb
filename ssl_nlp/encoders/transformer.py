"""One Transformer, causal or bidirectional, with the architecture of ModernBERT.

Pre-norm, rotary positions, gated GELU, no biases: Warner et al. 2024, "Smarter, Better, Faster, Longer: A Modern
Bidirectional Encoder", section 2.1; its causal twin is Weller et al. 2025, "Seq vs Seq". `to_transformers` gives the
model of the `transformers` package with the same weights.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.encoders.adapters.merging import merged
from ssl_nlp.encoders.base import Encoder, Frozen
from ssl_nlp.encoders.layers import AttentionMask, Embeddings, KeyValueCache, Layer, Source, rotary_table
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from transformers import ModernBertDecoderModel, ModernBertModel

Size = Literal["tiny", "small", "medium", "base", "large"]

PRESETS: dict[Size, dict[str, int]] = {
    "tiny": {"layers": 4, "dim": 128, "heads": 4},
    "small": {"layers": 6, "dim": 256, "heads": 4},
    "medium": {"layers": 8, "dim": 512, "heads": 8},
    "base": {"layers": 12, "dim": 768, "heads": 12},
    "large": {"layers": 24, "dim": 1024, "heads": 16},
}


class Transformer(Encoder):
    """A stack of attention and gated feed-forward layers.

    Args:
        size: a preset of layers, dim and heads: tiny 4 x 128, small 6 x 256, medium 8 x 512, base 12 x 768 (like
            BERT-base), large 24 x 1024. The next three arguments override it. None: they are all given.
        dim: width D of the hidden states.
        layers: number of layers.
        heads: attention heads per layer; dim / heads must be even.
        hidden: width of the gated feed-forward layer, by default 8/3 dim rounded up to a multiple of 8, which gives it
            as many weights as a plain one of width 4 dim.
        max_length: the longest row.
        window: reach of the sliding-window layers. A bidirectional layer sees `window` tokens to either side, a causal
            one `window` tokens including its own (in `transformers`: `local_attention` = 2 window). None: no layer has a
            window.
        global_every: with a window, the layers 0, global_every, 2 global_every, ... still see everything.
        dropout: of embeddings, attention outputs and feed-forward activations. Attention weights have none, so that
            fused attention kernels can be used.
        rope_theta: base of the rotary wavelengths.
        freeze: which part keeps its weights in training, and has no dropout: `all`, `embeddings`, or a number N for the
            embeddings and the first N layers. null: every part is trained.
        adapter: few parameters that are trained instead of the encoder's own.
        embedding_from: a run, a .ckpt file or a file of word vectors, whose vectors the token embedding begins with, for
            those tokens that are words and have one there.

    Attributes:
        source_dim: width of the states of a source text that every layer attends to, for decoders, which set it before
            `build`; None: there is no source.

    Raises:
        UserError: arguments are invalid; all of them are listed in one line.
    """

    source_dim: int | None = None

    def __init__(
        self,
        size: Size | None = "small",
        dim: int | None = None,
        layers: int | None = None,
        heads: int | None = None,
        hidden: int | None = None,
        max_length: int = 1024,
        window: int | None = None,
        global_every: int = 3,
        dropout: float = 0.0,
        rope_theta: float = 10000.0,
        freeze: Frozen | int | None = None,
        adapter: Adapter | None = None,
        embedding_from: str | None = None,
    ) -> None:
        super().__init__(freeze, adapter, embedding_from)
        self._hparams = {
            "size": size, "dim": dim, "layers": layers, "heads": heads, "hidden": hidden, "max_length": max_length,
            "window": window, "global_every": global_every, "dropout": dropout, "rope_theta": rope_theta,
        }  # fmt: skip
        if size is not None and size not in PRESETS:
            raise UserError(f"encoder size {size!r} is unknown: use one of {', '.join(get_args(Size))}")
        preset = PRESETS[size] if size is not None else {}
        shape = preset | {k: v for k, v in {"layers": layers, "dim": dim, "heads": heads}.items() if v is not None}
        if missing := {"layers", "dim", "heads"} - shape.keys():
            raise UserError(f"an encoder without a size needs {', '.join(sorted(missing))}: give them, or a size")
        self.depth, self.dim, self.heads = shape["layers"], shape["dim"], shape["heads"]
        self.hidden = hidden if hidden is not None else -(-8 * self.dim // 3 // 8) * 8
        self.max_length = max_length
        self.window = window
        self.global_every = global_every
        self.dropout = dropout
        self.rope_theta = rope_theta
        self._check()

    def _check(self) -> None:
        counts = {"layers": self.depth, "dim": self.dim, "heads": self.heads, "hidden": self.hidden}
        counts |= {"max_length": self.max_length, "global_every": self.global_every}
        if self.window is not None:
            counts["window"] = self.window
        problems = [f"{name} must be at least 1, not {value}" for name, value in counts.items() if value < 1]
        if self.dim >= 1 and self.heads >= 1:
            if self.dim % self.heads:
                problems.append(f"dim {self.dim} is not divisible by {self.heads} heads")
            elif self.dim // self.heads % 2:
                problems.append(f"dim {self.dim} / heads {self.heads} is odd, but rotary positions turn pairs")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout must be at least 0 and less than 1, not {self.dropout}")
        if not 0 < self.rope_theta < math.inf:
            problems.append(f"rope_theta must be positive, not {self.rope_theta}")
        if problems:
            raise UserError("encoder: " + "; ".join(problems))

    def _create(self) -> None:
        self.embeddings = Embeddings(self.vocab_size, self.dim, self.pad_id, self.dropout)
        shape = (self.dim, self.heads, self.hidden, self.dropout)
        self.layers = nn.ModuleList(Layer(*shape, index, self.source_dim) for index in range(self.depth))
        self.final_norm = nn.LayerNorm(self.dim, bias=False)
        self.rotary: Tensor
        table = rotary_table(self.max_length, self.dim // self.heads, self.rope_theta)
        self.register_buffer("rotary", table, persistent=False)
        outputs = 2 if self.source_dim is None else 3  # of a layer, from its `Wo`s; their sum is the residual stream
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = 0.02 / math.sqrt(outputs * self.depth) if name.endswith("Wo.weight") else 0.02
                nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    @property
    def embedding(self) -> nn.Embedding:
        return self.embeddings.tok_embeddings

    def hparams(self) -> dict[str, Any]:
        return {**self._hparams, "freeze": self.freeze, "adapter": self.adapter}

    def forward(
        self,
        batch: TokenBatch,
        cache: KeyValueCache | None = None,
        added: Tensor | None = None,
        source: Source | None = None,
    ) -> Tensor:
        start, length = cache.seen if cache is not None else 0, batch.input_ids.shape[1]
        self._check_length(start + length)
        causal = self.causal if batch.causal is None else batch.causal
        if cache is not None:
            if not causal:
                raise UserError("a bidirectional encoder cannot continue a text: a key-value cache needs a causal one")
            cache.begin(batch)
        turn = self._turn(start, length)
        full, local = self._masks(batch, cache, causal)
        states = self.embeddings(batch.input_ids, added)
        for index, layer in enumerate(self.layers):
            states = layer(states, turn, local if self._is_local(index) else full, cache, source)
        if cache is not None:
            cache.seen += length
        return self.final_norm(states)

    def read(self, states: Tensor, batch: TokenBatch) -> Source:
        """The source that the layers attend to, from its states (B, S, source_dim) and its tokens, one text a row."""
        added = self._mask(batch.is_text[:, None, :], is_causal=False).added if batch.padded else None
        return Source(tuple(layer.cross_attn.read(states) for layer in self.layers), AttentionMask(added, False))  # type: ignore[operator, union-attr]  # its layers have one

    def new_cache(self, rows: int, length: int) -> KeyValueCache:
        length += self.prompt_length
        self._check_length(length)
        size = (self.depth, 2, rows, self.heads, length, self.dim // self.heads)
        return KeyValueCache(torch.empty(size, dtype=self._attention_dtype(), device=self.embedding.weight.device))

    def _is_local(self, index: int) -> bool:
        return self.window is not None and index % self.global_every > 0

    def _attention_dtype(self) -> torch.dtype:
        weight = self.final_norm.weight
        kind = weight.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype

    def _turn(self, start: int, length: int) -> Tensor:
        """(T, heads, D / heads / 2, 2) float32: how far the columns from `start` on turn queries and keys.

        Columns serve as positions, also where several documents share a row: scores depend on the distance of two
        positions alone (Su et al. 2021, equation 16), which is the same as if each document began at 0.
        """
        # Repeated for every head, because products of whole rows are twice as fast on a CPU.
        turn = self.rotary[start : start + length].float().unsqueeze(1)
        return turn.expand(-1, self.heads, -1, -1).contiguous()

    def _masks(
        self, batch: TokenBatch, cache: KeyValueCache | None, causal: bool
    ) -> tuple[AttentionMask, AttentionMask]:
        """The masks of layers without and with a window, empty as far as an attention kernel needs none."""
        start, length = cache.seen if cache is not None else 0, batch.input_ids.shape[1]
        total = start + length
        packed = cache.packed if cache is not None else batch.packed
        # Rows that are not packed are padded on the right, where causal attention does not look.
        padded = batch.padded and not causal
        window = self.window
        # A window that covers the whole row is not needed. An exported graph serves rows of any length.
        if window is not None and not torch.compiler.is_exporting() and window >= total - (not causal):
            window = None
        index = torch.arange(total, device=batch.input_ids.device)

        seen: Tensor | None = None
        if packed or (padded and window is not None):
            # Padding sees padding: the softmax of a position that sees nothing would be undefined.
            keys = cache.segment_ids[:, :total] if cache is not None else batch.segment_ids
            seen = batch.segment_ids[:, :, None] == keys[:, None, :]
        elif padded:
            seen = (batch.is_text | (index == 0))[:, None, :]

        full = seen
        if causal and (packed or (start > 0 and length > 1)):
            full = _and(seen, index[start:, None] >= index)
        local = full
        if window is not None:
            distance = index[start:, None] - index
            near = (distance >= 0) & (distance < window) if causal else distance.abs() <= window
            local = _and(seen, near)
        mask = self._mask(full, causal and start == 0)
        return mask, mask if local is full else self._mask(local, causal and start == 0)

    def _mask(self, seen: Tensor | None, is_causal: bool) -> AttentionMask:
        if seen is None:
            return AttentionMask(None, is_causal)
        # Attention would turn a boolean mask into an additive one in every layer.
        mask = torch.zeros(seen.shape, dtype=self._attention_dtype(), device=seen.device)
        mask.masked_fill_(~seen, -math.inf)
        return AttentionMask(mask.unsqueeze(1) if mask.dim() == 3 else mask, is_causal=False)

    def to_transformers(self) -> "ModernBertModel | ModernBertDecoderModel":
        """The model of `transformers` with these weights, on the CPU; `ModernBertDecoderModel` if causal.

        It is in evaluation mode. An encoder knows only one special token, padding; its id replaces those that must not be
        None. An adapter is merged.

        Raises:
            UserError: the adapter cannot be merged.
        """
        if self.adapter is not None:
            return merged(self).to_transformers()
        from transformers import ModernBertConfig, ModernBertDecoderConfig, ModernBertDecoderModel, ModernBertModel

        rope = {"rope_type": "default", "rope_theta": self.rope_theta}
        values: dict[str, Any] = {
            "vocab_size": self.vocab_size, "hidden_size": self.dim, "intermediate_size": self.hidden,
            "num_hidden_layers": self.depth, "num_attention_heads": self.heads,
            "max_position_embeddings": self.max_length,
            "layer_types": ["sliding_attention" if self._is_local(i) else "full_attention" for i in range(self.depth)],
            "rope_parameters": {"full_attention": dict(rope), "sliding_attention": dict(rope)},
            "embedding_dropout": self.dropout, "attention_dropout": self.dropout, "mlp_dropout": self.dropout,
            "pad_token_id": self.pad_id, "bos_token_id": self.pad_id, "cls_token_id": self.pad_id,
            "sep_token_id": self.pad_id, "eos_token_id": None,
        }  # fmt: skip
        if self.window is not None:
            values["local_attention"] = 2 * self.window
        model: ModernBertModel | ModernBertDecoderModel
        if self.causal:
            model = ModernBertDecoderModel(ModernBertDecoderConfig(**values))
        else:
            model = ModernBertModel(ModernBertConfig(**values))
        weights = self.state_dict()
        linear = [name for name, part in self.named_modules() if isinstance(part, nn.Linear)]
        for name, parts in self.stock_parts(linear).items():
            rows = [self.stock_rows(part, weights.pop(f"{part}.weight")) for part in parts]
            weights[f"{name}.weight"] = torch.cat(rows)
        model.load_state_dict(weights)
        return model.eval()

    def stock_parts(self, names: Sequence[str]) -> dict[str, list[str]]:
        fused = {"mlp.Wi": ["mlp.input_proj", "mlp.gate_proj"]}
        if not self.causal:
            fused["attn.Wqkv"] = ["attn.q_proj", "attn.k_proj", "attn.v_proj"]
        wholes: dict[str, list[str]] = {}
        for name in names:
            layer, part = name.rsplit(".", 2)[0], ".".join(name.rsplit(".", 2)[1:])
            whole = next((whole for whole, parts in fused.items() if part in parts), None)
            wholes[f"{layer}.{whole or part}"] = [f"{layer}.{part}" for part in fused.get(whole or "", [part])]
        return wholes

    def stock_rows(self, name: str, rows: Tensor) -> Tensor:
        if not name.endswith((".attn.q_proj", ".attn.k_proj")):
            return rows
        # Pairs are neighbours here, but half a head apart in `transformers`.
        return rows.unflatten(0, (self.heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _and(seen: Tensor | None, other: Tensor) -> Tensor:
    return other if seen is None else seen & other
