"""Labels of documents as numbers beside their tokens, for supervised tasks.

The way of a label: `Document.label` -> `Labels.plain` (checked) -> `Labels.of_row` (numbers of one text, which the token
cache keeps) -> `Labels.collate` (the tensor `TokenBatch.labels`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.corpora.base import Document, Span
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.marks import first_tokens, marked_entities, words_of_tags
from ssl_nlp.errors import UserError

LabelKind = Literal["class", "classes", "score", "tags", "spans", "relation"]
Numbers = Sequence[int] | Sequence[float]
VERSION = 1  # of the alignment of labels with tokens, for the keys of caches


class Place(NamedTuple):
    """The place of a framed text in its document.

    Attributes:
        start, stop: its characters in `Document.text`. Both 0 if it is not a part of that.
        tokens: the characters [start, stop) of each token in `Document.text`; None for tokens without any.
    """

    start: int
    stop: int
    tokens: list[tuple[int, int] | None]


NOWHERE = Place(0, 0, [])


class Labels(ABC):
    """One kind of labels.

    Args:
        class_names: the classes by number. None: not known yet; they come from the train split.
    """

    kind: ClassVar[LabelKind]
    dtype: ClassVar[str] = "int32"  # of the numbers in the token cache
    has_names: ClassVar[bool] = True
    placed: ClassVar[bool] = False  # whether labels belong to parts of a text

    def __init__(self, class_names: Sequence[str] | None = None) -> None:
        self.class_names = None if class_names is None else list(class_names)
        self._number = {name: number for number, name in enumerate(self.class_names or ())}

    @abstractmethod
    def plain(self, document: Document) -> Any:
        """The label of a document as plain data; None if it has none.

        Raises:
            UserError: the label is of another kind.
        """

    def names(self, label: Any) -> Iterable[str]:
        """The names of classes in a plain label."""
        return ()

    @abstractmethod
    def of_row(self, label: Any, place: Place) -> Numbers:
        """The numbers of one text of a document with this plain label. Only `placed` labels are told the place."""

    @abstractmethod
    def collate(self, rows: Sequence[Numbers], width: int) -> Tensor:
        """The labels of a batch whose rows were cut or padded to `width` tokens."""

    def number(self, name: str) -> int:
        """The number of a class.

        Raises:
            UserError: the class is unknown.
        """
        if name not in self._number:
            names = self.class_names or []
            shown = ", ".join(names[:8]) + ", ..." * (len(names) > 8)
            raise UserError(
                f"the class {name!r} is not among those of the train split ({shown}): correct the label, or list all "
                "classes in data.classes"
            )
        return self._number[name]

    def _refuse(self, document: Document) -> UserError:
        return UserError(
            f"data.labels is {self.kind!r}, but the label of {document.text[:40]!r} is {document.label!r}: set data.labels "
            "to the kind of labels that the corpus has"
        )


class ClassLabels(Labels):
    """A class for each text: (B,) int64, `IGNORE_INDEX` if the document has none."""

    kind = "class"

    def plain(self, document: Document) -> str | None:
        if document.label is not None and not isinstance(document.label, str):
            raise self._refuse(document)
        return document.label

    def names(self, label: str) -> Iterable[str]:
        return [label]

    def of_row(self, label: str | None, place: Place) -> Numbers:
        return [IGNORE_INDEX if label is None else self.number(label)]

    def collate(self, rows: Sequence[Numbers], width: int) -> Tensor:
        return torch.tensor([number for [number] in rows], dtype=torch.int64)


class ClassesLabels(Labels):
    """Any number of classes for each text: (B, C) float32, 1 for those that it has; NaN if the document has no label.

    A label is a tuple of names, which may be empty, or the name of a single class.
    """

    kind = "classes"

    def plain(self, document: Document) -> list[str] | None:
        if document.label is None:
            return None
        names = (document.label,) if isinstance(document.label, str) else document.label
        if not (isinstance(names, tuple) and all(isinstance(name, str) for name in names)):
            raise self._refuse(document)
        return [str(name) for name in names]

    def names(self, label: list[str]) -> Iterable[str]:
        return label

    def of_row(self, label: list[str] | None, place: Place) -> Numbers:
        return [IGNORE_INDEX] if label is None else sorted({self.number(name) for name in label})

    def collate(self, rows: Sequence[Numbers], width: int) -> Tensor:
        classes = np.zeros((len(rows), len(self.class_names or ())), dtype=np.float32)
        for row, numbers in zip(classes, rows, strict=True):
            if IGNORE_INDEX in numbers:
                row[:] = math.nan
            else:
                row[np.array(numbers, dtype=np.int64)] = 1.0
        return torch.from_numpy(classes)


class ScoreLabels(Labels):
    """A number for each text: (B,) float32, NaN if the document has none."""

    kind = "score"
    dtype = "float32"
    has_names = False

    def plain(self, document: Document) -> float | None:
        if document.label is None:
            return None
        try:
            score = float(document.label)  # type: ignore[arg-type]  # anything but a number is refused
        except (TypeError, ValueError):
            score = math.nan
        if not math.isfinite(score):
            raise self._refuse(document)
        return score

    def of_row(self, label: float | None, place: Place) -> Numbers:
        return [math.nan if label is None else label]

    def collate(self, rows: Sequence[Numbers], width: int) -> Tensor:
        return torch.tensor([number for [number] in rows], dtype=torch.float32)


class TagLabels(Labels):
    """A class for each word: (B, T) int64.

    The first token of a word has its tag; all other positions have `IGNORE_INDEX`. A word that begins inside the token of
    the previous word has no tag: if each character is a word, a token of two characters has the tag of the first.
    """

    kind = "tags"
    placed = True

    def plain(self, document: Document) -> dict[str, Any] | None:
        if document.label is None:
            return None
        if not (isinstance(document.label, tuple) and all(isinstance(tag, str) for tag in document.label)):
            raise self._refuse(document)
        return {"tags": list(document.label), "words": words_of_tags(document)}

    def names(self, label: dict[str, Any]) -> Iterable[str]:
        return label["tags"]

    def of_row(self, label: dict[str, Any] | None, place: Place) -> Numbers:
        numbers = [IGNORE_INDEX] * len(place.tokens)
        if label is not None:
            for position, word in first_tokens(label["words"], place.tokens):
                numbers[position] = self.number(label["tags"][word])
        return numbers

    def collate(self, rows: Sequence[Numbers], width: int) -> Tensor:
        tags = np.full((len(rows), width), IGNORE_INDEX, dtype=np.int64)
        for row, numbers in zip(tags, rows, strict=True):
            row[: len(numbers)] = numbers[:width]
        return torch.from_numpy(tags)


class SpanLabels(Labels):
    """Parts of each text, such as answers or entities: (B, S, 3) int64, S being the most that a row of the batch has.

    Each is its first position, the position after its last, and the number of its name (`IGNORE_INDEX` if it has none),
    in the order of the document. Rows with fewer are filled with `IGNORE_INDEX`. A span that does not lie in the row as
    a whole, because the text was cut there, is left out.
    """

    kind = "spans"
    placed = True

    def plain(self, document: Document) -> list[list[Any]]:
        spans = () if document.label is None else document.label
        if not (isinstance(spans, tuple) and all(isinstance(span, Span) for span in spans)):
            raise self._refuse(document)
        for span in spans:
            assert isinstance(span, Span)
            if not 0 <= span.start < span.stop <= len(document.text):
                raise UserError(
                    f"the span [{span.start}, {span.stop}) does not lie within the {len(document.text)} characters of "
                    f"{document.text[:40]!r}: correct it"
                )
        return [[span.start, span.stop, span.name] for span in spans if isinstance(span, Span)]

    def names(self, label: list[list[Any]]) -> Iterable[str]:
        return [name for _, _, name in label if name is not None]

    def of_row(self, label: list[list[Any]], place: Place) -> Numbers:
        numbers: list[int] = []
        for start, stop, name in label:
            if start < place.start or stop > place.stop:
                continue
            inside = [i for i, token in enumerate(place.tokens) if token and token[0] < stop and token[1] > start]
            if inside:
                numbers += [inside[0], inside[-1] + 1, IGNORE_INDEX if name is None else self.number(name)]
        return numbers

    def collate(self, rows: Sequence[Numbers], width: int) -> Tensor:
        whole = [[span for span in np.reshape(row, (-1, 3)) if span[1] <= width] for row in rows]
        spans = np.full((len(rows), max(map(len, whole)), 3), IGNORE_INDEX, dtype=np.int64)
        for row, found in zip(spans, whole, strict=True):
            row[: len(found)] = np.reshape(found, (-1, 3))
        return torch.from_numpy(spans)


class RelationLabels(Labels):
    """A class for the two entities that are marked in each text: (B, 2, 3) int64.

    Row 0 is what stands between `<e1>` and `</e1>`, row 1 what stands between `<e2>` and `</e2>`, markers included: the
    first position, the position after the last, and the class. The positions are `IGNORE_INDEX` if the text was cut before
    the end of the entity. All are, if the row does not hold both entities, or its document has no label.
    """

    kind = "relation"
    placed = True

    def plain(self, document: Document) -> dict[str, Any] | None:
        if document.label is None:
            return None
        if not isinstance(document.label, str):
            raise self._refuse(document)
        return {"class": document.label, "entities": marked_entities(document.text)}

    def names(self, label: dict[str, Any]) -> Iterable[str]:
        return [label["class"]]

    def of_row(self, label: dict[str, Any] | None, place: Place) -> Numbers:
        if label is None or any(a < place.start or b > place.stop for a, b in label["entities"]):
            return [IGNORE_INDEX] * 6
        tokens = [(position, token) for position, token in enumerate(place.tokens) if token is not None]
        inside = [[i for i, (a, b) in tokens if a < stop and b > start] for start, stop in label["entities"]]
        number = IGNORE_INDEX if label["class"] is None else self.number(label["class"])
        return [each for entity in inside for each in (entity[0], entity[-1] + 1, number)]

    def collate(self, rows: Sequence[Numbers], width: int) -> Tensor:
        entities = np.reshape(np.asarray(rows, dtype=np.int64), (len(rows), 2, 3))
        cut = entities[:, :, 1:2] > width
        entities[:, :, :2] = np.where(cut, IGNORE_INDEX, entities[:, :, :2])
        return torch.from_numpy(entities)


KINDS: dict[LabelKind, type[Labels]] = {
    kind.kind: kind for kind in (ClassLabels, ClassesLabels, ScoreLabels, TagLabels, SpanLabels, RelationLabels)
}
