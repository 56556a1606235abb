"""The part of a tokenizer that encoders use."""

from collections.abc import Sequence
from typing import Protocol


class Tokens(Protocol):
    """A tokenizer with a vocabulary of V tokens."""

    def fingerprint(self) -> str:
        """A key that differs between tokenizers that encode differently."""

    def spellings(self) -> Sequence[str]:
        """(V,): the text of each token, empty for special ones."""
