"""How well a method predicts text, and in which sense of predicting.

Three kinds of numbers that look alike and are not: a likelihood, a pseudo-likelihood (each token given all others, which
is no probability of the text), and a bound (a likelihood is at least as good). Their names differ, so that no table puts
one below another: `perplexity`, `pseudo_perplexity`, `perplexity_bound`.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_nlp.evaluation.result import Result

PSEUDO_TEXTS = 64  # texts whose tokens are masked in turn, which takes a forward pass for each token


def language_modelling(method: Any, texts: Sequence[str]) -> dict[str, Result]:
    """What a method, or each of its `objectives`, says of the probability of texts; nothing where none says anything.

    Args:
        method: with `likelihood`, and `validate_texts` or `pseudo_nll`; in evaluation mode.
        texts: at least one with a token.

    Returns:
        Results by the name of the evaluator: `language_modelling`, or `OBJECTIVE.language_modelling`.
    """
    objectives = getattr(method, "objectives", {})
    parts = {f"{name}.language_modelling": part for name, part in objectives.items()} or {"language_modelling": method}
    return {
        name: _result(part, list(texts))
        for name, part in parts.items()
        if getattr(part, "likelihood", None) is not None and texts
    }


def _result(method: Any, texts: list[str]) -> Result:
    kind = method.likelihood
    if kind == "pseudo-likelihood":
        asked = texts[:PSEUDO_TEXTS]
        nats, tokens = method.pseudo_nll(asked)
        rows = [torch.tensor(ids) for ids, _ in method.tokenizer.encode(asked)]
        return _pseudo(nats, tokens, asked, sum(int(method.maskable.cpu()[row].sum()) for row in rows))
    reported = method.validate_texts(texts)
    suffix = "" if kind == "likelihood" else "_bound"
    # The loss of a validation may be that of a sentence; here all kinds are given for a token.
    metrics = {"loss": math.log(reported["perplexity"])}
    metrics |= {name: reported[name] for name in ("perplexity", "bits_per_byte")}
    metrics = {f"{name}{suffix}": value for name, value in metrics.items()}
    return Result(f"bits_per_byte{suffix}", metrics, {"kind": kind, "texts": len(texts)})


def _pseudo(nats: Tensor, tokens: Tensor, texts: list[str], whole: int) -> Result:
    """Of what the encoder reads of each text. `whole` tokens are in all of the bytes: the rest is taken to be like it."""
    total, number = float(nats.double().sum()), max(int(tokens.sum()), 1)
    metrics = {
        "pseudo_loss": total / number,
        "pseudo_perplexity": math.exp(total / number),
        "pseudo_bits_per_byte": total / number * whole / math.log(2) / sum(len(text.encode()) for text in texts),
    }
    return Result("pseudo_bits_per_byte", metrics, {"kind": "pseudo-likelihood", "texts": len(texts)})
