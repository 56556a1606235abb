import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from ssl_nlp.evaluation.baselines import LSA, RandomWords, TfIdf, lsa, random_words, tf_idf
from ssl_nlp.evaluation.classification import Labelled, LabelledSplits, LinearProbe
from ssl_nlp.evaluation.vectors import embed

TRAIN = ["the dog sees the cat", "a bird hears a dog", "the red house", "don't use numpy.array(x_1, 3.5)"]
TEXTS = ["the dog", "nobody knows these", "", "a red bird, don't", "array x_1 of 3"]


def test_tf_idf_is_that_of_scikit_learn_fitted_on_the_training_texts():
    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit(TRAIN)
    found = embed(TfIdf(TRAIN), TEXTS).toarray()
    assert found == pytest.approx(vectorizer.transform(TEXTS).toarray(), rel=1e-6)
    assert not found[1:3].any()
    assert embed(TfIdf(["..."]), TEXTS).shape[0] == 5  # nothing to learn from is no failure


def test_random_words_are_averages_of_fixed_vectors():
    words = RandomWords()
    whole = words.embed(["The dog barks", "dog", "the", "barks", "", "dog dog"])
    assert whole[0].numpy() == pytest.approx(whole[1:4].mean(dim=0).numpy(), abs=1e-6)
    assert not whole[4].any()
    assert torch.equal(whole[5], whole[1])
    assert torch.equal(RandomWords().embed(["dog"])[0], whole[1])
    assert whole[1].std() == pytest.approx(1, abs=0.15)
    assert abs(np.corrcoef(whole[1], whole[2])[0, 1]) < 0.2


CHINESE = {
    "水果": ["苹果很新鲜，非常好吃。", "香蕉又甜又软，很好吃。", "葡萄不新鲜，不好吃。", "西瓜很甜，水分也多。"],
    "衣服": [
        "衬衫的颜色很好看，穿着舒服。",
        "裤子太大了，穿不了。",
        "裙子的颜色和图片不一样。",
        "外套很暖和，穿着好看。",
    ],
}


def labelled(texts, endings):
    """Each text with each of some endings, which say nothing of its class."""
    rows = [(text + ending, name) for name, group in texts.items() for text in group for ending in endings]
    return Labelled(*map(list, zip(*rows, strict=True)))


def splits(texts, endings="甲乙丙丁戊己庚辛"):
    parts = (labelled(texts, endings[part]) for part in (slice(4), slice(4, 6), slice(6, 8)))
    return LabelledSplits("data", *parts)


def test_baselines_learn_from_chinese_and_from_strings_without_words():
    """Cut at white space, each text would be a word of its own, and nothing better than the majority class."""
    strands = {"one": ["ACGTACGTACGTAA", "CACGTACGTTT"], "other": ["GGCCTTAAGGCC", "TTGGCCTTAAGG"]}
    endings = ("A", "C", "G", "T", "AA", "CC", "GG", "TT")
    for data, unit in ((splits(CHINESE), ("words", "characters")), (splits(strands, endings), ("characters",))):
        for baseline, least in ((tf_idf(data.train.texts), 1), (lsa(data.train.texts), 0.8), (random_words(), 1)):
            result = baseline.evaluate({"probe": LinearProbe(data)})["probe"]
            assert result.primary >= least > LinearProbe(data).majority().primary
            assert result.details["unit"] in unit


def test_lsa_is_tf_idf_on_its_first_singular_vectors():
    texts = [*TRAIN, "the red dog", "a house of birds and dogs", "the cat hears a bird"]
    counts = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit(texts)
    _, _, directions = np.linalg.svd(counts.transform(texts).toarray())
    expected = counts.transform(TEXTS).toarray() @ directions[: len(texts)].T
    found = LSA(texts).embed(TEXTS).numpy()
    assert found.shape == (len(TEXTS), len(texts))
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-6)  # vectors have no sign of their own
    assert LSA(["..."]).embed(TEXTS).shape == (5, 1)  # nothing to learn from is no failure
