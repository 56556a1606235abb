import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from ssl_nlp.evaluation.baselines import RandomWords, TfIdf
from ssl_nlp.evaluation.vectors import embed

TRAIN = ["the dog sees the cat", "a bird hears a dog", "the red house"]
TEXTS = ["the dog", "nobody knows these", "", "a red bird"]


def test_tf_idf_is_that_of_scikit_learn_fitted_on_the_training_texts():
    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit(TRAIN)
    found = embed(TfIdf(TRAIN), TEXTS).toarray()
    assert found == pytest.approx(vectorizer.transform(TEXTS).toarray(), rel=1e-6)
    assert not found[1:3].any()
    assert embed(TfIdf(["..."]), TEXTS).shape[0] == 4  # nothing to learn from is no failure


def test_random_words_are_averages_of_fixed_vectors():
    words = RandomWords()
    whole = words.embed(["The dog barks", "dog", "the", "barks", "", "dog dog"])
    assert whole[0].numpy() == pytest.approx(whole[1:4].mean(dim=0).numpy(), abs=1e-6)
    assert not whole[4].any()
    assert torch.equal(whole[5], whole[1])
    assert torch.equal(RandomWords().embed(["dog"])[0], whole[1])
    assert whole[1].std() == pytest.approx(1, abs=0.15)
    assert abs(np.corrcoef(whole[1], whole[2])[0, 1]) < 0.2
