"""From documents to sentences.

Sentences end where Unicode's rules (UAX 29) say, as ICU implements them: after 。 and । and ؟ as after a full stop, before
a capital letter of any script, with white space or without it as the script is written. Beyond these rules,

- abbreviations and initials (`Dr. Smith`) do not end a sentence, nor do stops within ASCII words (`.Path`, `!=`);
- `…` before white space and the Greek question mark end a sentence as a full stop does;
- no sentence begins with a small letter (`"Why?" he asked.` is one) or has neither a letter nor a digit.

Languages that do not mark where sentences end, such as Thai and Lao, are cut at line breaks only.
"""

import re
from itertools import pairwise

import icu4py
import regex
from icu4py.breakers import SentenceBreaker

from ssl_nlp.cache import fingerprint

_CLOSING = r"[\p{Pe}\p{Pf}\"']*"
_BEFORE_SPACE = r"[\p{Pe}\p{Pf}\p{Pi}\"']*"  # German closes „so“ and »so«
_ABBREVIATION = r"Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|cf|al|No|Fig|Eq|Sec|Ch|i\.e|e\.g|approx"
_NOT_AN_END = regex.compile(rf"\b(?:\p{{Lu}}|{_ABBREVIATION})\.{_BEFORE_SPACE}\s*$")
LONGEST = 24  # characters of an abbreviation with what closes it and the white space
_WORD = regex.compile(r"[\p{L}\p{N}]")
# A place where a sentence of an ASCII line may end before the line does. Most lines have none, and skip ICU.
_CANDIDATE = re.compile(r"""[.!?][)\]}"']*\s+[^\sa-z]""")
# What ICU is shown in place of a character: a full stop, after which no small letter begins a sentence, for other stops;
# a letter without case for digits that begin a sentence, and for quotes that open after a stop, not close before it.
_STOP = regex.compile(rf"[!?]|…(?={_BEFORE_SPACE}\s)|(?<=\p{{Greek}})[;\u037e]")
_OPENING = r"[\p{Ps}\p{Pi}](?=[\p{Ps}\p{Pi}]*[\p{L}\p{N}])"
_BEGINNING = regex.compile(rf"([.!?]{_BEFORE_SPACE}\s+[\p{{Ps}}\p{{Pi}}\"']?)\d|(\p{{STerm}}{_CLOSING}){_OPENING}")
_BEFORE_GUILLEMET = regex.compile(r"\s(?=»(?:\s|$))")  # French closes « so »
SENTENCE_RULES = fingerprint(3, icu4py.icu_version, _NOT_AN_END.pattern, _STOP.pattern, _BEGINNING.pattern)
"""The version of the rules, for the keys of caches."""


def split_sentences(text: str) -> list[str]:
    r"""The sentences of a text, in order, without the white space around them. Every line break ends one.

    >>> split_sentences("Dr. Smith left. He ran!\nThen it rained.")
    ['Dr. Smith left.', 'He ran!', 'Then it rained.']
    >>> split_sentences("今天天气很好。我们去公园散步。")
    ['今天天气很好。', '我们去公园散步。']
    """
    sentences = []
    for line in text.splitlines():
        start = 0
        for end in _ends(line):
            sentences.append(line[start:end].strip())
            start = end
        sentences.append(line[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends(line: str) -> list[int]:
    """The ends of the sentences of a line, the last one left out."""
    if line.isascii() and not _CANDIDATE.search(line):
        return []
    ends, start, end = [], 0, 0
    shown = _STOP.sub(".", _BEGINNING.sub(r"\1\2一", _BEFORE_GUILLEMET.sub("»", line)))
    for piece, following in pairwise(SentenceBreaker(shown, "en")):
        end += len(piece)
        within_word = line[end - 1 : end + 1].isascii() and not line[end - 1].isspace()
        if within_word or not _WORD.search(following) or not _WORD.search(line, start, end):
            continue
        if not _NOT_AN_END.search(line, max(start, end - LONGEST), end):
            ends.append(end)
            start = end
    return ends
