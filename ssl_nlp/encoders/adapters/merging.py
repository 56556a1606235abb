"""An adapted encoder as a plain one."""

import copy
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ssl_nlp.encoders.base import Encoder

E = TypeVar("E", bound="Encoder")


def merged(encoder: E) -> E:
    """A copy of a built encoder with its adapter added to its weights, which can all be trained.

    It has the hidden states of the original in evaluation mode, up to rounding, and no adapter. An encoder that has none
    is copied as it is.

    Raises:
        UserError: this kind of adapter cannot be merged.
    """
    return _without(encoder, merge=True)


def without_adapter(encoder: E) -> E:
    """A copy of a built encoder without its adapter: its base, all of whose weights can be trained."""
    return _without(encoder, merge=False)


def _without(encoder: E, merge: bool) -> E:
    plain = copy.deepcopy(encoder)
    if plain.adapter is not None:
        plain.adapter.remove(plain, merge)
        plain.adapter, plain.base = None, None
    return plain
