"""The exception that the command line shows without a traceback."""

from collections.abc import Mapping


class UserError(Exception):
    """Something that the user can fix.

    The message is one line that names the culprit and says what to do. The command line prints it on standard error and
    exits with status 2; in a notebook it is an ordinary exception.
    """

    status = 2  # of the command


def refuse(problems: Mapping[str, object], where: str = "") -> None:
    """Raise a `UserError` that lists the problems that hold, in one line, after `where`; if none holds, do nothing."""
    if found := [problem for problem, holds in problems.items() if holds]:
        raise UserError(f"{where}: " * bool(where) + "; ".join(found))
