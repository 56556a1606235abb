"""Baselines of tasks: against scikit-learn by hand, and in the order of the task's own items."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from ssl_nlp.cache import fingerprint
from ssl_nlp.corpora import Corpus, Document
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.units import Texts
from ssl_nlp.encoders import Transformer
from ssl_nlp.tasks import Classification, Regression, RelationExtraction, Tagging
from ssl_nlp.tasks.baselines import baseline
from ssl_nlp.tasks.documents import share_in_rows, texts_in_rows
from tests.corpus import random_texts

TEXTS = random_texts(160, longest=12)


class Splits(Corpus):
    """Labelled documents: 100 to train on, 30 to choose on and 30 to test on, some of them without a label."""

    def __init__(self, label, pairs=False):
        every = [Document(text, label(text), text[::-1] if pairs else None) for text in dict.fromkeys(TEXTS)]
        every[105] = Document("the dog without a label")
        self.parts = {"train": every[:100], "valid": every[100:125], "test": every[125:150]}

    def documents(self, split):
        return iter(self.parts[split])

    def fingerprint(self):
        return fingerprint([[split, repr(documents)] for split, documents in self.parts.items()])


def connected(task, corpus, kind, **settings):
    given = {"unit": "text", "length": 32, "batch_size": 7, "labels": kind}
    data = TextDataModule(corpus, TokenizerSettings(vocab_size=300), **given | settings)
    torch.manual_seed(0)
    task.connect_data(data, "validate")
    return task, data


def encoder():
    return Transformer(size=None, dim=8, layers=1, heads=1, max_length=64)


def animal(text):
    return "dog" if text.count("dog") > text.count("cat") else "cat"


def test_classes_are_those_of_logistic_regression_item_by_item():
    corpus = Splits(animal)
    task, data = connected(Classification(encoder()), corpus, "class")
    found = baseline(task, data, "test")
    assert found.name == "tfidf"
    train, test = corpus.parts["train"], corpus.parts["test"]
    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")
    x = vectorizer.fit_transform([document.text for document in train])
    best = 0.0
    for strength in (0.1, 1, 10, 100):
        model = LogisticRegression(C=strength, max_iter=500).fit(x, [document.label for document in train])
        right = model.predict(vectorizer.transform([d.text for d in test])) == [d.label for d in test]
        best = max(best, float(right.mean()))
    assert 0.6 < found.result.primary <= best + 0.08
    assert len(found.result.items) == len(test)
    # The items are in the order of the documents: those of a task that knows the labels are all right.
    items = [item for batch in data.test_dataloader() for item in task.items(perfect(batch, 2), batch)]
    assert task.result(items).primary == 1
    valid = baseline(task, data, "valid")
    assert len(valid.result.items) == 24  # one text has no label


def test_words_beyond_the_rows_of_the_task_do_not_count():
    """The class is named at the end of each text, and in the pair."""
    corpus = Splits(animal, pairs=True)
    for split, documents in corpus.parts.items():
        texts = [f"{' '.join('abcde')} {n} is a {d.label}" for n, d in enumerate(documents)]
        corpus.parts[split] = [
            Document(text, d.label, str(d.label)) for text, d in zip(texts, documents, strict=True) if d.label
        ]
    documents, primaries = corpus.parts["test"], {}
    for unit, length in (("text", 64), ("text", 8), ("pair", 16)):
        task, data = connected(Classification(encoder()), corpus, "class", unit=unit, length=length)
        primaries[unit, length] = baseline(task, data, "test").result.primary
        texts, *pairs = texts_in_rows(documents, data)
        cut = length // len([texts, *pairs]) < 20
        assert all(("is a" in text) != cut for text in texts)
        assert pairs == ([[d.pair for d in documents]] if unit == "pair" else [])
        whole = sum(len(d.text) for d in documents) + sum(len(d.pair) for d in documents if unit == "pair")
        kept = sum(map(len, texts)) + sum(map(len, *pairs) if pairs else [])
        assert share_in_rows(documents, data) == kept / whole
    assert primaries["text", 64] == primaries["pair", 16] == 1.0 > primaries["text", 8]


class Halves(Texts):
    """Makes rows of the first half of each text."""

    def texts(self, document):
        return [document.text[: len(document.text) // 2]]


def test_of_rows_that_are_no_whole_texts_no_share_is_claimed():
    corpus = Splits(animal)
    documents = corpus.parts["test"]
    for unit in (Halves(), "sentence", "block", "pair"):  # the documents have no pairs
        data = TextDataModule(corpus, TokenizerSettings(vocab_size=300), unit=unit, length=16)
        assert share_in_rows(documents, data) is None
        assert texts_in_rows(documents, data) == [[document.text for document in documents]]


def perfect(batch, classes):
    return torch.nn.functional.one_hot(batch.labels.clamp(min=0), classes).float()


def test_pairs_are_told_apart_by_their_differences():
    corpus = Splits(animal, pairs=True)
    task, data = connected(Classification(encoder()), corpus, "class", unit="pair", length=64)
    assert baseline(task, data, "test").result.primary > 0.6


def animals(text):
    return tuple(sorted({word for word in text.split() if word in ("dog", "cat", "bird")}))


def test_several_classes_are_told_one_by_one():
    task, data = connected(Classification(encoder(), several=True), Splits(animals), "classes")
    found = baseline(task, data, "test")
    assert (found.name, found.result.primary_metric) == ("tfidf", "micro_f1")
    assert found.result.primary > 0.9


def test_scores_are_those_of_ridge_regression():
    task, data = connected(Regression(encoder()), Splits(lambda text: float(text.count("dog"))), "score")
    found = baseline(task, data, "test")
    assert (found.name, found.result.details["texts"]) == ("tfidf", 100)
    assert found.result.metrics["pearson"] > 0.7


def tags(text):
    """The tag of a word depends on the word, but not always: `the` is one thing before `dog` and another elsewhere."""
    words = text.split()
    return tuple(
        "A" if word == "the" and words[n + 1 : n + 2] == ["dog"] else "B" if word == "the" else word[0].upper()
        for n, word in enumerate(words)
    )


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_tags_are_the_commonest_of_each_word(kind):
    corpus = Splits(tags)
    corpus.parts["test"][0] = Document("unheard things", ("X", "T"))
    corpus.parts["train"][0] = Document("x", ("X",))
    given = TokenizerSettings(kind=kind, vocab_size=300)
    task = Tagging(encoder(), characters=False)
    data = TextDataModule(corpus, given, unit="text", length=64, batch_size=7, labels="tags")
    torch.manual_seed(0)
    task.connect_data(data, "validate")
    found = baseline(task, data, "test")
    assert found.name == "majority_tag"
    counts = {}
    for document in corpus.parts["train"]:
        for word, tag in zip(document.text.split(), document.label, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    commonest = sum(counts.values(), Counter()).most_common(1)[0][0]
    right = [
        (counts[word].most_common(1)[0][0] if word in counts else commonest) == tag
        for document in corpus.parts["test"]
        for word, tag in zip(document.text.split(), document.label, strict=True)
        if len(document.text) < 60  # the rest is cut in characters
    ]
    if kind == "bpe":
        assert found.result.metrics["accuracy"] == pytest.approx(np.mean(right))
    assert 0.8 < found.result.metrics["accuracy"] < 1


def test_relations_are_classes_of_their_texts():
    corpus = Splits(animal)
    for split, documents in corpus.parts.items():
        found = [Document(f"<e1>{d.text}</e1> and <e2>it</e2>", d.label and f"{d.label}(e1,e2)") for d in documents]
        corpus.parts[split] = found
    task, data = connected(RelationExtraction(encoder()), corpus, "relation", length=64)
    found = baseline(task, data, "test")
    assert (found.name, found.result.primary_metric, found.result.details["texts"]) == ("tfidf", "macro_f1", 100)
    assert found.result.metrics["accuracy"] > 0.7


def test_where_none_fits_there_is_a_reason():
    task, data = connected(Classification(encoder()), Splits(animal), "class", unit="sentence")
    assert baseline(task, data, "test").reason == "its rows are sentences of labelled documents (data.unit sentence)"
    data.labels = "spans"
    found = baseline(task, data, "test")
    assert (found.result, found.reason) == (None, "Classification has no word-count baseline")
