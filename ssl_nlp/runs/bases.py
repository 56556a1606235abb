"""The frozen weights that an adapter belongs to, which checkpoints of adapted encoders name instead of holding them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor


class Base(TypedDict):
    """Where the weights are, and a key of them.

    Keys:
        place: the path of a .ckpt file, or the folder or hub name of a published model.
        run: the name of the run that the file belongs to; None if there is none.
        digest: the SHA-256 of the file, or of the weights of a published model.
    """

    place: str
    run: str | None
    digest: str


def is_base(value: Any) -> bool:
    """Whether plain data of unknown origin are a `Base`."""
    return (
        isinstance(value, dict)
        and value.keys() == {"place", "run", "digest"}
        and isinstance(value["place"], str)
        and isinstance(value["digest"], str)
        and (value["run"] is None or isinstance(value["run"], str))
    )


def beside(where: str) -> Path:
    """Where a base may be put, or a link to it, if it is no longer in its place: beside the checkpoint that needs it."""
    return Path(where).absolute().parent / "base"


def complaint(base: Base, where: str, here: str, other: bool) -> str:
    """The message that the base of a checkpoint is missing, or has other weights.

    Args:
        base: that is meant.
        where: the path of the checkpoint that needs it.
        here: where it may be put.
        other: whether other weights are in its place.
    """
    name = base["place"] if base["run"] is None else f"{base['place']} (runs/{base['run']})"
    what = "has other weights now" if other else "is not there"
    return (
        f"{where} holds only the adapter of {name}, which {what}: put the one with the SHA-256 {base['digest'][:16]}... "
        f"back, or a link to it at {here}"
    )


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """A key of weights with their names."""
    key = hashlib.sha256()
    for name, tensor in weights.items():
        key.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return key.hexdigest()
