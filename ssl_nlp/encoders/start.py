"""The weights that an encoder begins with: those of a checkpoint or of a published model."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.errors import UserError
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.runs.bases import Base, beside, complaint
from ssl_nlp.runs.run import RUNS

if TYPE_CHECKING:
    from ssl_nlp.encoders.base import Encoder

NAMES = ("last.ckpt", "best.ckpt", "previous.ckpt")  # a run that was trained longer may still have the old weights


def take_weights(encoder: "Encoder", saved: dict[str, Any], where: str) -> None:
    """Load the weights of the encoder of a checkpoint; if it is adapted, its base first, and then the adapter is merged.

    Args:
        encoder: of the class that the checkpoint describes, without an adapter.
        saved: the content of the checkpoint.
        where: its path, for messages.

    Raises:
        UserError: the base is missing or has changed, or the adapter cannot be merged.
    """
    weights = {
        name.removeprefix("encoder."): weight
        for name, weight in saved["state_dict"].items()
        if name.startswith("encoder.")
    }
    adapter = described_adapter(saved, where)
    if adapter is None:
        encoder.load_state_dict(weights)
        return
    if "base" in saved["ssl_nlp"]:
        take_base(encoder, saved["ssl_nlp"]["base"], where)
    adapter.attach(encoder)
    encoder.load_state_dict({name: encoder.state_dict()[name] for name in encoder.base_names} | weights)
    adapter.remove(encoder, merge=True)


def begin_with_base(encoder: "Encoder", saved: dict[str, Any], where: str) -> None:
    """Let an encoder that a checkpoint describes load the base that the checkpoint names, if it does, when it is built."""
    if (base := saved["ssl_nlp"].get("base")) is not None:
        encoder.base, encoder.start = base, partial(take_base, base=base, where=where)


def take_base(encoder: "Encoder", base: Base, where: str) -> None:
    """Load the base of an adapter.

    Args:
        encoder: of its class, without an adapter.
        base: the weights that are meant.
        where: the path of the checkpoint that holds the adapter.

    Raises:
        UserError: they are not there, or others are in their place.
    """
    if base["place"].endswith(".ckpt"):
        saved, path = find_base(base, where)
        take_weights(encoder, saved, str(path))
    else:
        encoder.load_published(base, where)


def find_base(base: Base, where: str) -> tuple[dict[str, Any], Path]:
    """The content of the checkpoint that is the base, and its path.

    It is looked for beside the checkpoint that needs it, as base.ckpt, in its place, and among the runs.

    Args:
        base: the checkpoint that is meant.
        where: the path of the one that needs it.

    Raises:
        UserError: it is not there, or there are other weights in its place.
    """
    here = beside(where).with_suffix(".ckpt")
    places = [here, Path(base["place"])]
    if base["run"] is not None and Path(base["run"]).name == base["run"]:
        folders = RUNS.absolute(), *here.parents[2:3]  # a file in a folder of the root has no runs beside it
        places += [folder / base["run"] / "checkpoints" / name for folder in folders for name in NAMES]
    found = [path for path in places if path.is_file()]
    for path in found:
        if checkpoints.digest(path) == base["digest"]:
            return checkpoints.read(path), path
    raise UserError(complaint(base, where, str(here), other=bool(found)))


def described_adapter(saved: dict[str, Any], where: str) -> Adapter | None:
    """The adapter of the encoder that a checkpoint describes, if it has one."""
    found = saved["ssl_nlp"]["method"]["init_args"]["encoder"]["init_args"].get("adapter")
    return None if found is None else checkpoints.instantiate(found, Adapter, where=where)  # type: ignore[type-abstract]  # a subclass
