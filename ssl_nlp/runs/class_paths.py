"""Paths of classes in configurations: those of any version are read, public ones are written."""

import re
import sys
from typing import Any

from ssl_nlp.runs.checkpoint import PACKAGE, path_of


def public_path(text: str) -> str:
    """The public path of one of our classes, found by its name, because files move and names stay.

    `ssl_nlp.callbacks.OnlineProbe`, as 0.1 wrote it, is `ssl_nlp.training.callbacks.OnlineProbe`. Nothing is imported, and
    text that is not the path of one of our classes is returned unchanged.
    """
    if not re.fullmatch(rf"{PACKAGE}(\.\w+)+", text):
        return text
    module, _, name = text.rpartition(".")
    places = [module, *(loaded for loaded in sys.modules if loaded.split(".")[0] == PACKAGE)]
    found = (getattr(sys.modules.get(place), name, None) for place in places)
    kinds = (kind for kind in found if isinstance(kind, type) and kind.__module__.split(".")[0] == PACKAGE)
    return next((path_of(kind) for kind in kinds), text)


def with_public_paths(config: Any) -> Any:
    """A configuration in which every path of one of our classes is the public one."""
    if isinstance(config, dict):
        return {key: with_public_paths(value) for key, value in config.items()}
    if isinstance(config, list):
        return [with_public_paths(value) for value in config]
    return public_path(config) if isinstance(config, str) else config
