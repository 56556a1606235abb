"""Minimal pairs from files."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from ssl_nlp.corpora import Document
from ssl_nlp.corpora.readers import Field, Fields, Format, field_names, read_file
from ssl_nlp.corpora.text_files import find_files
from ssl_nlp.evaluation.data_suite import Task, minimal_pairs
from ssl_nlp.evaluation.minimal_pairs import MinimalPairs
from ssl_nlp.evaluation.validation_items import Valid, divided

PUBLISHED = {"good": "sentence_good", "bad": "sentence_bad", "paradigm": "UID", "field": "phenomenon"}
"""Other names of these fields in the published files of BLiMP and ZhoBLiMP."""


@dataclass(frozen=True)
class MinimalPairFiles:
    """Pairs of sentences, of which `text` is the good one.

    A field that a file lacks is looked for under its published name (`PUBLISHED`).

    Attributes:
        test: the files.
        text, pair: the fields of the good and of the bad sentence.
        label: the field of the paradigm, which says what a pair tests.
        part: the field of the field of grammar that the paradigm belongs to; None: there is one, `all`.
        valid: as for other tasks of test items only.
        format: of the files; None: by their ending.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("minimal_pairs",)

    test: str | list[str]
    text: int | str = "good"
    pair: int | str = "bad"
    label: int | str = "paradigm"
    part: int | str | None = "field"
    valid: Valid = None
    format: Format | None = None

    def read(self, name: str, task: Task) -> MinimalPairs:
        """The evaluator.

        Raises:
            UserError: there are no pairs, one has no paradigm, or a paradigm belongs to two fields.
        """
        test, valid = divided(name, self._documents(self.test), self.valid, self._documents)
        evaluator = minimal_pairs(name, test)
        return replace(evaluator, valid=minimal_pairs(name, valid)) if valid else evaluator

    def _documents(self, patterns: str | list[str]) -> Iterator[Document]:
        for path in find_files(patterns):
            there = field_names(path, self.format)
            part = None if self.part is None else _named(self.part, there)
            chosen = Fields(_named(self.text, there), _named(self.label, there), _named(self.pair, there), part=part)
            yield from (d for d in read_file(path, self.format, "line", chosen) if d.text.strip())


def _named(field: Field, there: list[str]) -> Field:
    """The name of a field in a file with these fields."""
    published = PUBLISHED.get(str(field), field)
    return published if field not in there and published in there else field
