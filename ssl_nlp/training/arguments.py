"""The arguments that an object was created with, as a checkpoint keeps them."""

import inspect
from typing import Any

from ssl_nlp.errors import UserError


def constructor_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `cls(*args, **kwargs)` by name, defaults included.

    A constructor of `(self, *args, **kwargs)` hands them on: they have the names that the class it builds on gives them.

    Raises:
        UserError: an argument has no name, because the constructor takes `*args` after others, or it cannot be named.
    """
    for kind in cls.__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc]  # of this class
        unnamed = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        others = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
        if unnamed and args and len(unnamed) + len(others) == len(parameters):
            continue
        if nameless := [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]:
            raise UserError(f"{cls.__name__} takes {nameless[0]} by its place only: remove the / from its constructor")
        bound = inspect.Signature(parameters).bind_partial(*args, **kwargs)
        bound.apply_defaults()
        if any(bound.arguments.pop(name) for name in unnamed):
            raise UserError(f"{cls.__name__} takes *args: name its arguments, so that a checkpoint can keep them")
        more = {key: value for name in others for key, value in bound.arguments.pop(name).items()}
        return bound.arguments | more
    return {}
