"""The base class of corpora: documents in named splits that do not leak."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text that was marked, such as an answer or an entity.

    Attributes:
        start, stop: its characters [start, stop) in `Document.text`.
        name: its class, if it has one.
    """

    start: int
    stop: int
    name: str | None = None


Label = str | float | tuple[str, ...] | tuple[Span, ...]
"""A class, a score, several classes, a tag for each word (see `ssl_nlp.data.marks.words_of_tags`), or spans."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text and what the corpus knows about it.

    Attributes:
        label: of `text`, or of `text` and `pair` together. Tasks and evaluation read it, methods never do.
        pair: a text that belongs to this one: a translation, a question, another caption of the same picture.
        id: by which its file names it, if it does.
        part: the part of the corpus that it comes from, such as its domain or topic.
    """

    text: str
    label: Label | None = None
    pair: str | None = None
    id: str | None = None
    part: str | None = None


class Corpus(ABC):
    """Documents in the splits `train`, `valid` and `test`."""

    @abstractmethod
    def documents(self, split: Split) -> Iterator[Document]:
        """The documents of one split, lazily, in an order that never changes.

        No text or pair of one split is a text or pair of another; only a question may be asked in several. Within a split
        each text occurs once, or each labelled pair of texts; of texts with tags or spans, and of questions, every
        occurrence is kept, because scores count all of them.

        Raises:
            UserError: no file, an empty file, undecodable bytes, a missing field, a blank pair, an empty split.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """A key that changes whenever the documents may have changed. Cheap: no document is read."""


def text_digest(text: str) -> bytes:
    """Sixteen bytes that stand for a text in de-duplication and in the choice of a split."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def order_digest(text: str) -> bytes:
    """Sixteen bytes that put texts into an order, to choose some of them, which says nothing about their splits.

    In the order of `text_digest`, texts that are their own excerpt would come first in the test split, and last in train.
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=b"order").digest()


def split_of(digest: bytes, valid: float, test: float) -> Split:
    """The split of a text, decided by its digest alone, so that equal texts always meet in the same split.

    Args:
        digest: from `text_digest`.
        valid, test: shares of the texts, between 0 and 1.
    """
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test:
        return "test"
    return "valid" if place < test + valid else "train"
