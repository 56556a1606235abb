"""Overlap: how much of a text stands in training text already.

    overlap of a text = share of its words that lie in an 8-gram (8 words in a row) of the training text

Words are compared in lower case, without punctuation, in one form of Unicode (NFC). In Chinese and Japanese scripts, a
word is a single character; in the others without spaces (Thai, Lao, Khmer, Burmese), dictionaries know words. 8-grams
decide contamination in PaLM (arXiv:2204.02311, section 8), too: shorter ones are often common phrases. A text of fewer than
8 words is covered as a whole if it is a text or a sentence of the training text, and otherwise not at all. Exact
duplicates of documents are no part of this: corpora remove them before they are divided into splits.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from unicodedata import normalize

import numpy as np
import regex

from ssl_nlp.cache import build_once, cache_dir, fingerprint
from ssl_nlp.corpora.base import text_digest
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.data.words import words
from ssl_nlp.evaluation.result import Array

ORDER = 8
MOST_WORDS = 20_000_000  # of training text, the first ones
VERSION = 4  # of the definition and of what is kept, for the keys of caches

_CHARACTER, _COMPLEX = r"\p{Han}\p{Hiragana}\p{Katakana}", r"\p{Line_Break=Complex_Context}"
_WORD = regex.compile(rf"(?V1)[{_CHARACTER}]|(?P<run>{_COMPLEX}+)|[[\p{{L}}\p{{M}}\p{{N}}]--[{_CHARACTER}{_COMPLEX}]]+")
_FACTOR = 0x9E3779B97F4A7C15  # odd, so that no bit of a word is lost
_END = 0x5851F42D4C957F2D  # fills up the 8-gram of a shorter text


class TrainingText:
    """The 8-grams of training text.

    Args:
        grams: (G,) uint64, the hashes of the different ones, sorted.
        texts: how many texts were read.
    """

    def __init__(self, grams: Array, texts: int) -> None:
        self._grams, self.texts = grams, texts

    @classmethod
    def of(cls, texts: Sequence[str]) -> "TrainingText":
        """Read texts up to their 20 millionth word. The 8-grams are kept under the cache directory."""

        def build(directory: Path) -> None:
            grams, read = _all_grams(texts)
            np.savez(directory / "grams.npz", grams=grams, texts=read)

        key = fingerprint("overlap", VERSION, [text_digest(text).hex() for text in texts])
        with np.load(build_once(cache_dir() / "overlap" / key, build) / "grams.npz") as kept:
            return cls(kept["grams"], int(kept["texts"]))

    def overlap(self, texts: Iterable[str]) -> float:
        """The share, from 0 to 1, of the words of some texts that training text covers."""
        covered = words = 0
        for text in texts:
            ids = _ids(text)
            inside = np.zeros(len(ids), dtype=bool)
            for start in np.flatnonzero(self._known(_grams(ids))):
                inside[start : start + ORDER] = True
            covered, words = covered + int(inside.sum()), words + len(ids)
        return covered / max(words, 1)

    def covers(self, *texts: str) -> bool:
        """Whether training text covers every word."""
        return self.overlap(texts) == 1.0

    def _known(self, grams: Array) -> Array:
        if not len(self._grams):
            return np.zeros(len(grams), dtype=bool)
        places = np.minimum(np.searchsorted(self._grams, grams), len(self._grams) - 1)
        return np.asarray(self._grams[places] == grams)


def _all_grams(texts: Iterable[str]) -> tuple[Array, int]:
    """The 8-grams of texts, those of their short sentences included, and how many texts were read."""
    found, words, read = [np.empty(0, dtype=np.uint64)], 0, 0
    for text in texts:
        sentences = [_ids(sentence) for sentence in split_sentences(text)]
        ids = np.concatenate([found[0], *sentences])
        found += [_grams(ids), *(_grams(one) for one in sentences if len(one) < ORDER)]
        words, read = words + len(ids), read + 1
        if words >= MOST_WORDS:
            break
    return np.unique(np.concatenate(found)), read


def _ids(text: str) -> Array:
    """(W,) uint64: a random number for each word."""
    return np.array([_id(word) for word in _words(text)], dtype=np.uint64)


def _words(text: str) -> Iterator[str]:
    for found in _WORD.finditer(normalize("NFC", text).lower()):
        yield from words(found[0]) if found["run"] else (found[0],)


@cache
def _id(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _grams(ids: Array) -> Array:
    """(W - 7,) uint64: the hash of each 8-gram, a polynomial of the numbers of its words; a shorter text fills one."""
    if 0 < len(ids) < ORDER:
        ids = np.append(ids, np.full(ORDER - len(ids), _END, dtype=np.uint64))
    count = max(len(ids) - ORDER + 1, 0)
    found = np.zeros(count, dtype=np.uint64)
    for place in range(ORDER):
        found = found * np.uint64(_FACTOR) + ids[place : place + count]
    return found
