"""Minimal pairs from files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ssl_nlp.corpora import Document
from ssl_nlp.corpora.readers import Fields, Format, read_file
from ssl_nlp.corpora.text_files import find_files
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.data_suite import Task
from ssl_nlp.evaluation.minimal_pairs import MinimalPairs
from ssl_nlp.evaluation.validation_items import Valid, divided


@dataclass(frozen=True)
class MinimalPairFiles:
    """Pairs of sentences, of which `text` is the good one. The names of fields are those of BLiMP's files.

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
    text: int | str = "sentence_good"
    pair: int | str = "sentence_bad"
    label: int | str = "UID"
    part: int | str | None = "field"
    valid: Valid = None
    format: Format | None = None

    def read(self, name: str, task: Task) -> MinimalPairs:
        """The evaluator.

        Raises:
            UserError: there are no pairs, one has no paradigm, or a paradigm belongs to two fields.
        """
        test, valid = divided(name, self._documents(self.test), self.valid, self._documents)
        evaluator = self._evaluator(name, test)
        return replace(evaluator, valid=self._evaluator(name, valid)) if valid else evaluator

    def _documents(self, patterns: str | list[str]) -> Iterator[Document]:
        chosen = Fields(self.text, self.label, self.pair, part=self.part)
        for path in find_files(patterns):
            yield from (d for d in read_file(path, self.format, "line", chosen) if d.text.strip())

    def _evaluator(self, name: str, documents: Sequence[Document]) -> MinimalPairs:
        if not documents:
            raise UserError(f"{name} has no pairs of sentences: name other files")
        fields: dict[str, str] = {}
        for document in documents:
            paradigm, own = document.label, document.part or "all"
            if not isinstance(paradigm, str):
                raise UserError(f"{name}: the pair {document.text[:40]!r} has no paradigm: name its field in `label`")
            if (other := fields.setdefault(paradigm, own)) != own:
                raise UserError(
                    f"{name}: the paradigm {paradigm!r} has pairs of the fields {other!r} and {own!r}: give them one "
                    "field, or two paradigms"
                )
        return MinimalPairs(
            [document.text for document in documents],
            [str(document.pair) for document in documents],
            [str(document.label) for document in documents],
            [document.part or "all" for document in documents],
        )
