"""Minimal pairs from files."""

from dataclasses import dataclass
from typing import ClassVar

from ssl_nlp.corpora.readers import Fields, Format, read_file
from ssl_nlp.corpora.text_files import find_files
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.data_suite import Task
from ssl_nlp.evaluation.minimal_pairs import MinimalPairs


@dataclass(frozen=True)
class MinimalPairFiles:
    """Pairs of sentences, of which `text` is the good one. The names of fields are those of BLiMP's files.

    Attributes:
        test: the files.
        text, pair: the fields of the good and of the bad sentence.
        label: the field of the paradigm, which says what a pair tests.
        part: the field of the field of grammar that the paradigm belongs to; None: there is one, `all`.
        format: of the files; None: by their ending.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("minimal_pairs",)

    test: str | list[str]
    text: int | str = "sentence_good"
    pair: int | str = "sentence_bad"
    label: int | str = "UID"
    part: int | str | None = "field"
    format: Format | None = None

    def read(self, name: str, task: Task) -> MinimalPairs:
        """The evaluator.

        Raises:
            UserError: there are no pairs, one has no paradigm, or a paradigm belongs to two fields.
        """
        chosen = Fields(self.text, self.label, self.pair, part=self.part)
        files = find_files(self.test)
        read = (document for path in files for document in read_file(path, self.format, "line", chosen))
        documents = [document for document in read if document.text.strip()]
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
