"""`embed`: texts to vectors."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ssl_nlp import durable
from ssl_nlp.commands.parser import check_writable, run_function
from ssl_nlp.commands.text_lines import read_lines
from ssl_nlp.errors import UserError
from ssl_nlp.terminal import say


def main(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Run the command; it starts no processes that need `imports`."""
    run_function(embed, "embed", arguments)


def embed(
    checkpoint: str,
    output: str,
    input: str | None = None,
    batch_size: int = 64,
    pooling: Literal["mean", "last", "first", "sif"] | None = None,
) -> None:
    """Write the embeddings of texts, one a line, as a NumPy file of (N, D) float32.

    Row i belongs to line i. Only LF and CR LF end a line, and a blank line is an empty text. A line on standard error says
    how many texts were cut because they are longer than the encoder reads.

    Args:
        checkpoint: a file that fit has written, such as runs/NAME/checkpoints/best.ckpt.
        output: the .npy file to write; one that exists is not overwritten.
        input: a text file; default: standard input.
        batch_size: texts at a time.
        pooling: which states of the encoder make the embedding: their mean, the last, the first or, of word vectors, their
            mean weighted by rarity (sif); default: as the method was trained, or its own embedding.
    """
    from ssl_nlp.commands.model_classes import load_model
    from ssl_nlp.training.texts import TextsCut

    target = Path(output)
    if target.suffix != ".npy":
        raise UserError(f"--output {output} is not a .npy file: name one that ends with .npy")
    if target.exists():
        raise UserError(f"--output {output} already exists: name another file, or move it away")
    check_writable(f"--output {output}", target)
    lines = read_lines(input)
    method = load_model(checkpoint)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TextsCut)
        embeddings = method.embed(lines, batch_size, pooling)
    for warning in caught:
        say(f"ssl-nlp: {warning.message}", sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    with durable.replacing(target) as file:
        np.save(file, embeddings.numpy())
    say(f"{output}: {embeddings.shape[0]} embeddings of width {embeddings.shape[1]}")
