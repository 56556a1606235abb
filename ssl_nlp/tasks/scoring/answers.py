"""Exact match and F1 of answers, beside the true ones, as the official scripts of SQuAD and CMRC 2018 count them.

    squad   texts without case, punctuation and articles; F1 over their words as bags (arXiv:1606.05250, section 6.1, and
            `evaluate-v2.0.py` of arXiv:1806.03822)
    cmrc    texts without case and punctuation; F1 over the longest run of Chinese characters and other words that both
            have (arXiv:1810.07366, section 4, and `cmrc2018_evaluate.py`)

The best score over all true answers counts. The true answer of an unanswerable question is the empty text.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

AnswerScorer = Literal["squad", "cmrc"]

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_CHINESE = re.compile("[\u4e00-\u9fa5]")
_CMRC_PUNCTUATION = set("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# The words of a piece without Chinese, as the Penn Treebank cuts them: punctuation apart, unless within numbers and names.
_ALONE = (
    r"[;@#$%&?!\[\](){}<>\"“”‘’„«»–—]|\.{2,}|,(?!\d)|\.(?=[\])}>\"'»”’ ]*$)"
    r"|'(?:s|m|d|ll|re|ve)\b|'(?=\s|$)|n't\b|\bcan(?=not\b)"
)
_WORD = re.compile(rf"{_ALONE}|(?:(?!{_ALONE})\S)+")


class Scores(NamedTuple):
    """Of one answer: 1 or 0, and between 0 and 1."""

    exact: float
    f1: float


def answer_scores(true: Sequence[str], found: str, scorer: AnswerScorer = "squad") -> Scores:
    """The scores of an answer beside the true ones, of which there are none if the question is unanswerable.

    >>> answer_scores(["the Eiffel Tower"], "Eiffel tower!")
    Scores(exact=1.0, f1=1.0)
    >>> answer_scores(["北京大学"], "北京", "cmrc").f1
    0.6666666666666666
    """
    one = _squad if scorer == "squad" else _cmrc
    if scorer == "squad":
        true = [text for text in true if _normal(text)]
    scores = [one(text, found) for text in (true or [""])]
    return Scores(max(score.exact for score in scores), max(score.f1 for score in scores))


def best_threshold(
    margins: Sequence[float], answered: Sequence[float], refused: Sequence[float]
) -> tuple[float, float]:
    """The threshold above which refusing to answer scores best, as the script of SQuAD 2 searches it, and the mean score.

    Args:
        margins: how much more likely "no answer" is than the best answer, for each question.
        answered: the score of the best answer.
        refused: the score of refusing: 1 if the question is unanswerable, else 0.
    """
    order = sorted(range(len(margins)), key=lambda i: margins[i])
    total = best = sum(refused)
    threshold = margins[order[0]] - 1.0  # refuse everything
    for place, i in enumerate(order):
        total += answered[i] - refused[i]
        last = place + 1 == len(order) or margins[order[place + 1]] > margins[i]
        if last and total > best:
            best, threshold = total, margins[i]
    return threshold, best / len(margins)


def _squad(true: str, found: str) -> Scores:
    one, other = _normal(true), _normal(found)
    words, found_words = one.split(), other.split()
    common = (Counter(words) & Counter(found_words)).total()
    f1 = _f1(common, len(found_words), len(words)) if words and found_words else float(words == found_words)
    return Scores(float(one == other), f1)


def _normal(text: str) -> str:
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(_ARTICLE.sub(" ", text).split())


def _cmrc(true: str, found: str) -> Scores:
    one, other = (_without_punctuation(text) for text in (true, found))
    words, found_words = _cmrc_words(one), _cmrc_words(other)
    return Scores(float(one == other), _f1(_longest_common_run(words, found_words), len(found_words), len(words)))


def _without_punctuation(text: str) -> str:
    return "".join(character for character in text.lower().strip() if character not in _CMRC_PUNCTUATION)


def _cmrc_words(text: str) -> list[str]:
    """Chinese characters, and the words of the pieces between them."""
    words: list[str] = []
    end = 0
    for character in _CHINESE.finditer(text):
        words += [*_treebank_words(text[end : character.start()]), character.group()]
        end = character.end()
    return words + _treebank_words(text[end:])


def _treebank_words(text: str) -> list[str]:
    """The words of a text, in which `"` becomes an opening or a closing quote."""
    words = []
    for word in _WORD.finditer(text):
        opens = text[: word.start()][-1:] in ("", *" ([{<")
        words.append(("``" if opens else "''") if word.group() == '"' else word.group())
    return words


def _longest_common_run(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest run of equal neighbours; the script calls it "lcs", but allows no gaps."""
    longest, before = 0, [0] * (len(other) + 1)
    for word in one:
        row = [0]
        for place, candidate in enumerate(other):
            row.append(before[place] + 1 if word == candidate else 0)
        longest, before = max(longest, *row), row
    return longest


def _f1(common: int, found: int, true: int) -> float:
    if not common:
        return 0.0
    precision, recall = common / found, common / true
    return 2 * precision * recall / (precision + recall)
