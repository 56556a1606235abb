"""The runs and published models that the weights of a run come from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict


class Ancestor(TypedDict):
    """A checkpoint or a published model from which an encoder was taken. None where that is not known.

    Keys:
        run: the name of the run; None for a lone checkpoint and for a published model.
        checkpoint: the file within the run, the path of a lone one, or the name of a published model.
        digest: the SHA-256 of the file.
        method: the class that trained it.
        step: the optimizer steps of its training.
        tokens: those of its training, without those of its own ancestors.
        flops: likewise.
        decoder: True where its decoder was taken, too; left out if not.
    """

    run: str | None
    checkpoint: str
    digest: str | None
    method: str | None
    step: int | None
    tokens: float | None
    flops: float | None
    decoder: NotRequired[bool]


def ancestor(path: Path, digest: str, saved: Mapping[str, Any]) -> Ancestor:
    """A checkpoint as an ancestor.

    Args:
        path: of the file.
        digest: of its content.
        saved: its content.
    """
    in_run = path.parent.name == "checkpoints"
    counted = saved.get("callbacks", {}).get("Throughput", {})
    tokens = _number(counted, "tokens")
    if tokens is not None:  # and those that were not logged yet
        tokens += (_number(counted, "window_tokens") or 0) * (_number(counted, "ranks") or 1)
    rate = _number(counted, "flops_per_token")
    step = _number(saved, "global_step")
    return {
        "run": path.absolute().parent.parent.name if in_run else None,
        "checkpoint": f"checkpoints/{path.name}" if in_run else str(path),
        "digest": digest,
        "method": str(saved["ssl_nlp"]["method"]["class_path"]).rpartition(".")[2],
        "step": None if step is None else int(step),
        "tokens": tokens or None,
        "flops": tokens * rate if tokens and rate else None,
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
        "flops": None,
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
        and one.keys() - {"decoder"} == kinds.keys()
        and isinstance(one.get("decoder", True), bool)
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


def total(ancestry: Sequence[Ancestor], name: str) -> float | None:
    """The tokens or FLOPs of all ancestors together; None if those of one are not known."""
    numbers = [one[name] for one in ancestry]  # type: ignore[literal-required]  # of tokens and flops
    return None if None in numbers else sum(numbers)
