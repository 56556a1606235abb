"""The suite of free generation: what a model draws, measured beside the corpus that it was trained on."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from ssl_nlp.corpora import Corpus
from ssl_nlp.corpora.base import Split
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.free_generation import FreeGeneration
from ssl_nlp.evaluation.suite import Suite

GENERATION = "generation"
DRAWN = 1000  # sentences, and as many held-out ones for each of three purposes
TRAIN = 200_000  # training sentences, the first ones
SEED = 0  # of the choice of held-out sentences


def generation_suite(corpus: Corpus) -> Suite:
    """The suite for models that were trained on a corpus."""
    return Suite(GENERATION, {"free_generation": free_generation(corpus)}, [])


def free_generation(corpus: Corpus) -> FreeGeneration:
    """The evaluator of models that were trained on a corpus.

    Held-out sentences come from the valid and the test split, at random. A third of them, at most 1,000, are compared with
    as many drawn ones; as many others are those of the reverse perplexity, and as many others those of its validation.

    Raises:
        UserError: there are fewer than six of them.
    """
    splits: list[Split] = ["valid", "test"] if getattr(corpus, "has", lambda split: True)("test") else ["valid"]
    held_out = [sentence for split in splits for sentence in _sentences(corpus, split)]
    if len(held_out) < 6:
        raise UserError(
            f"{corpus} has {len(held_out)} held-out sentences, too few to compare drawn ones with: add some"
        )
    order = np.random.default_rng(SEED).permutation(len(held_out))
    number = min(DRAWN, len(held_out) // 3)
    sample, others, valid = ([held_out[i] for i in order[part * number :][:number]] for part in range(3))
    tested = {*sample, *others}
    valid = [sentence for sentence in valid if sentence not in tested]
    train = [*islice(_sentences(corpus, "train"), TRAIN)]
    return FreeGeneration(train, sample, others, valid)


def _sentences(corpus: Corpus, split: Split) -> Iterator[str]:
    for document in corpus.documents(split):
        yield from split_sentences(document.text)
