"""The suite docs, on a corpus of its shape."""

import pytest

from ssl_nlp.corpora import Document
from ssl_nlp.evaluation import docs_suite as docs
from ssl_nlp.evaluation.overlap import TrainingText
from ssl_nlp.evaluation.suite import subset
from tests.corpus import ListCorpus
from tests.evaluation.vectors import check_results


class Docs(ListCorpus):
    """Docstrings of 25 packages, of which the last five are small."""

    def documents(self, split):
        for i in range({"train": 300, "valid": 60, "test": 60}[split]):
            package = f"package{i % 25 if i < 100 else i % 20}"
            name = "".join("abcdefghij"[int(digit)] for digit in str(i))
            yield Document(f"The {split} function {name} opens a door. Whoever enters {split} {i} sees it.", package)


@pytest.fixture
def docs_suite(monkeypatch):
    monkeypatch.setattr(docs, "InstalledDocs", lambda: Docs([]))
    return docs.docs_suite()


def test_docs_has_the_largest_classes_and_its_parts_are_those_of_the_corpus(docs_suite):
    data = docs_suite.evaluators["knn"].data
    assert len(data.classes) == 20
    assert not {f"package{i}" for i in range(20, 25)} & set(data.classes)
    for name, part in (("train", data.train), ("valid", data.valid), ("test", data.test)):
        assert all(text.startswith(f"The {name} function") for text in part.texts)
    assert set(docs_suite.train_texts) == set(data.train.texts)
    assert not set(docs_suite.evaluators["language_modelling"].data) & set(data.train.texts)
    assert len(docs_suite.texts) == len(set(docs_suite.texts))


def suite_with(monkeypatch, **more):
    """The suite of a corpus that has further documents in its splits."""

    class Extended(Docs):
        def documents(self, split):
            yield from super().documents(split)
            yield from (Document(text, "package0") for text in more.get(split, []))

    monkeypatch.setattr(docs, "InstalledDocs", lambda: Extended([]))
    return docs.docs_suite()


def test_documents_with_the_same_beginning_are_used_once(monkeypatch):
    alike = [f"{'A door opens. ' * 60}{end}" for end in range(4)]
    data = suite_with(monkeypatch, valid=alike[:2], test=alike[2:]).evaluators["knn"].data
    counts = [sum(text.startswith("A door") for text in part.texts) for part in (data.train, data.valid, data.test)]
    assert counts == [0, 0, 1]
    assert max(map(len, data.texts)) <= docs.LENGTH


def test_texts_that_training_documents_cover_are_left_out(monkeypatch):
    long = "Whoever pulls the red lever behind the last door lets the water into the lower hall."
    seen = ["Open the hall with a lever. " + long, "Nobody else may call it, whoever asks. " + long]
    mine = "Raise the lever of a gate slowly. It takes a while until all of the water has left."
    suite = suite_with(monkeypatch, train=seen, valid=[long], test=[f"Close the hall with a lever. {long}", long, mine])
    search, data = suite.evaluators["retrieval"].data, suite.evaluators["knn"].data
    assert not any(long in texts for texts in (search.answers, search.valid.answers, data.valid.texts, data.test.texts))
    assert long not in {*suite.evaluators["language_modelling"].data, *suite.evaluators["language_modelling"].valid}
    assert "It takes a while until all of the water has left." in search.answers
    assert mine in data.test.texts


def test_docs_has_a_result_for_every_evaluator(docs_suite):
    assert list(docs_suite.evaluators) == [
        "knn", "linear_probe", "few_labels_8", "few_labels_32", "few_labels_128", "retrieval", "geometry",
        "language_modelling",
    ]  # fmt: skip
    check_results(docs_suite)
    assert docs_suite.fingerprint == docs.docs_suite().fingerprint


def test_queries_contain_no_names():
    sentence = (
        "Return the `torch.nn.Module` that my_func2() of Torch-Vision, torch and ArrayLike (in HTTPServer) wraps."
    )
    assert docs.without_names(sentence, {"torch"}) == "Return the that of Torch-Vision, and (in wraps."
    documents = [
        Document("Wrap the torch loader of a file lazily. It is opened when its first item is read.", "torch"),
        Document("Only one sentence of many words here.", "torch"),
        Document("Wrap FooBar. Too little is left of the first sentence.", "torch"),
        Document("Wrap the numpy loader of a file lazily. It is opened when its first item is read.", "numpy"),
        Document("Close all of them at once. Later calls do nothing at all.", "numpy"),
        Document("Close all of them at once. What was open before is closed.", "torch"),
    ]
    pairs = docs.query_pairs(documents, {"numpy"}, "test", TrainingText.of([]))
    assert len(pairs.queries) == 2  # equal queries, and equal rests, are used once
    pairs = docs.query_pairs(documents[:-1], {"numpy"}, "test", TrainingText.of([]))
    assert set(zip(pairs.queries, pairs.answers, strict=True)) == {
        ("Wrap the loader of a file lazily.", "It is opened when its first item is read."),
        ("Close all of them at once.", "Later calls do nothing at all."),
    }


def test_a_subset_hardly_changes_when_texts_are_added():
    texts = [f"text {i}" for i in range(100)]
    chosen = subset(texts, 20)
    assert chosen == subset(texts[::-1], 20)
    assert len(set(chosen) & set(subset([*texts, "one", "more"], 20))) >= 18
