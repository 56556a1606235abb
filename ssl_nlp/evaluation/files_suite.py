"""The user's own files as a suite, described by YAML.

    name: mine
    data:
      sentiment: {task: classification, train: train.tsv, valid: 0.1, test: test.tsv, text: sentence, label: label}
      sts: {task: similarity, test: pairs.csv, text: first, pair: second, score: score}
      captions: {task: retrieval, test: captions.jsonl, text: english, pair: german}
      search: {task: retrieval, documents: corpus.jsonl, queries: queries.jsonl, judgements: qrels/test.tsv}
      topics: {task: clustering, test: topics.tsv, text: title, label: topic}
      paraphrases: {task: pair_classification, test: pairs.tsv, text: 0, pair: 1, label: 2}
      words: {task: word_similarity, test: simlex.tsv, text: 0, pair: 1, score: 3}
      capitals: {task: analogies, test: questions-words.txt, candidates: frequent-words.txt}
      letters: {task: language_modelling, test: letters.txt}
      drawn: {task: generation, train: train.txt, test: letters.txt}
      translations: {task: generation, test: captions.jsonl, text: english, pair: german}
      mood: {task: prompts, train: train.tsv, text: sentence, label: label, template: "{text} It was {label}.",
             words: {"0": bad, "1": good}, shots: [0, 4]}
      grammar: {task: minimal_pairs, test: blimp/*.jsonl}
      order: {class_path: own_evaluator.WordOrder, init_args: {path: letters.txt}}

Paths are relative to the working directory; formats and fields are those of `TextFiles`. A classification with a `pair` is
one of pairs of texts. `valid` and `test` of a classification, and `test` of a generation without a `pair`, may be shares of
`train`, and `valid` of a clustering is a share of `test`. Queries, documents and judgements are described in
`ssl_nlp.evaluation.judged_files`, prompts in `ssl_nlp.evaluation.prompts`. A `class_path` is an evaluator of your own
(`ssl_nlp.evaluation.own`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import yaml

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
    data_suite,
    labelled_splits,
    related_pairs,
    scored_pairs,
    text_pairs,
)
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.generated_text import check_packages
from ssl_nlp.evaluation.generation_suite import GENERATION, free_generation
from ssl_nlp.evaluation.hub_suites import HUB_SUITES
from ssl_nlp.evaluation.judged_files import read_judgements
from ssl_nlp.evaluation.limits_suite import LIMITS
from ssl_nlp.evaluation.minimal_pair_files import MinimalPairFiles
from ssl_nlp.evaluation.own import check_settings, own_evaluator
from ssl_nlp.evaluation.prompts import PROMPTED, Prompts, Rank, Template
from ssl_nlp.evaluation.suite import LANGUAGE_TEXTS, Suite, subset
from ssl_nlp.evaluation.written_texts import WrittenTexts
from ssl_nlp.names import check_name


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

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        corpus = TextFiles(self.train, self.valid, self.test, "line", self.text, self.label, self.pair, self.format)
        return labelled_splits(name, corpus)


@dataclass(frozen=True)
class ScoredFiles:
    """Pairs of texts, or of words, with a number."""

    tasks: ClassVar[tuple[Task, ...]] = ("similarity", "word_similarity")

    test: str | list[str]
    score: int | str
    text: int | str = "text"
    pair: int | str = "pair"
    format: Format | None = None

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        return scored_pairs(name, _documents(self.test, Fields(self.text, self.score, self.pair), self.format))


@dataclass(frozen=True)
class RelatedFiles:
    """Pairs of texts that belong together (1) or do not (0)."""

    tasks: ClassVar[tuple[Task, ...]] = ("pair_classification",)

    test: str | list[str]
    label: int | str
    text: int | str = "text"
    pair: int | str = "pair"
    format: Format | None = None

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        return related_pairs(name, _documents(self.test, Fields(self.text, self.label, self.pair), self.format))


@dataclass(frozen=True)
class ClusteredFiles:
    """Texts with classes, which no model learns."""

    tasks: ClassVar[tuple[Task, ...]] = ("clustering",)

    test: str | list[str]
    label: int | str
    text: int | str = "text"
    valid: float = 0.2
    format: Format | None = None

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        return clustered_texts(name, _documents(self.test, Fields(self.text, self.label), self.format), self.valid)


@dataclass(frozen=True)
class AnalogyFiles:
    """Four words a line under lines with the names of categories, and files of further candidates, one a line."""

    tasks: ClassVar[tuple[Task, ...]] = ("analogies",)

    test: str | list[str]
    candidates: str | list[str] = field(default_factory=list)

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        files = find_files(self.candidates) if self.candidates else []
        candidates = [word for path in files for line in read_lines(path) if (word := line.strip())]
        return read_analogies(name, find_files(self.test), candidates)


@dataclass(frozen=True)
class PairedFiles:
    """Texts with the text that each is to find; or queries, documents and judgements."""

    tasks: ClassVar[tuple[Task, ...]] = ("retrieval",)

    test: str | list[str] | None = None
    text: int | str = "text"
    pair: int | str = "pair"
    format: Format | None = None
    documents: str | list[str] | None = None
    queries: str | list[str] | None = None
    judgements: str | list[str] | None = None

    def read(self, name: str, task: Task) -> Data:
        """The data set."""
        if self.test is None and self.documents and self.queries and self.judgements:
            return read_judgements(name, self.documents, self.queries, self.judgements)
        if self.test is None or self.documents or self.queries or self.judgements:
            raise UserError(f"{name}: give a retrieval either `test`, or `documents`, `queries` and `judgements`")
        return text_pairs(name, _documents(self.test, Fields(self.text, None, self.pair), self.format))


@dataclass(frozen=True)
class PlainFiles:
    """Texts to predict."""

    tasks: ClassVar[tuple[Task, ...]] = ("language_modelling",)

    test: str | list[str]
    text: int | str = "text"
    format: Format | None = None

    def read(self, name: str, task: Task) -> Data:
        """The data set: at most 500 texts, each once."""
        found = _documents(self.test, Fields(self.text), self.format)
        return subset(dict.fromkeys(document.text for document in found), LANGUAGE_TEXTS)


@dataclass(frozen=True)
class GeneratedFiles:
    """Texts with the `pair` that models write from them; or the texts that models learned, and held-out ones.

    Of pairs, at most 1,000 are used.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("generation",)

    train: str | list[str] | None = None
    test: float | str | list[str] = 0.1
    text: int | str = "text"
    pair: int | str | None = None
    format: Format | None = None

    def read(self, name: str, task: Task) -> Data:
        """The evaluator: of texts written from others, or of drawn ones."""
        if self.pair is None and self.train is not None:
            return free_generation(TextFiles(self.train, self.test, None, "line", self.text, format=self.format))
        if self.pair is None or self.train is not None or isinstance(self.test, float | int):
            raise UserError(
                f"{name}: give a generation either the files of `test` with the `pair` that is written from each text, or "
                "`train`, the text that models learned and draw more of"
            )
        check_packages(name)
        found = _documents(self.test, Fields(self.text, None, self.pair), self.format)
        chosen = subset(found, WRITTEN, lambda document: document.text)
        return WrittenTexts([document.text for document in chosen], [str(document.pair) for document in chosen])


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
RESERVED = ("docs", "prompts", "words", GENERATION, LIMITS, "files", *HUB_SUITES)
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


