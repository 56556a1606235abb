"""Compare a stock model with ours before anything is written."""

from dataclasses import replace
from typing import Any

import torch

from ssl_nlp.data import TokenBatch
from ssl_nlp.errors import UserError
from ssl_nlp.export.stock import StockModel
from ssl_nlp.objectives.pairs import Pairing, join_pairs
from ssl_nlp.training.texts import TextModule

TOLERANCE = 1e-4
"""The largest difference of states and logits from ours, where these are of the order of 1."""


@torch.no_grad()
def check(stock: StockModel, module: TextModule) -> None:
    """Compare states and logits on two rows of random tokens, or on two pairs of them.

    Raises:
        UserError: they differ, so that nothing should be exported.
    """
    generator = torch.Generator().manual_seed(0)
    rows = _draw(module, generator)
    compared = [(stock.model.base_model(**_inputs(rows)).last_hidden_state, stock.states(rows.to(module.device)))]
    if stock.logits is not None:
        if getattr(module, "pairs", False):
            rows = replace(rows, pair=_draw(module, generator))
        output = stock.model(**_inputs(rows, len(module.tokenizer.prefix) if module.tokenizer.suffix else 0))
        theirs = output.logits if "logits" in output else torch.stack([output.start_logits, output.end_logits], dim=-1)
        compared.append((theirs, stock.logits(rows.to(module.device))))
    for theirs, ours in compared:
        places = rows.is_text if theirs.ndim == 3 else slice(None)
        if not torch.allclose(theirs[places], ours[places].float().cpu(), rtol=TOLERANCE, atol=TOLERANCE):
            raise UserError(
                f"the {type(stock.model).__name__} made from this {type(module).__name__} gives other numbers than it: "
                "please report this, and export it with --format onnx"
            )


def _draw(module: TextModule, generator: torch.Generator) -> TokenBatch:
    """Two rows of random tokens, one of them padded."""
    length = min(12, module.encoder.max_length // 2)
    known = torch.tensor(sorted({*range(module.vocab_size)} - {*module.tokenizer.special_ids}))
    ids = known[torch.randint(len(known), (2, length), generator=generator)]
    segments = torch.ones_like(ids)
    segments[1, (length + 1) // 2 :] = 0
    return TokenBatch(torch.where(segments > 0, ids, module.tokenizer.pad_id), segments, packed=False)


def _inputs(rows: TokenBatch, drop: int = 0) -> dict[str, Any]:
    """The arguments of a stock model for rows; pairs are joined without the first `drop` tokens of the second text."""
    if rows.pair is None:
        return {"input_ids": rows.input_ids, "attention_mask": rows.segment_ids}
    own = torch.arange(len(rows))
    joined, parts = join_pairs(rows, Pairing(own, own + len(rows), own >= 0), pad_id=0, drop=drop)
    return {"input_ids": joined.input_ids, "attention_mask": joined.segment_ids, "token_type_ids": parts}
