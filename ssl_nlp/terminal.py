"""Output that is safe to show in a terminal, whatever text it contains."""

import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions
from rich.segment import Segment

# Control characters except tab and newline, characters that reverse the direction of text, and lone surrogates.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with control characters spelled out, such as an escape character as `\x1b`. Newlines and tabs stay."""
    return UNSAFE.sub(lambda found: found.group().encode("unicode_escape", "surrogatepass").decode(), text)


def say(text: str, file: TextIO | None = None) -> None:
    """Print text safely and at once, on standard output by default."""
    print(printable(text), file=file or sys.stdout, flush=True)


class SafeConsole(Console):
    """A rich console that shows any text safely: only rich itself can use colours and move the cursor."""

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def console(width: int) -> Console:
    """A console for standard output, as wide as the terminal, or `width` columns if it is not one."""
    return SafeConsole() if sys.stdout.isatty() else SafeConsole(width=width)
