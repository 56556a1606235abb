"""Compare a stock model with ours before anything is written."""

from dataclasses import replace

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch, Tokenizer
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
    inputs = _inputs(rows, module)
    base = stock.model.base_model(**inputs)
    compared = [(inputs, base.last_hidden_state, stock.states(rows.to(module.device)))]
    if stock.logits is not None:
        if getattr(module, "pairs", False):
            rows = replace(rows, pair=_draw(module, generator))
        inputs = _inputs(rows, module)
        output = stock.model(**inputs)
        theirs = output.logits if "logits" in output else torch.stack([output.start_logits, output.end_logits], dim=-1)
        compared.append((inputs, theirs, stock.logits(rows.to(module.device))))
    for inputs, theirs, ours in compared:
        places = inputs["attention_mask"] > 0 if theirs.ndim == 3 else slice(None)
        if not torch.allclose(theirs[places], ours[places].float().cpu(), rtol=TOLERANCE, atol=TOLERANCE):
            raise UserError(
                f"the exported {type(stock.model).__name__} does not reproduce the outputs of this "
                f"{type(module).__name__}: please report this, and export it with --format onnx"
            )


def _draw(module: TextModule, generator: torch.Generator) -> TokenBatch:
    """Two rows of random tokens, one of them padded."""
    length = min(12, module.encoder.max_length // 2)
    known = torch.tensor(sorted({*range(module.vocab_size)} - {*module.tokenizer.special_ids}))
    ids = known[torch.randint(len(known), (2, length), generator=generator)]
    segments = torch.ones_like(ids)
    segments[1, (length + 1) // 2 :] = 0
    return TokenBatch(torch.where(segments > 0, ids, module.tokenizer.pad_id), segments, packed=False)


def _inputs(rows: TokenBatch, module: TextModule) -> dict[str, Tensor]:
    """The arguments of a stock model for rows, or for their pairs."""
    if rows.pair is None:
        return {"input_ids": rows.input_ids, "attention_mask": rows.segment_ids}
    together, parts = joined(rows, module.tokenizer)
    inputs = {"input_ids": together.input_ids, "attention_mask": together.segment_ids}
    return inputs if module.encoder.part_embedding is None else inputs | {"token_type_ids": parts}


def joined(batch: TokenBatch, tokenizer: Tokenizer) -> tuple[TokenBatch, Tensor]:
    """The pairs of a batch as tasks read them, one a row, and the part (B, T) of each token."""
    own = torch.arange(len(batch), device=batch.input_ids.device)
    drop = len(tokenizer.prefix) if tokenizer.suffix else 0
    return join_pairs(batch, Pairing(own, own + len(batch), own >= 0), tokenizer.pad_id, drop)
