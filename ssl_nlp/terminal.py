"""What may be shown in a terminal: text of any origin, without the characters that a terminal obeys."""

import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions
from rich.segment import Segment

# Control characters but tab and newline, what turns the direction of the text around, and halves of characters.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with what a terminal would obey spelled out: an escape character as `\x1b`. Lines and tabs stay."""
    return UNSAFE.sub(lambda found: found.group().encode("unicode_escape", "surrogatepass").decode(), text)


def say(text: str, file: TextIO | None = None) -> None:
    """Print text of any origin at once, on standard output by default."""
    print(printable(text), file=file or sys.stdout, flush=True)


class SafeConsole(Console):
    """A console of rich that shows text of any origin: the colours and movements are rich's alone."""

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def console(width: int) -> Console:
    """For standard output: as wide as the terminal, or `width` columns where it is none."""
    return SafeConsole() if sys.stdout.isatty() else SafeConsole(width=width)
