"""A corpus that needs no file."""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ssl_nlp.cache import fingerprint
from ssl_nlp.corpora.base import Corpus, Document, Split

WORDS = ["the", "a", "dog", "cat", "bird", "sees", "hears", "likes", "small", "big", "red", "house", "tree", ".", ","]


class ListCorpus(Corpus):
    """Documents from lists: a text, or a text and its pair."""

    def __init__(
        self,
        train: Sequence[str | tuple[str, str]],
        valid: Sequence[str | tuple[str, str]] | None = None,
        test: Sequence[str | tuple[str, str]] | None = None,
    ) -> None:
        self.texts = {"train": train, "valid": valid or train[:8], "test": test or train[:8]}

    def documents(self, split: Split) -> Iterator[Document]:
        for text in self.texts[split]:
            yield Document(text) if isinstance(text, str) else Document(text[0], pair=text[1])

    def fingerprint(self) -> str:
        return fingerprint(self.texts)


def caption_texts(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts as long as captions of pictures are, each with a second caption of about the same length."""
    generator = random.Random(seed)
    texts = []
    for _ in range(number):
        words = generator.lognormvariate(2.4, 0.35)
        lengths = (max(3, round(words * generator.lognormvariate(0, 0.15))) for _ in range(2))
        one, other = (" ".join(generator.choices(WORDS, k=length)) for length in lengths)
        texts.append((one, other))
    return texts


def random_texts(number: int, seed: int = 0, longest: int = 40) -> list[str]:
    """Texts of 3 to `longest` random words."""
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(3, longest))) for _ in range(number)]


def padding_share(lengths: npt.NDArray[np.int64], batches: list[list[int]]) -> float:
    """Share of positions that are padding if each batch is padded to its longest row."""
    filled = sum(int(lengths[batch].sum()) for batch in batches)
    return 1 - filled / sum(len(batch) * int(lengths[batch].max()) for batch in batches)
