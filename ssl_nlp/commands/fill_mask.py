"""`fill-mask`: the most probable tokens for each [MASK], or texts as a model fills them in."""

from collections.abc import Sequence

from ssl_nlp.commands.parser import run_function
from ssl_nlp.commands.text_lines import read_lines
from ssl_nlp.errors import UserError
from ssl_nlp.terminal import say


def main(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Run the command; it starts no processes that need `imports`."""
    run_function(fill_mask, "fill-mask", arguments)


def fill_mask(checkpoint: str, text: str | None = None, input: str | None = None, top_k: int | None = None) -> None:
    """Print the most probable tokens for each [MASK], or each text as a model fills it in.

    Args:
        checkpoint: a file that fit has written, such as runs/NAME/checkpoints/best.ckpt.
        text: a text with [MASK] in it.
        input: a text file, a text a line; default, without a text: standard input.
        top_k: how many tokens to print; default: 5. Not for a model that fills in whole texts, such as a
            MaskedDiffusion, or a SpanCorruption, whose [MASK] stands for any number of tokens.
    """
    from ssl_nlp.commands.model_classes import load_model
    from ssl_nlp.evaluation.capabilities import Infiller, MaskFiller

    if text is not None and input is not None:
        raise UserError("--text and --input both give texts: leave one out")
    texts = read_lines(input) if text is None else [text]
    method = load_model(checkpoint)
    kind = type(method).__name__

    def blank(line: str) -> bool:  # it stays one
        return text is None and not line.strip()

    if isinstance(method, Infiller):
        if top_k is not None:
            raise UserError(f"{kind} fills in whole texts and ranks no tokens: leave out --top_k")
        filled = iter(method.infill([asked for asked in texts if not blank(asked)]))
        for asked in texts:
            say(asked if blank(asked) else next(filled))
        return
    if not isinstance(method, MaskFiller):
        raise UserError(f"{checkpoint}: {kind} fills no masks: use one of a MaskedLM or a SpanCorruption")
    for asked in texts:
        found = [] if blank(asked) else method.fill_mask(asked, 5 if top_k is None else top_k)
        say(asked)
        for best in found:
            say("  " + "  ".join(f"{token.strip()} {probability:.3f}" for token, probability in best))