def files_suite(path: str | Path) -> Suite:
    """The suite that a YAML file describes.

    Raises:
        UserError: the file cannot be read or describes nothing, or something is wrong with what it names.
    """
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read --config {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or config.keys() != {"name", "data"} or not isinstance(config["data"], dict):
        raise UserError(f"--config {path}: give it `name: NAME` and `data:` with a data set or more, and nothing else")
    name = str(config["name"])
    check_name(name, f"--config {path}: `name`")
    if name in RESERVED:
        raise UserError(f"--config {path}: `name: {name}` is taken: choose another")
    if not config["data"]:
        raise UserError(f"--config {path}: `data` is empty: describe at least one data set")
    if wrong := [key for key in config["data"] if "/" in str(key)]:
        raise UserError(f"--config {path}: the data set {wrong[0]!r} has a / in its name: leave it out")
    data: dict[str, tuple[Task, Data]] = {}
    own: dict[str, Evaluator] = {}
    for key, given in config["data"].items():
        if isinstance(given, dict) and "class_path" in given:
            own[str(key)] = own_evaluator(f"{path}, {key}", given)
        else:
            data[str(key)] = _data(f"{path}, {key}", given)
    return data_suite(name, data, own)


def _data(place: str, given: Any) -> tuple[Task, Data]:
    if not isinstance(given, dict) or given.get("task") not in list(KINDS):
        raise UserError(
            f"{place}: set `task` to one of {', '.join(KINDS)}, or `class_path` to an evaluator of your own"
        )
    task: Task = given["task"]
    kind, settings = KINDS[task], {key: value for key, value in given.items() if key != "task"}
    check_settings(place, task, kind, settings)
    for key, value in settings.items():
        if not _is_of_kind(key, value, kind):
            raise UserError(f"{place}: `{key}: {value}` is not a valid setting for {task}: correct it, or leave it out")
    return task, kind(**settings).read(place, task)


def _is_of_kind(key: str, value: Any, kind: type) -> bool:
    if kind is ClusteredFiles and key == "valid":
        return isinstance(value, int | float) and 0 < value < 1
    if key in ("train", "valid", "test", "candidates", "documents", "queries", "judgements"):
        several = value if isinstance(value, list) else [value]
        share = issubclass(kind, LabelledFiles | GeneratedFiles) and key != "train" and isinstance(value, int | float)
        return share or (bool(several) and all(isinstance(path, str) for path in several))
    if key in ("template", "separator", "rank"):
        return isinstance(value, str)
    if key in ("draws", "seed"):
        return type(value) is int
    if key in ("shots", "calibration"):
        several = value if isinstance(value, list) else [value]
        return all(type(one) is (int if key == "shots" else str) for one in several)
    if key == "words":
        return isinstance(value, dict) and bool(value)
    if key == "format":
        return value is None or value in list(get_args(Format))
    optional = (issubclass(kind, LabelledFiles) and key == "pair") or key == "part"
    return isinstance(value, int | str) or (value is None and optional)


def _documents(patterns: str | list[str], chosen: Fields, format: Format | None) -> Iterator[Document]:
    for path in find_files(patterns):
        yield from (document for document in read_file(path, format, "line", chosen) if document.text.strip())
