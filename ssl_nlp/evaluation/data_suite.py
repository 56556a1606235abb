"""Suites of named data sets, whether the user's own files or those of a hub: the evaluators for each kind of data.

Of each data set at most 10,000 texts are for training, 2,000 for validation and 5,000 for testing: those with the lowest
digests. Of each text, the first 1,000 characters are used (`ssl_nlp.evaluation.excerpts`), or as many as its data set says.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from ssl_nlp.corpora import Document
from ssl_nlp.corpora.base import Split, split_of, text_digest
from ssl_nlp.corpora.splits import SplitCorpus
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.analogies import Analogies, WordAnalogies
from ssl_nlp.evaluation.classification import Labelled, LabelledSplits
from ssl_nlp.evaluation.clustering import ClusteredTexts, Clustering
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.excerpts import CHARACTERS, Excerpts
from ssl_nlp.evaluation.free_generation import FreeGeneration
from ssl_nlp.evaluation.geometry import Geometry
from ssl_nlp.evaluation.language_modelling import LanguageModelling
from ssl_nlp.evaluation.minimal_pairs import MinimalPairs
from ssl_nlp.evaluation.pair_classification import PairClassification, RelatedPairs
from ssl_nlp.evaluation.prompts import Prompts
from ssl_nlp.evaluation.retrieval import JudgedRetrieval, Judgements, Retrieval, TextPairs
from ssl_nlp.evaluation.similarity import ScoredPairs, SentenceSimilarity, WordSimilarity
from ssl_nlp.evaluation.suite import GEOMETRY, LANGUAGE_TEXTS, VALIDATION_TEXTS, Suite, classifiers, subset
from ssl_nlp.evaluation.written_texts import WrittenTexts

Task = Literal[
    "classification",
    "similarity",
    "retrieval",
    "clustering",
    "pair_classification",
    "word_similarity",
    "analogies",
    "language_modelling",
    "generation",
    "prompts",
    "minimal_pairs",
]
CAPS: dict[Split, int] = {"train": 10_000, "valid": 2_000, "test": 5_000}
RELATED = 0.8  # alignment is measured on pairs whose score is this far up the scale

Data = (
    LabelledSplits
    | ScoredPairs
    | TextPairs
    | Judgements
    | ClusteredTexts
    | RelatedPairs
    | WordAnalogies
    | LanguageModelling
    | FreeGeneration
    | WrittenTexts
    | MinimalPairs
    | tuple[Prompts, ...]
)


def data_suite(name: str, data: Mapping[str, tuple[Task, Data]], own: Mapping[str, Evaluator] | None = None) -> Suite:
    """The suite of several data sets; its evaluators are called `DATA.EVALUATOR`.

    Args:
        name: of the suite.
        data: data sets by name.
        own: further evaluators by name.
    """
    evaluators: dict[str, Evaluator] = {}
    train: list[str] = []
    tested: list[str] = []
    validated: list[str] = []
    for key, (task, given) in data.items():
        if isinstance(given, LabelledSplits):
            evaluators |= classifiers(given, f"{key}.")
            train += [*given.train.texts, *(given.train.pairs or [])]
            texts, pairs = list(given.test.texts), []
            validated += given.valid.texts
        elif isinstance(given, TextPairs):
            evaluators[f"{key}.retrieval"] = Retrieval(given)
            texts, pairs = list(given.answers), list(zip(given.queries, given.answers, strict=True))
            validated += given.valid.answers if given.valid else []
        elif isinstance(given, Judgements):
            evaluators[f"{key}.retrieval"] = JudgedRetrieval(given)
            best = [given.documents[max(gains, key=lambda place: gains[place])] for gains in given.gains]
            texts, pairs = list(given.documents), list(zip(given.queries, best, strict=True))
        elif isinstance(given, ClusteredTexts):
            evaluators[f"{key}.clustering"] = Clustering(given)
            texts, pairs = list(given.test.texts), []
            validated += given.valid.texts
        elif isinstance(given, RelatedPairs):
            evaluators[f"{key}.pair_classification"] = PairClassification(given)
            together = zip(given.first, given.second, given.related, strict=True)
            texts, pairs = given.texts, [(a, b) for a, b, related in together if related]
            validated += given.valid.texts if given.valid else []
        elif isinstance(given, tuple):
            evaluators |= {f"{key}.{one.name}": one for one in given}
            continue
        elif isinstance(given, LanguageModelling):
            evaluators[f"{key}.language_modelling"] = given
            continue
        elif isinstance(given, FreeGeneration):
            evaluators[f"{key}.free_generation"] = given
            continue
        elif isinstance(given, WrittenTexts):
            evaluators[f"{key}.generation"] = given
            continue
        elif isinstance(given, MinimalPairs):
            evaluators[f"{key}.minimal_pairs"] = given
            continue
        elif isinstance(given, WordAnalogies):
            evaluators[f"{key}.analogies"] = Analogies(given)
            continue
        elif task == "word_similarity":
            evaluators[f"{key}.word_similarity"] = WordSimilarity(given)
            continue
        else:
            evaluators[f"{key}.similarity"] = SentenceSimilarity(given)
            least = min(given.scores) + RELATED * (max(given.scores) - min(given.scores))
            scored = zip(given.first, given.second, given.scores, strict=True)
            texts, pairs = given.texts, [(a, b) for a, b, score in scored if score >= least]
            validated += given.valid.texts if given.valid else []
        texts = list(dict.fromkeys(texts))
        evaluators[f"{key}.geometry"] = Geometry(subset(texts, GEOMETRY), subset(pairs, GEOMETRY, lambda pair: pair[0]))
        tested += texts
    evaluators |= own or {}
    if predicted := subset(dict.fromkeys(tested), LANGUAGE_TEXTS):
        others = subset(dict.fromkeys(text for text in validated if text not in {*tested}), VALIDATION_TEXTS)
        evaluators.setdefault("language_modelling", LanguageModelling(predicted, tuple(others)))
    return Suite(name, evaluators, train)


def labelled_splits(name: str, corpus: SplitCorpus, characters: int | None = CHARACTERS) -> LabelledSplits:
    """The labelled texts, or pairs of texts, of a corpus.

    Args:
        name: of the data set.
        corpus: whose splits they are.
        characters: of a text; None: all.

    Raises:
        UserError: a text has no label, or there is only one class.
    """
    excerpts = Excerpts(corpus, characters)
    parts = {split: _labelled(name, documents(excerpts, split), CAPS[split]) for split in CAPS}
    return LabelledSplits(name, parts["train"], parts["valid"], parts["test"])


def documents(corpus: SplitCorpus, split: Split) -> Iterator[Document]:
    """Single texts, each once; pairs as they come, because a text may be in several of them."""
    if not corpus.paired:
        return corpus.documents(split)
    return (document for _, document in corpus.digested(split))


def _labelled(name: str, found: Iterable[Document], cap: int) -> Labelled:
    chosen = subset(found, cap, lambda document: document.text)
    for document in chosen:
        if not document.label:
            raise UserError(f"{name} has no label for {document.text[:40]!r}: give every text one, or remove it")
        if not isinstance(document.label, str):
            raise UserError(
                f"{name}: {document.text[:40]!r} has several labels {document.label}: a probe needs one a text"
            )
    if fractions := [document.label for document in chosen if _is_fraction(str(document.label))]:
        raise UserError(
            f"{name}: labels such as {fractions[0]!r} are numbers, not classes: name another field, or choose "
            "`task: similarity` where they are scores of pairs"
        )
    pairs = [document.pair for document in chosen if document.pair is not None]
    return Labelled([document.text for document in chosen], [str(document.label) for document in chosen], pairs or None)


def _is_fraction(label: str) -> bool:
    try:
        number = float(label)
    except ValueError:
        return False
    return math.isfinite(number) and not number.is_integer()


def scored_pairs(name: str, found: Iterable[Document], split: Split = "test") -> ScoredPairs:
    """Pairs of texts with their scores, from documents with a pair and a number as label.

    Args:
        name: of the data set.
        found: the documents.
        split: decides how many are used.

    Raises:
        UserError: a score is not a number.
    """
    chosen = subset(found, CAPS[split], lambda document: f"{document.text}\n{document.pair}")
    scores = [_score(name, document) for document in chosen]
    return ScoredPairs(name, [d.text for d in chosen], [str(d.pair) for d in chosen], scores)


def _score(name: str, document: Document) -> float:
    try:
        score = float(str(document.label))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UserError(
            f"{name}: the score {document.label!r} of {document.text[:40]!r} is not a number: correct it, or name another"
        )
    return score


def related_pairs(name: str, found: Iterable[Document], split: Split = "test") -> RelatedPairs:
    """Pairs of texts, from documents with a pair and the label 1 or 0; arguments as for `scored_pairs`.

    Raises:
        UserError: a label is something else.
    """
    chosen = subset(found, CAPS[split], lambda document: f"{document.text}\n{document.pair}")
    for document in chosen:
        if document.label not in ("0", "1"):
            raise UserError(
                f"{name}: the label {document.label!r} of {document.text[:40]!r} is neither 1 (the pair belongs "
                "together) nor 0: correct it, or name another field"
            )
    related = [document.label == "1" for document in chosen]
    return RelatedPairs(name, [d.text for d in chosen], [str(d.pair) for d in chosen], related)


def clustered_texts(name: str, found: Iterable[Document], valid: float) -> ClusteredTexts:
    """Different texts with their classes, a share of them for validation.

    Raises:
        UserError: a text has no label, or the share leaves too little.
    """
    documents = list({document.text: document for document in found}.values())
    parts: dict[Split, list[Document]] = {"valid": [], "test": [], "train": []}
    for document in documents:
        parts[split_of(text_digest(document.text), valid, 1 - valid)].append(document)
    return ClusteredTexts(name, *(_labelled(name, parts[split], CAPS[split]) for split in ("valid", "test")))


def text_pairs(name: str, found: Iterable[Document], split: Split = "test") -> TextPairs:
    """Texts and the pairs that they are to find, from documents with a pair; arguments as for `scored_pairs`."""
    chosen = subset(found, CAPS[split], lambda document: document.text)
    return TextPairs(name, [document.text for document in chosen], [str(document.pair) for document in chosen])


def minimal_pairs(name: str, found: Sequence[Document]) -> MinimalPairs:
    """All pairs of a good sentence and a bad one, from documents with a pair, a paradigm as label, and a field as part.

    Args:
        name: of the data set.
        found: the documents; one without a part belongs to the field `all`.

    Raises:
        UserError: there are no pairs, one has no paradigm, or a paradigm belongs to two fields.
    """
    if not found:
        raise UserError(f"{name} has no pairs of sentences: name other files")
    fields: dict[str, str] = {}
    for document in found:
        paradigm, own = document.label, document.part or "all"
        if not isinstance(paradigm, str):
            raise UserError(f"{name}: the pair {document.text[:40]!r} has no paradigm: name its field in `label`")
        if (other := fields.setdefault(paradigm, own)) != own:
            raise UserError(
                f"{name}: the paradigm {paradigm!r} has pairs of the fields {other!r} and {own!r}: give them one "
                "field, or two paradigms"
            )
    return MinimalPairs(
        [document.text for document in found],
        [str(document.pair) for document in found],
        [str(document.label) for document in found],
        [document.part or "all" for document in found],
    )
