"""Analogies: Athens is to Greece as Baghdad is to Iraq (Mikolov et al., arXiv:1301.3781, section 4)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from sklearn.preprocessing import normalize

from ssl_nlp.corpora.lines import read_lines
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.evaluator import CrossFitted
from ssl_nlp.evaluation.result import Array, Result, groups_of
from ssl_nlp.evaluation.vectors import Matrix, all_cosines, coverage_of, embed

CHUNK = 512  # analogies whose cosines are in memory at a time
TIE = 1e-9  # cosines that differ by less differ by rounding only

Words = tuple[str, str, str, str]


@dataclass(frozen=True)
class WordAnalogies:
    """Four words each, `a b c d`: a is to b as c is to d.

    Attributes:
        name: of the data set.
        categories: analogies by category.
        candidates: words to find d among, beside the words of all analogies. They are the same for every model.
        valid: other analogies, for validation.

    Raises:
        UserError: there are no analogies.
    """

    name: str
    categories: Mapping[str, Sequence[Words]]
    candidates: Sequence[str] = ()
    valid: "WordAnalogies | None" = None

    def __post_init__(self) -> None:
        if not self.items:
            raise UserError(f"{self.name} has no analogies: give it lines of four words")

    @cached_property
    def items(self) -> list[Words]:
        """All analogies."""
        return [words for one in self.categories.values() for words in one]

    @cached_property
    def texts(self) -> list[str]:
        """All words, each once."""
        return list(dict.fromkeys([*(word for words in self.items for word in words), *self.candidates]))


@dataclass(frozen=True)
class Analogies(CrossFitted):
    """The share of analogies whose last word is the one nearest to b - a + c, of those whose four words are all covered.

    3CosAdd: vectors of unit length, the cosine as nearness, and a, b and c are not among the candidates (Levy and Goldberg,
    CoNLL 2014). Words that the embedder does not cover are no candidates either. A tie is a miss, so a collapse
    gains nothing.
    """

    ranked = True  # right or wrong
    data: WordAnalogies

    @property
    def groups(self) -> Sequence[str]:
        return [words[0] for words in self.data.items]

    @property
    def shared(self) -> Array | None:
        """The two pairs of words: questions are made of few pairs, each with all others."""
        return groups_of([words[:2] for words in self.data.items], [words[2:] for words in self.data.items])

    def predictions(self, embedder: Embedder) -> Array:
        """(N,): 1 where the last word is found, 0 where it is not, NaN where a word is not covered."""
        known = [*filter(coverage_of(embedder), self.data.texts)]
        place = {word: number for number, word in enumerate(known)}
        found = np.full(len(self.data.items), np.nan)
        rows = [row for row, words in enumerate(self.data.items) if place.keys() >= {*words}]
        if rows:
            places = np.array([[place[word] for word in self.data.items[row]] for row in rows])
            found[rows] = three_cos_add(embed(embedder, known), places)
        return found

    def quality(self, predictions: Array, rows: Array) -> float:
        return _mean(predictions[rows])

    def result(self, predictions: Array, embedder: Embedder) -> Result:
        covered = ~np.isnan(predictions)
        metrics = {"accuracy": _mean(predictions), "coverage": float(covered.mean())}
        details, start = {}, 0
        for name, words in self.data.categories.items():
            own = slice(start, start := start + len(words))
            counts = {"analogies": len(words), "covered": int(covered[own].sum())}
            details[name] = {"accuracy": _mean(predictions[own]), **counts}
        about = {"candidates": len(self.data.texts), "categories": details}
        return Result("accuracy", metrics, about, predictions.astype(np.float32))


def three_cos_add(vectors: Matrix, analogies: Array) -> Array:
    """(N,) bool: whether d is nearer to b - a + c than all other candidates but a, b and c.

    Args:
        vectors: (V, E), of the candidates.
        analogies: (N, 4), the rows of a, b, c and d.
    """
    unit, found = normalize(vectors), []
    for start in range(0, len(analogies), CHUNK):
        a, b, c, d = analogies[start : start + CHUNK].T
        cosines = all_cosines(normalize(unit[b] - unit[a] + unit[c]), unit)
        row = np.arange(len(d))
        for given in (a, b, c):
            cosines[row, given] = -np.inf
        own = cosines[row, d]
        cosines[row, d] = -np.inf
        found.append(own > cosines.max(axis=1) + TIE)
    return np.concatenate(found)


def _mean(right: Array) -> float:
    """The mean of what is known; 0 if nothing is."""
    known = right[~np.isnan(right)]
    return float(known.mean()) if len(known) else 0.0


def read_analogies(name: str, files: Iterable[Path], candidates: Sequence[str] = ()) -> WordAnalogies:
    """Analogies in the format of word2vec: lines of four words below a line `: CATEGORY`.

    Args:
        name: of the data set.
        files: to read, one after the other.
        candidates: as for `WordAnalogies`.

    Raises:
        UserError: a line has another number of words, or stands above the first category.
    """
    categories: dict[str, list[Words]] = {}
    for path in files:
        category = None
        for number, line in enumerate(read_lines(path), start=1):
            words = line.split()
            if line.startswith(":"):
                category = categories.setdefault(line[1:].strip(), [])
            elif len(words) not in (0, 4):
                raise UserError(f"{path}, line {number} has {len(words)} words: an analogy has four")
            elif words and category is None:
                raise UserError(f"{path}, line {number} is in no category: put a line such as `: capitals` above it")
            elif words and category is not None:
                category.append((words[0], words[1], words[2], words[3]))
    return WordAnalogies(name, categories, candidates)
