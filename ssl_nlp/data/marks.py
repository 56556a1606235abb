"""The parts of a text that labels belong to: its words, or its two marked entities."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from ssl_nlp.corpora.base import Document
from ssl_nlp.errors import UserError


def words_of_tags(document: Document) -> list[tuple[int, int]]:
    """The characters [start, stop) of each word that has a tag: what white space separates, or else each character.

    Raises:
        UserError: the number of tags is neither that of words nor that of characters.
    """
    assert isinstance(document.label, tuple)
    words, characters = (words_to_tag(document.text, characters) for characters in (False, True))
    for spans in (words, characters):
        if len(spans) == len(document.label):
            return spans
    raise UserError(
        f"{document.text[:40]!r} has {len(document.label)} tags for {len(words)} words ({len(characters)} characters): "
        "give each word that white space separates a tag, or each character"
    )


def words_to_tag(text: str, characters: bool) -> list[tuple[int, int]]:
    """The characters [start, stop) of each word: what white space separates or, if `characters`, each character."""
    return [match.span() for match in re.finditer(r"\S" if characters else r"\S+", text)]


def first_tokens(
    words: Sequence[tuple[int, int]], tokens: Sequence[tuple[int, int] | None]
) -> Iterator[tuple[int, int]]:
    """The position of the first token of each word, and the number of the word.

    A word that begins inside the token of the previous word is left out.

    Args:
        words: the characters [start, stop) of each word, in order.
        tokens: those of each token; None for tokens without any.
    """
    starts = [start for start, _ in words]
    before = -1
    for position, token in enumerate(tokens):
        if token is None:
            continue
        word = bisect_right(starts, token[0]) - 1
        if word > before and token[0] < words[word][1]:
            yield position, word
            before = word


def marked_entities(text: str) -> list[tuple[int, int]]:
    """The characters [start, stop) of the entities that `<e1>` `</e1>` and `<e2>` `</e2>` mark, markers included.

    Raises:
        UserError: one is missing, or there twice.
    """
    entities = []
    for name in ("e1", "e2"):
        found = list(re.finditer(f"<{name}>(?s:.*?)</{name}>", text))
        if len(found) != 1 or text.count(f"<{name}>") > 1:
            raise UserError(
                f"{text[:60]!r} has {len(found)} entities between <{name}> and </{name}>: mark one, as in "
                "'An <e1>engine</e1> is part of a <e2>car</e2>.'"
            )
        entities.append(found[0].span())
    return entities
