"""The text that a checkpoint was trained on, as the data module described it there."""

from collections.abc import Mapping
from typing import Any

from ssl_nlp.data import TextDataModule
from ssl_nlp.runs.checkpoint import subclasses


def splits_of(saved: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`TokenStore.description` of each split that a checkpoint was trained on, by its name; empty if it has none."""
    kinds = [kind.__qualname__ for kind in subclasses([TextDataModule])]  # Lightning's keys
    return next((dict(saved[kind].get("splits", {})) for kind in kinds if kind in saved), {})


def digests_of(saved: Mapping[str, Any]) -> dict[str, str]:
    """The digests of these splits; those of earlier versions have none."""
    return {split: described["text"] for split, described in splits_of(saved).items() if "text" in described}
