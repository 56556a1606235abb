import math
from collections import Counter
from dataclasses import replace
from itertools import chain, product

import numpy as np
import pytest

from ssl_nlp.corpora import SPLITS, HiddenMarkovLanguage
from ssl_nlp.corpora.hidden_markov import UNSEEN
from ssl_nlp.corpora.synthetic import spell
from ssl_nlp.errors import UserError


def tiny(**settings) -> HiddenMarkovLanguage:
    defaults = {"topics": 2, "states": 2, "words": 4, "shortest": 3, "longest": 9, "stop": 0.3, "same_topic": 1}
    return HiddenMarkovLanguage(**{**defaults, "documents": 400, "valid": 0.2, "test": 0.1, **settings})


def test_a_corpus_like_any_other():
    language = tiny(words=50)
    splits = {split: list(language.documents(split)) for split in SPLITS}
    assert splits["train"] == list(tiny(words=50).documents("train"))
    texts = [document.text for document in chain(*splits.values())]
    assert {split: len(found) for split, found in splits.items()} == {"train": 280, "valid": 80, "test": 40}
    assert {document.label for document in splits["train"]} == {"topic0", "topic1"}
    assert all(document.part == document.label for document in splits["train"])
    assert {len(text.split()) for text in texts} == set(range(3, 10))
    assert set(" ".join(texts).split()) <= set(language.words)


def test_drawn_documents_have_the_probabilities_of_the_model():
    """Topics, lengths, and words two apart, within five standard errors."""
    language, number = tiny(), 20_000
    rows, topics = language.draw(number, np.random.default_rng(0), 1)

    def compare(counts: np.ndarray, probabilities: np.ndarray) -> None:
        error = np.sqrt(probabilities * (1 - probabilities) / number)
        assert (np.abs(counts / number - probabilities) <= 5 * error + 1e-12).all()

    compare(np.bincount(topics, minlength=2), np.exp(language.model.topics))
    compare(np.bincount([len(row) for row in rows], minlength=10), language.lengths)
    pairs = np.array([[one, UNSEEN, other] for one in range(4) for other in range(4)])
    counted = Counter((row[0], row[2]) for row in rows)
    found = np.array([counted[one, other] for one, _, other in pairs.tolist()])
    compare(found, np.exp(language.model.log_likelihood(pairs)))


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_is_drawn_from_the_language_texts_that_are_likely_as_often_as_they_are(split):
    """Of few words, so that most texts occur many times."""
    language = tiny(shortest=1, longest=2, documents=30_000, valid=0.3, test=0.3)
    texts = [document.text for document in language.documents(split)]
    pairs = np.array([[one, other] for one in range(4) for other in (UNSEEN, *range(4))])
    counted = Counter(map(tuple, language.as_numbers(texts).tolist()))
    found = np.array([counted[tuple(pair)] for pair in pairs.tolist()]) / len(texts)
    lengths = (pairs != UNSEEN).sum(axis=1)
    expected = np.exp(language.model.log_likelihood(pairs)) * language.lengths[lengths]
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / len(texts)) + 1e-12).all()


def test_documents_of_every_split_share_their_topic_with_the_next():
    language = tiny(topics=8, same_topic=5, valid=0.1)
    for split in SPLITS:
        topics = np.array([document.label for document in language.documents(split)])
        assert (topics.reshape(-1, 5) == topics[::5, None]).all()


def test_documents_one_after_the_other_share_a_topic():
    _, topics = tiny().draw(1003, np.random.default_rng(0), 5)
    assert (topics[:1000].reshape(200, 5) == topics[:1000:5, None]).all()
    assert 0 < np.count_nonzero(np.diff(topics[::5])) < 200


