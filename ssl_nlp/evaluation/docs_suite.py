"""The suite that needs no download: documentation of the installed packages.

The classes are the 20 top-level packages with the most documents, with at most 160, 40 and 60 documents of each in the
three parts. In retrieval, the first sentence of a docstring is to find the rest of it. Texts are cut to 400 characters
(`ssl_nlp.evaluation.excerpts`).
Documents are chosen by the digests of their texts, and the splits are those of the corpus: a method trained on its train
split has seen no document of valid or test. Documents with the same beginning give one text, in one part only. Docstrings
are often copied and slightly changed: texts of valid and test of which documents of train cover every word
(`ssl_nlp.evaluation.overlap`) are left out, and so are queries that occur twice.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from ssl_nlp.corpora import Document, InstalledDocs
from ssl_nlp.corpora.base import Split
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.classification import Labelled, LabelledSplits
from ssl_nlp.evaluation.excerpts import excerpt
from ssl_nlp.evaluation.geometry import Geometry
from ssl_nlp.evaluation.language_modelling import LanguageModelling
from ssl_nlp.evaluation.overlap import TrainingText
from ssl_nlp.evaluation.retrieval import Retrieval, TextPairs
from ssl_nlp.evaluation.suite import GEOMETRY, LANGUAGE_TEXTS, VALIDATION_TEXTS, Suite, classifiers, subset

CLASSES = 20
PER_CLASS: dict[Split, int] = {"train": 160, "valid": 40, "test": 60}
PAIRS: dict[Split, int] = {"valid": 400, "test": 800}
LENGTH = 400  # characters of a text
MIN_WORDS = 4  # of a query without names, and of the text that it is to find

# Names in programs: words with an underscore, a digit, a dot or a bracket inside, or with a capital after the first letter.
_IDENTIFIER = re.compile(r"\w*(?:[_\d@#]|\w[.:(\[/]\w|[a-z][A-Z]|[A-Z]{2}|\(\))\S*")
_EDGES = "\"'`.,;:!?()[]{}"


def docs_suite() -> Suite:
    """The suite: classification by package, retrieval of docstrings, geometry and language modelling."""
    corpus = InstalledDocs()
    splits: dict[Split, list[Document]] = {split: list(corpus.documents(split)) for split in PER_CLASS}
    known = TrainingText.of([document.text for document in splits["train"]])
    counts = Counter(str(document.label) for document in splits["train"])
    classes = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:CLASSES]]
    used: set[str] = set()
    order: tuple[Split, ...] = ("test", "valid", "train")  # a text that is in two parts goes to the first of these
    parts = {
        split: _labelled(splits[split], classes, PER_CLASS[split], used, None if split == "train" else known)
        for split in order
    }
    data = LabelledSplits("docs", parts["train"], parts["valid"], parts["test"])
    pairs = query_pairs(splits["test"], set(classes), "test", known)
    valid = query_pairs(splits["valid"], set(classes), "valid", known)
    if min(len(pairs.queries), len(valid.queries)) < 2:
        raise UserError("the installed documentation has too few docstrings of several sentences: use another suite")
    firsts = {
        split: dict.fromkeys(excerpt(split_sentences(document.text)[0], LENGTH) for document in splits[split])
        for split in ("valid", "test")
    }
    tested = (text for text in firsts["test"] if not known.covers(text))
    others = (text for text in firsts["valid"] if text not in firsts["test"] and not known.covers(text))
    evaluators = classifiers(data) | {
        "retrieval": Retrieval(replace(pairs, valid=valid)),
        "geometry": Geometry(pairs.answers[:GEOMETRY], list(zip(pairs.queries, pairs.answers, strict=True))[:GEOMETRY]),
        "language_modelling": LanguageModelling(
            subset(tested, LANGUAGE_TEXTS), tuple(subset(others, VALIDATION_TEXTS))
        ),
    }
    return Suite("docs", evaluators, data.train.texts)


def _labelled(
    documents: Sequence[Document], classes: Sequence[str], cap: int, used: set[str], known: TrainingText | None
) -> Labelled:
    """The texts of one part and their classes, without known ones and those in `used`, to which the texts are added."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        by_class[str(document.label)].append(excerpt(document.text, LENGTH))
    texts, labels = [], []
    for name in classes:
        fresh = (text for text in subset(dict.fromkeys(by_class[name]), len(by_class[name])) if text not in used)
        chosen = list(islice((text for text in fresh if known is None or not known.covers(text)), cap))
        used.update(chosen)
        texts += chosen
        labels += [str(name)] * len(chosen)
    return Labelled(texts, labels)


def query_pairs(documents: Sequence[Document], packages: set[str], split: Split, known: TrainingText) -> TextPairs:
    """First sentences without names, and the rest of their docstrings, for at most 800 test or 400 validation documents.

    Of documents with the same first sentence or the same rest, the first one counts; those whose rest is known do not.
    """
    pairs: dict[str, str] = {}  # rests by query
    rests: set[str] = set()
    for document in subset(documents, len(documents), lambda d: d.text):
        sentences = split_sentences(document.text)
        rest = excerpt(document.text[len(sentences[0]) :].strip(), LENGTH)
        query = excerpt(without_names(sentences[0], packages | {str(document.label)}), LENGTH)
        if min(len(query.split()), len(rest.split())) < MIN_WORDS or query in pairs or rest in rests:
            continue
        if not known.covers(rest):
            pairs[query] = rest
            rests.add(rest)
        if len(pairs) == PAIRS[split]:
            break
    return TextPairs("docs", list(pairs), list(pairs.values()))


def without_names(sentence: str, packages: set[str]) -> str:
    """A sentence without the names in it, so that retrieval is more than looking up a name.

    A name that is an English word stays, because the sentence is about it: "Predict the target of new samples."

    >>> without_names("Return the numpy array_like of `Foo.bar` as a Python list.", {"numpy"})
    'Return the of as a Python list.'
    """
    names = {name.lower() for name in packages} | {name.lower().replace("_", "-") for name in packages}
    words = [
        word
        for word in sentence.split()
        if not _IDENTIFIER.fullmatch(word.strip("\"'`.,;:!?[]{}")) and word.strip(_EDGES).lower() not in names
    ]
    return " ".join(words)
