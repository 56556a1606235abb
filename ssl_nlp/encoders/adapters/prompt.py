"""Prompt tuning: learned vectors in front of every text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.errors import UserError, refuse

if TYPE_CHECKING:
    from ssl_nlp.encoders.base import Encoder


@dataclass(frozen=True)
class PromptTuning(Adapter):
    """Put learned vectors in front of the token embeddings of every text (Lester et al., arXiv:2104.08691).

    They begin as the embeddings of random tokens (section 3.2). The encoder returns the states of the text alone. Rows
    must not be packed, and may be shorter by `length` tokens.

    Args:
        length: number of vectors.
    """

    length: int = 20
    mergeable = False

    def __post_init__(self) -> None:
        refuse({f"length must be 1 or more, not {self.length}": self.length < 1}, "encoder.adapter")

    def _create(self, encoder: "Encoder") -> None:
        if self.length >= encoder.max_length:
            raise UserError(
                f"encoder.adapter: a prompt of {self.length} leaves no room in rows of {encoder.max_length} tokens: "
                "lower its length"
            )
        words = encoder.embedding.weight
        drawn = torch.randint(len(words), (self.length,), device=words.device)
        encoder.prompt = nn.Embedding.from_pretrained(words[drawn].detach().clone(), freeze=False)
        encoder.prompt_length = self.length
        encoder.max_length -= self.length
        # Functions rather than methods, so that a copy of the encoder has its own prompt.
        encoder.register_forward_pre_hook(prepend, with_kwargs=True)
        encoder.register_forward_hook(drop, with_kwargs=True)

    def _remove(self, encoder: "Encoder", merge: bool) -> None:
        if merge:
            raise UserError(
                "PromptTuning changes the input of the encoder and cannot be merged into its weights: use LoRA, AdaLoRA "
                "or IA3"
            )
        for hooks, own in ((encoder._forward_pre_hooks, prepend), (encoder._forward_hooks, drop)):
            for number in [number for number, hook in hooks.items() if hook is own]:
                del hooks[number]
        del encoder.prompt
        encoder.max_length += self.length
        encoder.prompt_length = 0


@dataclass(eq=False)
class Prompted(TokenBatch):
    """A batch with room for a prompt in front of each text.

    Attributes:
        places: (B, T) int64, the columns of the original batch; None: the last T ones.
    """

    places: Tensor | None = None


def prepend(
    encoder: "Encoder", args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The hook before `Encoder.forward`: make room for the prompt, and put it there through `added`.

    Raises:
        UserError: documents share rows.
    """
    given = kwargs | dict(zip(("batch", "cache", "added"), args, strict=False))
    batch, cache, added = given.pop("batch"), given.pop("cache", None), given.pop("added", None)
    if cache is not None and not cache.empty:
        return args, kwargs
    if batch.packed and cache is None:
        raise UserError("PromptTuning needs each document in a row of its own: set data.unit to sentence")
    prompt = encoder.prompt.weight - encoder.embedding.weight[encoder.pad_id]  # which the encoder will add again
    rows, columns = batch.input_ids.shape
    length = len(prompt)
    ids = torch.cat([batch.input_ids.new_full((rows, length), encoder.pad_id), batch.input_ids], dim=1)
    segments = torch.cat([torch.ones_like(ids[:, :length]), batch.segment_ids], dim=1)
    front = prompt.expand(rows, -1, -1)
    text = prompt.new_zeros(rows, columns, prompt.shape[1]) if added is None else added.expand(rows, columns, -1)
    vectors = torch.cat([front, text], dim=1)
    places = None
    if batch.packed:  # padded on the left: the prompt follows the padding
        padding = (batch.segment_ids == 0).sum(dim=1, keepdim=True)
        index = torch.arange(length + columns, device=ids.device).expand(rows, -1)
        source = torch.where(
            index < padding, index + length, torch.where(index < padding + length, index - padding, index)
        )
        ids, segments = ids.gather(1, source), segments.gather(1, source)
        vectors = vectors.gather(1, source[:, :, None].expand_as(vectors))
        index = index[:, :columns]
        places = torch.where(index < padding, index, index + length)
    prompted = Prompted(
        ids,
        segments,
        packed=batch.packed,
        padded=batch.padded,
        n_tokens=batch.n_tokens,
        causal=batch.causal,
        places=places,
    )
    return (prompted, cache, vectors, *args[3:]), given


def drop(encoder: "Encoder", args: tuple[Any, ...], kwargs: dict[str, Any], states: Tensor) -> Tensor:
    """The hook after `Encoder.forward`: leave out the states of the prompt."""
    batch = args[0] if args else None
    if not isinstance(batch, Prompted):
        return states
    if batch.places is None:
        return states[:, encoder.prompt_length :]
    return states.gather(1, batch.places[:, :, None].expand(-1, -1, states.shape[2]))
