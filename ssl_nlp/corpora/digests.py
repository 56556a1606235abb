"""Digests of texts, by which others can tell whether they have the same data."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ssl_nlp.corpora.base import SPLITS, Corpus
from ssl_nlp.errors import UserError

SHORT = 12
"""Digits of a digest that are shown to people, and the fewest that `check_expected` compares."""


def digest_of_text(documents: Iterable[tuple[str, str | None, Any]]) -> str:
    """The SHA-256 of documents in their order, each as a line of JSON `[text, pair, label]`.

    Args:
        documents: text, pair and label of each; None for a label that is not read.
    """
    key = hashlib.sha256()
    for document in documents:
        key.update((json.dumps(document) + "\n").encode())
    return key.hexdigest()


def check_digests(digests: Mapping[str, str]) -> None:
    """Check the form of `data.digests`.

    Raises:
        UserError: there is no such split, or it is not the beginning of a digest.
    """
    for split, digest in digests.items():
        if split not in SPLITS or not re.fullmatch(f"[0-9a-f]{{{SHORT},64}}", digest):
            raise UserError(
                f"data.digests names {digest!r} for {split}: give {', '.join(SPLITS)} the first {SHORT} digits or more of "
                "their digests"
            )


def check_expected(corpus: Corpus, split: str, digest: str, expected: Mapping[str, str]) -> None:
    """Check that a split is the text that a configuration expects.

    Args:
        digest: of its text.
        expected: `data.digests`.

    Raises:
        UserError: it is not.
    """
    if not digest.startswith(wanted := expected.get(split, "")):
        raise UserError(
            f"the {split} split of {type(corpus).__name__} is not the text that data.digests expects: its digest is "
            f"{digest[:SHORT]}, not {wanted[:SHORT]}. Get the text that is meant, or correct data.digests"
        )
