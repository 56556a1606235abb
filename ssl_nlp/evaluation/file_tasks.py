"""The tasks of a suite of files: the settings of each, and how its files become data.

`characters` is how many characters of each text everybody gets (`ssl_nlp.evaluation.excerpts`); null: all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from ssl_nlp.corpora import Document, TextFiles
from ssl_nlp.corpora.lines import read_lines
from ssl_nlp.corpora.readers import Fields, Format, read_file
from ssl_nlp.corpora.text_files import find_files
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.analogies import read_analogies
from ssl_nlp.evaluation.classification import LabelledSplits
from ssl_nlp.evaluation.data_suite import (
    Data,
    Task,
    clustered_texts,
    labelled_splits,
    related_pairs,
    scored_pairs,
    text_pairs,
)
from ssl_nlp.evaluation.excerpts import CHARACTERS, document_excerpt, excerpt
from ssl_nlp.evaluation.generated_text import check_packages
from ssl_nlp.evaluation.generation_suite import free_generation
from ssl_nlp.evaluation.judged_files import read_judgements
from ssl_nlp.evaluation.language_modelling import LanguageModelling
from ssl_nlp.evaluation.minimal_pair_files import MinimalPairFiles
from ssl_nlp.evaluation.prompts import PROMPTED, Prompts, Rank, Template
from ssl_nlp.evaluation.suite import LANGUAGE_TEXTS, VALIDATION_TEXTS, subset
from ssl_nlp.evaluation.validation_items import (
    Valid,
    divided,
    divided_analogies,
    divided_queries,
    other_analogies,
    other_queries,
)
from ssl_nlp.evaluation.written_texts import WrittenTexts


@dataclass(frozen=True)
class LabelledFiles:
    """Texts with classes."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification",)

    train: str | list[str]
    label: int | str
    text: int | str = "text"
    pair: int | str | None = None
    valid: float | str | list[str] = 0.1
    test: float | str | list[str] = 0.1
    format: Format | None = None
    characters: int | None = CHARACTERS

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        corpus = TextFiles(self.train, self.valid, self.test, "line", self.text, self.label, self.pair, self.format)
        return labelled_splits(name, corpus, self.characters)


@dataclass(frozen=True)
class ScoredFiles:
    """Pairs of texts, or of words, with a number."""

    tasks: ClassVar[tuple[Task, ...]] = ("similarity", "word_similarity")

    test: str | list[str]
    score: int | str
    text: int | str = "text"
    pair: int | str = "pair"
    valid: Valid = None
    format: Format | None = None
    characters: int | None = CHARACTERS

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        read = partial(_documents, Fields(self.text, self.score, self.pair), self.format, self.characters)
        test, valid = divided(name, read(self.test), self.valid, read)
        return replace(scored_pairs(name, test), valid=scored_pairs(name, valid, "valid") if valid else None)


@dataclass(frozen=True)
class RelatedFiles:
    """Pairs of texts that belong together (1) or do not (0)."""

    tasks: ClassVar[tuple[Task, ...]] = ("pair_classification",)

    test: str | list[str]
    label: int | str
    text: int | str = "text"
    pair: int | str = "pair"
    valid: Valid = None
    format: Format | None = None
    characters: int | None = CHARACTERS

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        read = partial(_documents, Fields(self.text, self.label, self.pair), self.format, self.characters)
        test, valid = divided(name, read(self.test), self.valid, read)
        return replace(related_pairs(name, test), valid=related_pairs(name, valid, "valid") if valid else None)


@dataclass(frozen=True)
class ClusteredFiles:
    """Texts with classes, which no model learns."""

    tasks: ClassVar[tuple[Task, ...]] = ("clustering",)

    test: str | list[str]
    label: int | str
    text: int | str = "text"
    valid: float = 0.2
    format: Format | None = None
    characters: int | None = CHARACTERS

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        chosen = Fields(self.text, self.label)
        return clustered_texts(name, _documents(chosen, self.format, self.characters, self.test), self.valid)


@dataclass(frozen=True)
class AnalogyFiles:
    """Four words a line under lines with the names of categories, and files of further candidates, one a line."""

    tasks: ClassVar[tuple[Task, ...]] = ("analogies",)

    test: str | list[str]
    candidates: str | list[str] = field(default_factory=list)
    valid: Valid = None

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        files = find_files(self.candidates) if self.candidates else []
        candidates = [word for path in files for line in read_lines(path) if (word := line.strip())]
        found = read_analogies(name, find_files(self.test), candidates)
        if self.valid is None or isinstance(self.valid, float | int):
            return found if self.valid is None else divided_analogies(found, self.valid)
        others = read_analogies(name, find_files(self.valid), candidates)
        return replace(found, valid=other_analogies(others, found, self.valid))


