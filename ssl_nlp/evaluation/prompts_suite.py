"""The suite of prompts that needs no download: to which installed package does the first sentence of a docstring belong?

The classes are the 6 top-level packages with the most documents, with at most 40, 10 and 20 documents of each in the three
parts. Names of packages and names in programs are removed from the sentences, so that the answer is not in the text.
Sentences of valid and test of which documents of train cover every word (`ssl_nlp.evaluation.overlap`) are left out.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

from ssl_nlp.corpora import Document, InstalledDocs
from ssl_nlp.corpora.base import Split
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.evaluation.classification import Labelled, LabelledSplits
from ssl_nlp.evaluation.docs_suite import MIN_WORDS, without_names
from ssl_nlp.evaluation.overlap import TrainingText
from ssl_nlp.evaluation.prompts import Prompts, Template
from ssl_nlp.evaluation.suite import Suite, subset

PACKAGES = 6
PER_PACKAGE: dict[Split, int] = {"test": 20, "valid": 10, "train": 40}  # a text of two parts goes to the first of these
READ = 10  # documents for each that is wanted: many have the same first sentence, or too short a one
SHOTS = (0, 4)
LENGTH = 120  # characters of the longest sentence
TEMPLATE = "Summary: {text}\nPackage: {label}"


def prompts_suite() -> Suite:
    """The suite: zero-shot and few-shot classification of sentences by package, calibrated."""
    corpus = InstalledDocs()
    splits: dict[Split, list[Document]] = {split: list(corpus.documents(split)) for split in PER_PACKAGE}
    known = TrainingText.of([document.text for document in splits["train"]])
    counts = Counter(str(document.label) for document in splits["train"])
    packages = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:PACKAGES]]
    used: set[str] = set()
    parts = {
        split: _labelled(splits[split], packages, PER_PACKAGE[split], used, None if split == "train" else known)
        for split in PER_PACKAGE
    }
    data = LabelledSplits("prompts", parts["train"], parts["valid"], parts["test"])
    words = {name: name for name in data.classes}
    evaluators = [
        Prompts(data, template=Template(TEMPLATE, words, shots=shots, calibration=("N/A",))) for shots in SHOTS
    ]
    return Suite("prompts", {f"package.{one.name}": one for one in evaluators}, data.train.texts)


def _labelled(
    documents: Sequence[Document], packages: Sequence[str], cap: int, used: set[str], known: TrainingText | None
) -> Labelled:
    """Sentences of one part and their packages, without known ones and those in `used`, to which they are added."""
    owners: dict[str, set[str]] = defaultdict(set)
    for name in packages:
        own = (document for document in documents if document.label == name)
        for document in subset(own, READ * cap, lambda document: document.text):
            sentence = without_names(split_sentences(document.text)[0], {*packages})
            fits = len(sentence.split()) >= MIN_WORDS and len(sentence) <= LENGTH and sentence not in used
            if fits and not (known is not None and known.covers(sentence)):
                owners[sentence].add(name)
    texts, labels = [], []
    for name in packages:
        chosen = subset((sentence for sentence, names in owners.items() if names == {name}), cap)
        texts += chosen
        labels += [name] * len(chosen)
    used.update(texts)
    return Labelled(texts, labels)
