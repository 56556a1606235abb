"""The runs and published models that the weights of a run come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, get_args


class Ancestor(TypedDict):
    """A checkpoint or a published model from which an encoder was taken. None where that is not known.

    Keys:
        run: the name of the run; None for a lone checkpoint and for a published model.
        checkpoint: the file within the run, the path of a lone one, or the name of a published model.
        digest: the SHA-256 of the file.
        method: the class that trained it.
        step: the optimizer steps of its training.
        tokens: those of its training, without those of its own ancestors.
        tokens_read: likewise, each counted as often as a network read it; left out by earlier versions.
        flops: likewise.
        seconds: likewise, of processors; left out by earlier versions.
        decoder: True where its decoder was taken, too; left out if not.
    """

    run: str | None
    checkpoint: str
    digest: str | None
    method: str | None
    step: int | None
    tokens: float | None
    tokens_read: NotRequired[float | None]
    flops: float | None
    seconds: NotRequired[float | None]
    decoder: NotRequired[bool]


Spent = Literal["tokens", "tokens_read", "flops", "seconds"]
SPENT: tuple[Spent, ...] = get_args(Spent)
"""Kinds of cost that are known of an ancestor."""


def ancestor(path: Path, digest: str, saved: Mapping[str, Any]) -> Ancestor:
    """A checkpoint as an ancestor.

    Args:
        path: of the file.
        digest: of its content.
        saved: its content.
    """
    in_run = path.parent.name == "checkpoints"
    counted = saved.get("callbacks", {}).get("Throughput", {})
    ranks = _number(counted, "ranks") or 1
    tokens, seconds = _number(counted, "tokens"), _number(counted, "seconds")
    if tokens is not None:  # and those that were not logged yet
        tokens += (_number(counted, "window_tokens") or 0) * ranks
    if seconds is not None:
        seconds += (_number(counted, "window_processor") or 0) * ranks
    reads, rate = _number(counted, "reads_per_token"), _number(counted, "flops_per_token")
    step = _number(saved, "global_step")
    return {
        "run": path.absolute().parent.parent.name if in_run else None,
        "checkpoint": f"checkpoints/{path.name}" if in_run else str(path),
        "digest": digest,
        "method": str(saved["ssl_nlp"]["method"]["class_path"]).rpartition(".")[2],
        "step": None if step is None else int(step),
        "tokens": tokens or None,
        "tokens_read": tokens * reads if tokens and reads else None,
        "flops": tokens * rate + (_number(counted, "optimizer_flops") or 0) if tokens and rate else None,
        "seconds": seconds or None,
    }


def published(name: str) -> Ancestor:
    """A published model as an ancestor: how it was trained is not known."""
    return {
        "run": None,
        "checkpoint": name,
        "digest": None,
        "method": None,
        "step": None,
        "tokens": None,
        "tokens_read": None,
        "flops": None,
        "seconds": None,
    }


def _number(values: Any, name: str) -> float | None:
    value = values.get(name) if isinstance(values, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def is_ancestry(value: Any) -> bool:
    """Whether plain data of unknown origin are a list of ancestors."""
    kinds = {"run": str, "checkpoint": str, "digest": str, "method": str, "step": int, "tokens": int | float}
    kinds |= {"flops": int | float}
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and one.keys() - {"decoder", "tokens_read", "seconds"} == kinds.keys()
        and isinstance(one.get("decoder", True), bool)
        and all(isinstance(one.get(name), int | float | None) for name in ("tokens_read", "seconds"))
        and isinstance(one["checkpoint"], str)
        and all(one[name] is None or isinstance(one[name], kind) for name, kind in kinds.items())
        for one in value
    )


def spoken(ancestor: Ancestor) -> str:
    """An ancestor in words, such as `runs/a with its decoder, step 300, 0.40 M tokens`."""
    place = Path(ancestor["checkpoint"])
    if ancestor["run"] is None:
        parts = [str(ancestor["checkpoint"])]
    else:
        parts = [f"runs/{ancestor['run']}" + ("" if place.name == "last.ckpt" else f" ({place.name})")]
    if ancestor.get("decoder"):
        parts[0] += " with its decoder"
    if ancestor["step"] is not None:
        parts.append(f"step {ancestor['step']:,}")
    tokens = ancestor["tokens"]
    return ", ".join([*parts, "tokens unknown" if tokens is None else f"{tokens / 1e6:.2f} M tokens"])


def spent_by(ancestor: Ancestor, kind: Spent) -> float | None:
    """What the training of an ancestor cost; None if that is not known.

    Its tokens read count once each where it is not known how often they were read (`reads_known`).
    """
    return ancestor["tokens"] if kind == "tokens_read" and not reads_known(ancestor) else ancestor.get(kind)


def reads_known(ancestor: Ancestor) -> bool:
    """Whether it is known how often the tokens of an ancestor were read."""
    return ancestor.get("tokens_read") is not None