@dataclass(frozen=True)
class PairedFiles:
    """Texts with the text that each is to find; or queries, documents and judgements."""

    tasks: ClassVar[tuple[Task, ...]] = ("retrieval",)

    test: str | list[str] | None = None
    text: int | str = "text"
    pair: int | str = "pair"
    valid: Valid = None
    format: Format | None = None
    documents: str | list[str] | None = None
    queries: str | list[str] | None = None
    judgements: str | list[str] | None = None
    characters: int | None = CHARACTERS

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        if self.test is None and self.documents and self.queries and self.judgements:
            tested = read_judgements(name, self.documents, self.queries, self.judgements, self.characters)
            if self.valid is None or isinstance(self.valid, float | int):
                return tested if self.valid is None else divided_queries(tested, self.valid)
            other = read_judgements(name, self.documents, self.queries, self.valid, self.characters)
            return replace(tested, valid=other_queries(other, tested, self.valid))
        if self.test is None or self.documents or self.queries or self.judgements:
            raise UserError(f"{name}: give a retrieval either `test`, or `documents`, `queries` and `judgements`")
        read = partial(_documents, Fields(self.text, None, self.pair), self.format, self.characters)
        test, valid = divided(name, read(self.test), self.valid, read)
        return replace(text_pairs(name, test), valid=text_pairs(name, valid, "valid") if valid else None)


@dataclass(frozen=True)
class PlainFiles:
    """Texts to predict."""

    tasks: ClassVar[tuple[Task, ...]] = ("language_modelling",)

    test: str | list[str]
    text: int | str = "text"
    valid: Valid = None
    format: Format | None = None
    characters: int | None = CHARACTERS

    def read(self, name: str, task: Task) -> Data:
        """The evaluator: of at most 500 texts, and 200 for validation, each once."""
        read = partial(_documents, Fields(self.text), self.format, self.characters)
        parts = divided(name, read(self.test), self.valid, read)
        test, valid = (dict.fromkeys(document.text for document in part) for part in parts)
        return LanguageModelling(subset(test, LANGUAGE_TEXTS), tuple(subset(valid, VALIDATION_TEXTS)))


@dataclass(frozen=True)
class GeneratedFiles:
    """Texts with the `pair` that models write from them; or the texts that models learned, and held-out ones.

    Of pairs, at most 1,000 are used. Only what models read is cut to `characters`, not the `pair`.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("generation",)

    train: str | list[str] | None = None
    test: float | str | list[str] = 0.1
    text: int | str = "text"
    pair: int | str | None = None
    valid: Valid = None
    format: Format | None = None
    characters: int | None = CHARACTERS

    def read(self, name: str, task: Task) -> Data:
        """The evaluator: of texts written from others, or of drawn ones."""
        if self.pair is None and self.train is not None and self.valid is None:
            return free_generation(TextFiles(self.train, self.test, None, "line", self.text, format=self.format))
        if self.pair is None or self.train is not None or isinstance(self.test, float | int):
            raise UserError(
                f"{name}: give a generation either the files of `test` with the `pair` that is written from each text, or "
                "`train`, the text that models learned and draw more of, without `valid`"
            )
        check_packages(name)
        read = partial(_documents, Fields(self.text, None, self.pair), self.format, None)
        test, valid = divided(name, read(self.test), self.valid, read)
        written = self._written(test, WRITTEN)
        return replace(written, valid=self._written(valid, VALIDATION_TEXTS)) if valid else written

    def _written(self, found: list[Document], cap: int) -> WrittenTexts:
        chosen = subset(found, cap, lambda document: document.text)
        sources = [excerpt(document.text, self.characters) for document in chosen]
        return WrittenTexts(sources, [str(document.pair) for document in chosen])


@dataclass(frozen=True)
class PromptFiles(LabelledFiles):
    """Texts with classes, for models without training; see `Template`. At most 1,000 test texts are used."""

    tasks: ClassVar[tuple[Task, ...]] = ("prompts",)

    template: str = field(kw_only=True)
    words: dict[Any, Any] = field(kw_only=True)
    shots: int | list[int] = 0
    draws: int = 3
    seed: int = 0
    rank: Rank = "sum"
    separator: str = "\n\n"
    calibration: str | list[str] = field(default_factory=list)

    def read(self, name: str, task: Task) -> Data:
        """One evaluator for each number of examples."""
        data = super().read(name, task)
        assert isinstance(data, LabelledSplits)
        words = {str(key): str(word) for key, word in self.words.items()}
        empty = [self.calibration] if isinstance(self.calibration, str) else self.calibration
        try:
            templates = [
                Template(self.template, words, self.separator, shots, self.draws, self.seed, self.rank, empty)
                for shots in ([self.shots] if isinstance(self.shots, int) else self.shots)
            ]
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        return tuple(Prompts(replace(data, test=data.test.first(PROMPTED)), template=one) for one in templates)


WRITTEN = 1000  # texts from which others are written
FILES = (
    LabelledFiles,
    ScoredFiles,
    PairedFiles,
    ClusteredFiles,
    RelatedFiles,
    AnalogyFiles,
    PlainFiles,
    GeneratedFiles,
    PromptFiles,
    MinimalPairFiles,
)
KINDS = {task: kind for kind in FILES for task in kind.tasks}


def _documents(
    chosen: Fields, format: Format | None, characters: int | None, patterns: str | list[str]
) -> Iterator[Document]:
    for path in find_files(patterns):
        found = (document_excerpt(document, characters) for document in read_file(path, format, "line", chosen))
        yield from (document for document in found if document.text.strip())
