"""Optional packages, each part of an extra."""

from importlib import import_module
from typing import Any

from ssl_nlp.errors import UserError


def need(package: str, extra: str, what: str) -> Any:
    """Import an optional package.

    Args:
        package: the name under which it is imported.
        extra: the extra of ssl_nlp that installs it.
        what: what needs it, for the message, such as "encoder.adapter".

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != package.partition(".")[0]:
            raise  # it is there, and fails because of something else
        raise UserError(f"{what} needs the package {package}: pip install 'ssl_nlp[{extra}]'") from error
