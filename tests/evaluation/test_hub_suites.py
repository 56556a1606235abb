"""Suites of published data sets: of copies of their shape, and of the words that gensim brings."""

import sys
from dataclasses import replace

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import get_suite, hub_suites
from ssl_nlp.evaluation.hub_suites import hub_suite
from tests.evaluation.vectors import check_results


def test_hub_suites_with_local_copies_of_their_shape(tmp_path):
    """Class numbers become names, data with secret labels are not used, and a score is a number."""

    def save(name, **splits):
        DatasetDict(splits).save_to_disk(tmp_path / name)
        return str(tmp_path / name)

    def labelled(split, number, *columns):
        names = ClassLabel(names=["negative", "positive"])
        features = Features(dict.fromkeys(columns, Value("string")) | {"label": names, "idx": Value("int32")})
        rows = {column: [f"{column} {split} {i}" for i in range(number)] for column in columns}
        return Dataset.from_dict(rows | {"label": [i % 2 for i in range(number)], "idx": [*range(number)]}, features)

    def secret(*columns):
        return labelled("secret", 5, *columns).map(lambda row: {"label": -1})

    scored = Dataset.from_dict(
        {
            "sentence1": [f"a {i // 2}" for i in range(20)],
            "sentence2": [f"b {i}" for i in range(20)],
            "score": [i % 6 * 0.8 for i in range(20)],
        }
    )
    others = scored.select([0, 1, 2, 3]).map(lambda row, i: {"sentence2": f"b {i * 7}"}, with_indices=True)
    single = {"train": labelled("train", 50, "sentence"), "validation": labelled("valid", 20, "sentence")}
    double = {
        "train": labelled("train", 50, "sentence1", "sentence2"),
        "test": labelled("test", 9, "sentence1", "sentence2"),
    }
    plain = Features({"sentence": Value("string"), "label": Value("int64")})
    numbered = {
        split: labelled(split, number, "sentence").remove_columns("idx").cast(plain)
        for split, number in (("train", 50), ("test", 20), ("dev", 5))
    }
    local = {
        "sst2": replace(
            hub_suites.HUB_SUITES["glue"]["sst2"], path=save("sst2", **single, test=secret("sentence")), config=None
        ),
        "mrpc": replace(hub_suites.HUB_SUITES["sentence"]["mrpc"], path=save("mrpc", **double), config=None),
        "mpqa": replace(hub_suites.HUB_SUITES["sentence"]["mpqa"], path=save("mpqa", **numbered)),
        "stsb": replace(
            hub_suites.HUB_SUITES["sts"]["stsb"], path=save("stsb", train=scored, validation=others, test=scored)
        ),
    }
    suite = hub_suite("local", local)
    data = suite.evaluators["sst2.knn"].data
    assert data.classes == ["negative", "positive"]
    assert all("valid" in text for text in data.test.texts)
    assert all("train" in text for text in [*data.train.texts, *data.valid.texts])
    assert len(suite.evaluators["mrpc.knn"].data.test.pairs) == 9
    data = suite.evaluators["mpqa.knn"].data
    assert data.classes == ["0", "1"]
    assert (len(data.train) + len(data.valid), len(data.test)) == (50, 20)
    assert not any("dev" in text for text in data.texts)
    assert sorted(suite.evaluators["stsb.similarity"].data.scores) == pytest.approx(sorted(scored["score"]))
    assert {*suite.evaluators["stsb.similarity"].data.valid.second} == {"b 7", "b 14", "b 21"}  # "a 0, b 0" is tested
    check_results(suite)


def test_without_the_hub_one_line_says_so():
    with pytest.raises(UserError, match="without network"):
        hub_suite("sts")


def test_the_suite_of_words_comes_with_gensim():
    suite = get_suite("words")
    assert list(suite.evaluators) == ["wordsim353.word_similarity", "simlex999.word_similarity", "word2vec.analogies"]
    assert [len(e.data.first) for e in list(suite.evaluators.values())[:2]] == [353, 999]
    analogies = suite.evaluators["word2vec.analogies"].data
    assert len(analogies.items) == 19544
    assert list(analogies.categories)[:2] == ["capital-common-countries", "capital-world"]
    assert len(analogies.texts) == 905


def test_without_gensim_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(UserError, match=r"the suite words needs the package gensim: pip install 'ssl_nlp\[gensim\]'"):
        get_suite("words")