@pytest.mark.parametrize("topics", [1, 3])
def test_the_information_that_two_texts_share_is_that_of_all_pairs_of_texts(topics):
    language = tiny(topics=topics, shortest=1, longest=3, word_concentration=0.5)
    texts = np.array([[*row, *[UNSEEN] * (3 - size)] for size in (1, 2, 3) for row in product(range(4), repeat=size)])
    lengths = language.lengths[(texts != UNSEEN).sum(axis=1)]
    alone = [replace(language.model, topics=np.log(one)).log_likelihood(texts) for one in np.eye(topics) + 1e-300]
    given = np.exp(alone) * lengths  # (topics, texts)
    joint = np.einsum("k,ka,kb->ab", np.exp(language.model.topics), given, given)
    one = joint.sum(axis=1)
    assert one.sum() == pytest.approx(1)
    exact = (joint * np.log(joint / np.outer(one, one))).sum()
    found = language.pair_information(20_000)
    assert found.nats == pytest.approx(exact, abs=4 * found.standard_error + 1e-12)
    assert found.standard_error == pytest.approx(0, abs=0.1 * exact + 1e-12)
    assert found.standard_error == pytest.approx(
        language.pair_information(5_000).standard_error / 2, rel=0.1, abs=1e-12
    )


def test_ends_are_those_of_whole_documents_and_of_documents_cut_at_a_random_word():
    language = tiny()
    lengths = language.lengths
    assert lengths.sum() == pytest.approx(1)
    assert lengths @ np.arange(10) == pytest.approx(3 + sum(0.7**n for n in range(1, 7)))
    whole = [lengths[t] / lengths[t:].sum() for t in range(10)]
    np.testing.assert_allclose(language.ends(whole=True), whole, atol=1e-12)
    assert whole == pytest.approx([0, 0, 0, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 1])
    left = Counter()  # words left of a document, from each of its words on
    for length, p in enumerate(lengths):
        for place in range(length):
            left[length - place] += p
    cut = [left[t] / sum(left[r] for r in range(t, 10)) for t in range(10)]
    np.testing.assert_allclose(language.ends(whole=False), cut, atol=1e-12)


@pytest.mark.parametrize("number", [1, 4900, 5000])
def test_words_are_different_and_as_many_as_asked(number: int):
    words = spell(number)
    assert len(set(words)) == number
    assert {len(word) for word in words} == {4 if number <= 4900 else 6}


def test_the_fingerprint_follows_every_setting():
    settings = {"topics": 3, "states": 3, "words": 5, "shortest": 2, "longest": 8, "stop": 0.2, "documents": 401}
    settings |= {"topic_concentration": 1, "transition_concentration": 1, "word_concentration": 1, "seed": 1}
    settings |= {"same_topic": 2, "valid": 0.3, "test": 0.2}
    keys = [tiny().fingerprint(), *(tiny(**{name: value}).fingerprint() for name, value in settings.items())]
    assert len(set(keys)) == len(keys)
    assert tiny().fingerprint() == keys[0]
    assert tiny(same_topic=2, pairs=True).fingerprint() != tiny(same_topic=2).fingerprint()


def test_the_pair_of_a_document_has_its_topic():
    language = tiny(words=50, same_topic=2, pairs=True, documents=401)
    alone = {
        document.text: document
        for document in chain(*map(tiny(words=50, same_topic=2, documents=401).documents, SPLITS))
    }
    documents = [document for split in SPLITS for document in language.documents(split)]
    assert len(documents) == 139 + 40 + 20  # of 279, 81 and 41: the one that is left over has no pair
    assert all(alone[document.pair].label == document.label for document in documents)
    with pytest.raises(UserError, match="documents 9: too few for a pair in each split"):
        tiny(same_topic=2, pairs=True, documents=9)
    with pytest.raises(UserError, match="same_topic 3: use an even number for pairs"):
        tiny(same_topic=3, pairs=True)


def test_impossible_settings_are_listed_in_one_error():
    with pytest.raises(UserError, match=r"HiddenMarkovLanguage: topics 0, .*; shortest 5, longest 4.*; stop 0"):
        tiny(topics=0, shortest=5, longest=4, stop=0)
    for name, value in {
        "words": 10**9,
        "documents": 0,
        "same_topic": 0,
        "seed": -1,
        "word_concentration": 0.01,
        "valid": math.nan,
    }.items():
        with pytest.raises(UserError, match=rf"{value}\b.*: use"):
            tiny(**{name: value})
