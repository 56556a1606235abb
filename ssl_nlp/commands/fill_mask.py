"""`fill-mask`: the most probable tokens for each [MASK], or texts as a model fills them in."""

from collections.abc import Sequence

from ssl_nlp.commands.parser import run_function
from ssl_nlp.commands.text_lines import given_texts
from ssl_nlp.errors import UserError
from ssl_nlp.terminal import say


def main(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Run the command; it starts no processes that need `imports`."""
    run_function(fill_mask, "fill-mask", arguments)


def fill_mask(
    checkpoint: str,
    text: str | None = None,
    input: str | None = None,
    top_k: int | None = None,
    seed: int | None = None,
    steps: int | None = None,
) -> None:
    """Print the most probable tokens for each [MASK], or each text as a model fills it in.

    Args:
        checkpoint: a file that fit has written, such as runs/NAME/checkpoints/best.ckpt.
        text: a text with [MASK] in it.
        input: a text file, a text a line; default, without a text: standard input.
        top_k: how many tokens to print; default: 5. Not for a model that fills in whole texts, such as a
            MaskedDiffusion, or a SpanCorruption, whose [MASK] stands for any number of tokens.
        seed: makes what a MaskedDiffusion draws reproducible.
        steps: the most passes of a MaskedDiffusion through the encoder: fewer are faster and worse; default: one for each
            missing token.
    """
    from ssl_nlp.commands.model_classes import load_model
    from ssl_nlp.evaluation.capabilities import Infiller, MaskFiller
    from ssl_nlp.methods import MaskedDiffusion

    texts = given_texts("--text", text, input)
    method = load_model(checkpoint)
    kind = type(method).__name__
    if not isinstance(method, (Infiller, MaskFiller)):
        raise UserError(
            f"{checkpoint}: {kind} fills no masks: use a run of MaskedLM, MaskedDiffusion or SpanCorruption"
        )
    if not isinstance(method, MaskedDiffusion) and (seed is not None or steps is not None):
        raise UserError(f"{kind} fills masks without drawing: leave out --seed and --steps")

    def blank(line: str) -> bool:  # it stays one
        return text is None and not line.strip()

    if isinstance(method, Infiller):
        if top_k is not None:
            raise UserError(f"{kind} fills in whole texts and ranks no tokens: leave out --top_k")
        gaps = [asked for asked in texts if not blank(asked)]
        if isinstance(method, MaskedDiffusion):
            filled = iter(method.infill(gaps, steps=steps, seed=seed))
        else:
            filled = iter(method.infill(gaps))
        for asked in texts:
            say(asked if blank(asked) else next(filled))
        return
    for asked in texts:
        found = [] if blank(asked) else method.fill_mask(asked, 5 if top_k is None else top_k)
        say(asked)
        for best in found:
            say("  " + "  ".join(f"{token.strip()} {probability:.3f}" for token, probability in best))
