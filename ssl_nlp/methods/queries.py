"""Tokens to predict, each from a row of its own: with later tokens left out, or with some tokens masked."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ssl_nlp.data.units import pad_rows
from ssl_nlp.modules.heads import LanguageModelHead

if TYPE_CHECKING:
    from ssl_nlp.methods.base import Method


class Query(NamedTuple):
    """A token to predict.

    Attributes:
        row: the tokens that the model reads.
        place: of the state that predicts it.
        target: the token.
    """

    row: tuple[int, ...]
    place: int
    target: int


def masked(row: Sequence[int], place: int, stop: int, mask_id: int, shift: int = 0) -> Query:
    """The token at `place`, given all others but those between it and `stop`.

    Args:
        row: the tokens of a text.
        place: of the token.
        stop: the place of the first token after it that is not masked.
        mask_id: the mask.
        shift: how many positions before the mask the state stands that predicts the token.
    """
    return Query((*row[:place], *[mask_id] * (stop - place), *row[stop:]), place - shift, row[place])


@torch.no_grad()
def query_nats(
    method: "Method", head: LanguageModelHead, queries: Sequence[Query], batch_size: int, causal: bool
) -> Tensor:
    """(Q,) float64 on the CPU: the negative log-probability of each target.

    Args:
        method: a language model in evaluation mode.
        head: from its states to tokens.
        queries: Q of them. Those with the same row share its states.
        batch_size: rows that are computed together, of similar lengths.
        causal: whether a position of a row sees only what precedes it.
    """
    wanted: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, query in enumerate(queries):
        wanted[query.row].append(number)
    rows = sorted(wanted, key=len)
    nats = torch.zeros(len(queries), dtype=torch.float64)
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        batch = pad_rows(some, None, method.tokenizer, method.encoder.max_length).to(method.device)
        hidden = method.states(replace(batch, causal=causal))
        numbers = [number for row in some for number in wanted[row]]
        lines = [line for line, row in enumerate(some) for _ in wanted[row]]
        asked = torch.tensor([lines, *zip(*(queries[number][1:] for number in numbers), strict=True)])
        line, place, target = asked.to(method.device)
        nats[numbers] = head.losses(hidden[line, place], target).double().cpu()
    return nats
