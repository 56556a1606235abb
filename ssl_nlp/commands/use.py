"""`embed`, `generate` and `fill-mask`: a checkpoint at work on text."""

import io
import sys
import warnings
from pathlib import Path

import numpy as np

from ssl_nlp import durable
from ssl_nlp.commands.parser import CommandParser, check_writable
from ssl_nlp.corpora.readers import decoded_lines
from ssl_nlp.errors import UserError
from ssl_nlp.terminal import say


def run_command(command: str, arguments: list[str]) -> None:
    """Run one of the commands on its arguments.

    Raises:
        UserError: a mistake of the user's.
    """
    function = {"embed": embed, "generate": generate, "fill-mask": fill_mask}[command]
    parser = CommandParser(prog=f"ssl-nlp {command}", description=(function.__doc__ or "").split("\n")[0])
    parser.add_function_arguments(function)
    function(**parser.parse_args(arguments).as_dict())


def embed(checkpoint: str, output: str, input: str | None = None, batch_size: int = 64) -> None:
    """Write the embeddings of texts, one a line, as a NumPy file of (N, D) float32.

    Row i is that of line i. Only LF and CR LF end a line, and a blank line is an empty text. How many texts were cut,
    because they are longer than what the encoder reads, is said on standard error.

    Args:
        checkpoint: a file that fit has written, such as runs/NAME/checkpoints/best.ckpt.
        output: the .npy file to write; one that exists is not overwritten.
        input: a text file; default: standard input.
        batch_size: texts at a time.
    """
    from ssl_nlp.methods import Method
    from ssl_nlp.methods.base import TextsCut

    target = Path(output)
    if target.suffix != ".npy":
        raise UserError(f"--output {output} is not a .npy file: name one")
    if target.exists():
        raise UserError(f"--output {output} exists: name another file or move it away")
    check_writable(f"--output {output}", target)
    lines = _lines(input)
    method = Method.load_from_checkpoint(checkpoint)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TextsCut)
        embeddings = method.embed(lines, batch_size)
    for warning in caught:
        say(f"ssl-nlp: {warning.message}", sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    with durable.replacing(target) as file:
        np.save(file, embeddings.numpy())
    say(f"{output}: {embeddings.shape[0]} embeddings of width {embeddings.shape[1]}")


def generate(
    checkpoint: str,
    prompt: str | None = None,
    input: str | None = None,
    number: int | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = 0.95,
    seed: int | None = None,
) -> None:
    """Print prompts as a CausalLM continues them, or sentences that a VAE draws from its prior.

    Args:
        checkpoint: a file that fit has written, such as runs/NAME/checkpoints/best.ckpt.
        prompt: the text to continue; may be empty. For a CausalLM only.
        input: a text file with a prompt a line; default, without a prompt: standard input. For a CausalLM only.
        number: how many sentences to draw; default: 5. For a VAE only.
        max_new_tokens: the longest continuation or sentence.
        temperature: divides the logits; 0 takes the most probable token every time.
        top_k: sample from the k most probable tokens only.
        top_p: sample from the smallest set of tokens with at least this probability.
        seed: makes the samples reproducible.
    """
    from ssl_nlp.methods import VAE, CausalLM, Method

    method = Method.load_from_checkpoint(checkpoint)
    sampling = (max_new_tokens, temperature, top_k, top_p, seed)
    if isinstance(method, VAE):
        if prompt is not None or input is not None:
            raise UserError("a VAE draws sentences from its prior and continues none: leave --prompt and --input out")
        for text in method.generate(5 if number is None else number, *sampling):
            say(text)
    elif isinstance(method, CausalLM):
        if number is not None:
            raise UserError("a CausalLM continues each prompt once: leave --number out")
        if prompt is not None and input is not None:
            raise UserError("--prompt and --input are both prompts: leave one out")
        prompts = _lines(input) if prompt is None else [prompt]
        for beginning, text in zip(prompts, method.generate(prompts, *sampling), strict=True):
            say(beginning + text)
    else:
        raise UserError(f"{checkpoint} holds a {type(method).__name__}, which writes no text: name a CausalLM or a VAE")


def fill_mask(checkpoint: str, text: str | None = None, input: str | None = None, top_k: int = 5) -> None:
    """Print the most probable tokens for each [MASK].

    Args:
        checkpoint: a file that fit has written, such as runs/NAME/checkpoints/best.ckpt.
        text: a text with [MASK] in it.
        input: a text file, a text a line; default, without a text: standard input.
        top_k: how many tokens to print.
    """
    from ssl_nlp.methods import MaskedLM, Method

    if text is not None and input is not None:
        raise UserError("--text and --input are both texts: leave one out")
    texts = _lines(input) if text is None else [text]
    method = Method.load_from_checkpoint(checkpoint)
    if not isinstance(method, MaskedLM):
        raise UserError(f"{checkpoint} holds a {type(method).__name__}, which fills no masks: name a MaskedLM")
    for asked in texts:
        say(asked)
        if text is None and not asked.strip():
            continue  # a blank line stays one
        for best in method.fill_mask(asked, top_k):
            say("  " + "  ".join(f"{token.strip()} {probability:.3f}" for token, probability in best))


def _lines(path: str | None) -> list[str]:
    """The lines of a file, or of standard input, as many as `wc -l` counts; a blank line is an empty text."""
    if path is None:
        if sys.stdin.isatty():
            print("one text a line, end with Ctrl-D:", file=sys.stderr)
        data = sys.stdin.buffer.read()
    else:
        try:
            data = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read --input {path}: {getattr(error, 'strerror', None) or error}") from error
    name = path or "standard input"
    lines = [line.removesuffix("\n") for line in decoded_lines(name, io.BytesIO(data))]
    if not any(line.strip() for line in lines):
        raise UserError(f"{name} is empty: give a text a line")
    return lines
