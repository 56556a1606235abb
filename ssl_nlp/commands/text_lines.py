"""The texts that `embed`, `generate`, `score` and `fill-mask` read, one a line."""

import io
import sys
from pathlib import Path

from ssl_nlp.corpora.lines import decoded_lines
from ssl_nlp.errors import UserError


def given_texts(option: str, text: str | None, input: str | None) -> list[str]:
    """The text of an option, or else the lines of `--input` or of standard input.

    Args:
        option: such as `--prompt`.
        text: its value.
        input: the value of `--input`.

    Raises:
        UserError: there are both, or the file cannot be read.
    """
    if text is None:
        return read_lines(input)
    if input is not None:
        raise UserError(f"{option} and --input both give texts: leave one out")
    return [text]


def read_lines(path: str | None) -> list[str]:
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
        raise UserError(f"{name} is empty: give one text a line")
    return lines
