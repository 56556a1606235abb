"""Checks of what a data module is given, and of what it finds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssl_nlp.corpora import Corpus
from ssl_nlp.corpora.base import Split
from ssl_nlp.data.batch_maker import BatchMaker
from ssl_nlp.data.labels import LabelKind
from ssl_nlp.data.store import TokenStore
from ssl_nlp.errors import UserError


def check_sizes(maker: BatchMaker, sizes: Mapping[str, int]) -> None:
    """Check the numbers among the arguments, by name.

    Raises:
        UserError: some are too small, all of which it lists; or a text of an item has no room.
    """
    least = {"length": maker.shortest, "batch_size": 1}
    too_small = {name: n for name, n in sizes.items() if n < least.get(name, 0)}
    if problems := [f"data.{name} must be {least.get(name, 0)} or more, not {n}" for name, n in too_small.items()]:
        raise UserError("; ".join(problems))
    maker.text_lengths(sizes["length"])  # raises if there is no room for one of the texts


def check_labels(
    maker: BatchMaker, labels: LabelKind | None, classes: Sequence[str] | None, labels_per_class: int | None
) -> None:
    """Check the arguments about labels.

    Raises:
        UserError: the rows cannot carry such labels, a class is named twice, or texts cannot be chosen by their classes.
    """
    if labels is not None and labels not in maker.label_kinds:
        remedy = "ssl_nlp.data.Questions" if labels == "spans" else "'text' or 'pair'"
        raise UserError(
            f"data.labels {labels!r} does not go with data.unit {maker.kind!r}, whose rows carry "
            f"{' or '.join(maker.label_kinds) or 'none'}: set data.unit to {remedy}"
        )
    if classes is not None and len(set(classes)) < len(classes):
        raise UserError("data.classes names a class twice: remove one of them")
    if labels_per_class is None:
        return
    if labels_per_class < 1:
        raise UserError(f"data.labels_per_class must be 1 or more, or null for all, not {labels_per_class}")
    if labels not in ("class", "classes"):
        raise UserError(
            f"data.labels_per_class counts texts of a class: set data.labels to 'class' or 'classes', not {labels}"
        )


def check_unchanged(corpus: Corpus, split: str, store: TokenStore, trained_on: Mapping[str, dict[str, Any]]) -> None:
    """Check that a split is what a run was trained on.

    Args:
        trained_on: the descriptions of its splits by name (`TokenStore.description`).

    Raises:
        UserError: it is not.
    """
    before = trained_on.get(split)
    if before is not None and before["digest"] != store.digest:
        now = store.statistics
        raise UserError(
            f"the {split} split of {type(corpus).__name__} has changed since the run was trained on it: "
            f"{before['documents']:,} rows of {before['tokens']:,} tokens then, {now.documents:,} of {now.tokens:,} "
            "now. Restore the old text, or train a new run; to evaluate the run on other text, name it with "
            "--data.corpus"
        )


def note_of_cut_off(maker: BatchMaker, store: TokenStore, split: Split, length: int) -> str | None:
    """A note on how much `data.length` cuts off the ends of texts; None if it cuts off nothing."""
    limits = maker.text_lengths(length)
    if limits is None:
        return None
    sizes = np.diff(store.starts)
    beyond = np.maximum(sizes.reshape(-1, len(limits)) - limits, 0)
    if not beyond.any():
        return None
    shown = " and ".join(map(str, dict.fromkeys(limits)))
    room = "" if shown == str(length) else f"leaves {shown} tokens for a text, which "
    return (
        f"data.length {length} {room}cuts off the end of {(beyond > 0).mean():.1%} of the texts of the "
        f"{split} split and {beyond.sum() / sizes.sum():.1%} of its tokens; the longest text has "
        f"{sizes.max():,} tokens"
    )
