"""Names that become files and folders: of runs, comparisons and suites."""

import re
import unicodedata

from ssl_nlp.errors import UserError

LONGEST = 200  # bytes: file systems take 255, and names get prefixes and endings


def check_name(name: str, what: str) -> None:
    """Refuse what cannot be a name.

    Args:
        name: letters and digits of any script, - and _, with full stops between them.
        what: the option or thing that it names, for the message.

    Raises:
        UserError: it has other characters, or it is empty or too long.
    """
    if len(name.encode(errors="replace")) > LONGEST:
        raise UserError(f"{what} {name[:20]!r}... is too long for a name: use fewer than {LONGEST // 4} letters")
    if not name or name[0] in ".-" or name[-1] == "." or not all(map(_is_allowed, name)):
        raise UserError(f"{what} {name!r} is not a valid name: use letters, digits, - and _")


def as_name(text: str) -> str:
    """The text with - in place of what cannot be in a name."""
    return "".join(sign if _is_allowed(sign) else "-" for sign in text).lstrip(".-") or "run"


def _is_allowed(sign: str) -> bool:
    return sign in "-_." or unicodedata.category(sign)[0] in "LMN"  # letters, their accents, numbers


def snake_case(name: str) -> str:
    """The name of a class in snake case: `MaskedLM` to `masked_lm`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
