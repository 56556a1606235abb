"""A language that is small enough to sum over all of its texts."""

from collections.abc import Sequence

import numpy as np

from ssl_nlp.corpora import HiddenMarkovLanguage
from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import train

LANGUAGE = HiddenMarkovLanguage(
    2, 2, 4, transition_concentration=0.5, word_concentration=0.5, shortest=2, longest=5, stop=0.4, documents=300
)


def tokenizer_of(language: HiddenMarkovLanguage, words: int | None = None) -> Tokenizer:
    """A tokenizer that knows the first words of a language, or all of them."""
    return Tokenizer(train(TokenizerSettings("word"), lambda: iter([" ".join(language.words[:words])])))


def likelihood(language: HiddenMarkovLanguage, words: Sequence[int]) -> float:
    """The probability that a document of as many words consists of these."""
    return float(np.exp(language.model.log_likelihood(np.array([words]))[0])) if words else 1.0
