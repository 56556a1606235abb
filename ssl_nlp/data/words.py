"""The words of a text in any script.

They are found by Unicode's rules (UAX 29), as ICU implements them: "can't" and "3.5" are one word each, marks belong to
their letter, and where a script has no spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) ICU's dictionaries say where
words end. Words of a dictionary rather than characters, because a single character of these scripts is seldom a word.
"""

from collections.abc import Iterator
from itertools import accumulate

import icu4py
import regex
from icu4py.breakers import WordBreaker

from ssl_nlp.cache import fingerprint

_WORD = regex.compile(r"[\p{L}\p{N}]")
_OWN_RULES = regex.compile(
    r"(?V1)[[\p{M}--[\ufe00-\ufe0f]]\p{Han}\p{Hiragana}\p{Katakana}\p{Line_Break=Complex_Context}]"
)
WORD_RULES = fingerprint(1, icu4py.icu_version, _OWN_RULES.pattern)
"""The version of the rules, for the keys of caches."""


def word_spans(text: str) -> list[tuple[int, int]]:
    """The start and end of each word, in order. A word has a letter or a digit."""
    pieces = list(WordBreaker(text, "en"))
    ends = accumulate(map(len, pieces))
    return [(end - len(piece), end) for piece, end in zip(pieces, ends, strict=True) if _WORD.search(piece)]


def words(text: str) -> list[str]:
    """The words of a text, in order, without anything between them.

    >>> words("Can't stop: 3.5 km!"), words("今天天气很好。")
    (["Can't", 'stop', '3.5', 'km'], ['今天', '天气', '很好'])
    """
    return [text[start:end] for start, end in word_spans(text)]


def words_and_marks(text: str) -> list[str]:
    """The words and punctuation marks of a text, in order, without white space.

    >>> words_and_marks("Can't stop!"), words_and_marks("今天天气很好。")
    (["Can't", 'stop', '!'], ['今天', '天气', '很好', '。'])
    """
    return [piece for piece in WordBreaker(text, "en") if not piece.isspace()]


def boundaries(text: str) -> set[int]:
    """Every position where a word, or a piece between words, begins."""
    return {0, *accumulate(map(len, WordBreaker(text, "en")))}


def word_starts(text: str, offsets: list[tuple[int, int]]) -> list[bool]:
    """For each token, whether a word begins with it; white space before a word belongs to the word's first token."""
    places, starts, before = boundaries(text), [], -1
    for start, _ in trimmed(text, offsets):
        starts.append(start in places and start != before)  # several tokens may be the bytes of one character
        before = start
    return starts


def trimmed(text: str, offsets: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The offsets without the white space that tokens begin with."""
    for start, end in offsets:
        while start < end - 1 and text[start].isspace():
            start += 1
        yield start, end


def first_words(text: str, number: int, longest: int) -> str:
    """The text up to its `number`-th word and to `longest` characters, in one line, without white space at its ends."""
    text = " ".join(text.split())
    ends = [end for _, end in word_spans(text[: longest + 1]) if end <= longest]
    return text[: ends[min(number, len(ends)) - 1]] if ends else text[:longest]


def needs_word_rules(text: str) -> bool:
    """Whether a text has marks, or a script without spaces, whose words tokenizers do not find."""
    return not text.isascii() and _OWN_RULES.search(text) is not None
