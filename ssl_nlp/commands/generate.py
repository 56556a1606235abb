"""`generate`: texts from a model that draws them, continues prompts, or searches for one text that answers another."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ssl_nlp.commands.parser import run_function
from ssl_nlp.commands.text_lines import given_texts
from ssl_nlp.errors import UserError
from ssl_nlp.terminal import say

if TYPE_CHECKING:
    from ssl_nlp.modules.sampling import SamplingOptions

DRAWING: "SamplingOptions" = {"temperature": 0.8, "top_k": None, "top_p": 0.95, "seed": None}
"""How tokens are sampled by default."""
DRAWN = 5
"""Texts that are drawn by default."""


def main(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Run the command; it starts no processes that need `imports`."""
    run_function(generate, "generate", arguments)


def generate(
    checkpoint: str,
    prompt: str | None = None,
    input: str | None = None,
    number: int | None = None,
    max_new_tokens: int | None = None,
    temperature: float = DRAWING["temperature"],
    top_k: int | None = DRAWING["top_k"],
    top_p: float | None = DRAWING["top_p"],
    seed: int | None = DRAWING["seed"],
    steps: int | None = None,
    beams: int | None = None,
    jsonl: bool = False,
) -> None:
    """Print prompts as a language model continues them, texts that a model draws, or what a SequenceToSequence writes.

    Args:
        checkpoint: a file that fit has written, such as runs/NAME/checkpoints/best.ckpt.
        prompt: the text to continue (may be empty) or, for a SequenceToSequence, to translate or sum up. Not for a model
            that only draws, such as a VAE.
        input: a text file with a prompt a line; default, without a prompt: standard input.
        number: draw so many texts, without any prompt; default for a model that only draws: 5.
        max_new_tokens: the longest output; default: 64, for a SequenceToSequence as it was trained.
        temperature: divides the logits; 0 takes the most probable token every time.
        top_k: sample from the k most probable tokens only.
        top_p: sample from the smallest set of tokens with at least this probability.
        seed: makes the samples reproducible.
        steps: the most passes of a MaskedDiffusion through the encoder for a text: fewer are faster and worse; default: one
            for each token. For no other model.
        beams: unfinished candidates of the beam search; default: as it was trained. For a SequenceToSequence only, which
            draws nothing: temperature, top_k, top_p and seed are not for it.
        jsonl: print each text as a line of JSON, {"text": ...}. As they are, texts may have several lines, and nothing
            shows where one ends.
    """
    from ssl_nlp.commands.model_classes import load_model
    from ssl_nlp.evaluation.capabilities import Drawer, Generator, Searcher
    from ssl_nlp.methods import MaskedDiffusion

    method = load_model(checkpoint)
    kind = type(method).__name__
    prompted = prompt is not None or input is not None
    sampling: SamplingOptions = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    longest = 64 if max_new_tokens is None else max_new_tokens
    if steps is not None and not isinstance(method, MaskedDiffusion):
        raise UserError(f"{kind} does not write tokens in random order: leave out --steps")
    if isinstance(method, Searcher):
        if number is not None or sampling != DRAWING:
            raise UserError(
                f"a {kind} searches for one output of each text and draws nothing: leave out --number, --temperature, "
                "--top_k, --top_p and --seed"
            )
        given = {"beams": beams, "max_new_tokens": max_new_tokens}
        method.search = replace(method.search, **{name: n for name, n in given.items() if n is not None})
        texts = method.predict(given_texts("--prompt", prompt, input))
    elif beams is not None:
        raise UserError(f"a {kind} does not search: leave out --beams")
    elif isinstance(method, Generator) and number is None:
        prompts = given_texts("--prompt", prompt, input)
        continuations = method.generate(prompts, longest, **sampling)
        texts = [begun + text for begun, text in zip(prompts, continuations, strict=True)]
    elif isinstance(method, Drawer):
        if prompted and isinstance(method, Generator):
            raise UserError(f"{kind} continues each prompt once, and draws texts without prompts: leave out --number")
        if prompted:
            raise UserError(f"{kind} draws texts and does not continue prompts: leave out --prompt and --input")
        wanted = DRAWN if number is None else number
        if isinstance(method, MaskedDiffusion):
            texts = method.draw(wanted, longest, steps=steps, **sampling)
        else:
            texts = method.draw(wanted, longest, **sampling)
    elif isinstance(method, Generator):
        raise UserError(f"{kind} continues each prompt once: leave out --number")
    else:
        raise UserError(
            f"{checkpoint}: {kind} cannot generate text: use a run of CausalLM, MaskedDiffusion or VAE, for example"
        )
    for text in texts:
        say(json.dumps({"text": text}, ensure_ascii=False) if jsonl else text)
