"""`score`: how likely texts are."""

import json
import math
import sys
from collections.abc import Sequence

from ssl_nlp.commands.parser import run_function
from ssl_nlp.commands.text_lines import read_lines
from ssl_nlp.errors import UserError
from ssl_nlp.objectives.scores import Likelihood
from ssl_nlp.terminal import say


def main(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Run the command; it starts no processes that need `imports`."""
    run_function(score, "score", arguments)


def score(checkpoint: str, input: str | None = None, kind: Likelihood | None = None) -> None:
    """Print how likely each text is, as a line of JSON: nats, tokens, bits per byte, and the kind of likelihood.

    Line i belongs to text i; the fewer bits, the likelier. The kinds cannot be compared with each other: the likelihood; a
    bound of it from random draws, which holds for the mean over many texts; a pseudo-likelihood, of each token given all
    others. If the model reads only the beginning of a text, nats and tokens cover that part alone, bits per byte assume
    that the rest is like it, and a line on standard error says how many texts this concerns. Bits per byte include
    the spelling of unknown tokens; an empty text has none: null. Where the nats of a MaskedDiffusion are estimated from
    random draws, `nats_se` is their standard error.

    Args:
        checkpoint: a file that fit has written, such as runs/NAME/checkpoints/best.ckpt.
        input: a text file, a text a line; default: standard input.
        kind: of likelihood, for models that give several (CausalMaskedLM, BidirectionalLM); default: the first of them.
    """
    import torch

    from ssl_nlp.commands.model_classes import load_model
    from ssl_nlp.evaluation.capabilities import Scorer, SeveralScorer, Speller, lacks

    texts = read_lines(input)
    model = load_model(checkpoint)
    if reason := lacks(model, Scorer):
        raise UserError(f"{checkpoint}: {reason}: use a run of a language model, such as CausalLM")
    assert isinstance(model, Scorer)
    if kind in (None, model.likelihood):
        scores = model.score(texts)
    elif isinstance(model, SeveralScorer):
        scores = model.score(texts, kind=kind)
    else:
        raise UserError(f"{checkpoint}: {type(model).__name__} gives a {model.likelihood}: leave out --kind")
    if cut := int(scores.cut.sum()):
        said = f"{cut:,} of {len(texts):,} texts are longer than the model reads: only their beginning is scored"
        say(f"ssl-nlp: {said}", sys.stderr)
    spelled = model.spelling(texts) if isinstance(model, Speller) else torch.zeros(len(texts))
    columns = (column.tolist() for column in (scores.nats, scores.targets, scores.all_targets, spelled))
    errors = None if scores.variances is None else scores.variances.sqrt().tolist()
    for number, (text, nats, tokens, all_tokens, spelling) in enumerate(zip(texts, *columns, strict=True)):
        whole = (nats * all_tokens / tokens + spelling) / math.log(2) if tokens else None
        bits = whole / len(text.encode()) if text and whole is not None else None
        line = {"nats": nats, "tokens": tokens, "bits_per_byte": bits, "kind": scores.kind}
        say(json.dumps(line if errors is None else line | {"nats_se": errors[number]}))
