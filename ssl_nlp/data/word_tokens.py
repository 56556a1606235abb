"""Whole words and punctuation marks as tokens: how a text is cut, and the vocabulary of a corpus.

A text is cut at every boundary of words by the rules of `ssl_nlp.data.words`, so Chinese, Japanese and Thai words come from
ICU's dictionaries, and each punctuation mark is a token. White space is dropped. ICU cuts several million words a second on
one core, ten times as many as a regular expression in the pre-tokenizers of `tokenizers`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import tokenizers
from icu4py.breakers import WordBreaker
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from ssl_nlp.data.tokenizer_training import UNK, WIDE
from ssl_nlp.errors import UserError

# ICU's rules as far as a regular expression can follow them, for a tokenizer.json outside of this package.
_LETTER, _DIGIT = r"[\p{L}\p{M}]", r"\p{Nd}"
_PIECES = rf"(?:{_LETTER}(?:[.'’:·](?={_LETTER}))?|{_DIGIT}(?:[.,;'’](?={_DIGIT}))?|\p{{Pc}})+|\S"
_BEFORE = r"(?<=[(\[{«“‘¿¡]) | (?=[)\]}»”’.,;:!?%…])"  # spaces that nobody writes


@dataclass(frozen=True)
class WordEncoding:
    """A text as words, without a frame.

    Attributes:
        ids: of the tokens.
        pieces: all parts of the text, the white space included.
    """

    ids: list[int]
    pieces: list[str]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """The characters [start, stop) of each token."""
        ends = accumulate(map(len, self.pieces))
        return [(end - len(piece), end) for piece, end in zip(self.pieces, ends, strict=True) if not piece.isspace()]


class WordCutter:
    """Texts to words by a vocabulary; a word that it lacks becomes the unknown token.

    Args:
        vocabulary: the id of each token.
        unknown: the id of the unknown token.
        lowercase: fold the case of words before they are looked up.
    """

    def __init__(self, vocabulary: Mapping[str, int], unknown: int, lowercase: bool) -> None:
        self._ids, self._unknown, self._lowercase = vocabulary, unknown, lowercase

    def encode(self, text: str) -> WordEncoding:
        """The tokens of a text."""
        pieces = list(WordBreaker(text, "en"))
        look_up, unknown = self._ids.get, self._unknown
        words = map(str.lower, pieces) if self._lowercase else pieces
        return WordEncoding([look_up(word, unknown) for word in words if not word.isspace()], pieces)

    def words(self, encoding: WordEncoding) -> list[str]:
        """The words of an encoding, as they were looked up."""
        words = [piece for piece in encoding.pieces if not piece.isspace()]
        return [word.lower() for word in words] if self._lowercase else words


def train_words(
    vocab_size: int, min_count: int, lowercase: bool, special: list[str], texts: Callable[[], Iterator[str]]
) -> tokenizers.Tokenizer:
    """A word-level tokenizer of the most frequent words; equally frequent ones are taken in the order of code points.

    Args:
        vocab_size: the most entries, special tokens included.
        min_count: how often a word must occur.
        lowercase: fold case.
        special: special tokens, which get the first ids; `<unk>` is among them.
        texts: what to count, from the beginning at each call.

    Raises:
        UserError: no word occurs so often.
    """
    counts: Counter[str] = Counter()
    for text in texts():
        pieces = WordBreaker(text, "en")
        counts.update(map(str.lower, pieces) if lowercase else pieces)
    frequent = [(word, count) for word, count in counts.items() if count >= min_count and not word.isspace()]
    if counts and not frequent:
        raise UserError(
            f"no word of the training text occurs {min_count} times: lower data.tokenizer.min_count, or give it more text"
        )
    frequent.sort(key=lambda item: (-item[1], item[0]))
    words = [word for word, _ in frequent[: vocab_size - len(special)]]
    vocabulary = {token: number for number, token in enumerate([*special, *words])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "removed", invert=True)
    joined = decoders.WordPiece(
        prefix="\n", cleanup=False
    )  # a space before each token, because none begins with a newline
    wide = decoders.Replace(Regex(rf"(?<=[{WIDE}]) (?=[{WIDE}])"), "")
    backend.decoder = decoders.Sequence([joined, decoders.Fuse(), decoders.Replace(Regex(_BEFORE), ""), wide])
    backend.add_special_tokens(special)
    return backend
