"""`generate`: text from a CausalLM or a VAE."""

from collections.abc import Sequence

from ssl_nlp.commands.parser import run_function
from ssl_nlp.commands.text_lines import read_lines
from ssl_nlp.errors import UserError
from ssl_nlp.terminal import say


def main(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Run the command; it starts no processes that need `imports`."""
    run_function(generate, "generate", arguments)


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
            raise UserError("a VAE draws from its prior and does not continue prompts: leave out --prompt and --input")
        for text in method.generate(5 if number is None else number, *sampling):
            say(text)
    elif isinstance(method, CausalLM):
        if number is not None:
            raise UserError("a CausalLM continues each prompt once: leave out --number")
        if prompt is not None and input is not None:
            raise UserError("--prompt and --input both give prompts: leave one out")
        prompts = read_lines(input) if prompt is None else [prompt]
        for beginning, text in zip(prompts, method.generate(prompts, *sampling), strict=True):
            say(beginning + text)
    else:
        kind = type(method).__name__
        raise UserError(f"{checkpoint} holds a {kind}, which cannot generate text: use one of a CausalLM or a VAE")
