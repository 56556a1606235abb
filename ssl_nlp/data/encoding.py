"""From documents to rows of tokens, for the token cache and for streams."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from ssl_nlp.corpora.base import Document
from ssl_nlp.data.batch_maker import TokenRow
from ssl_nlp.data.labels import NOWHERE, Labels, Numbers, Place
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.errors import UserError

BATCH = 512  # texts that are tokenized at once


def encode(
    documents: Sequence[Document],
    texts: Sequence[list[str]],
    tokenizer: Tokenizer,
    labels: Labels | None = None,
    plain: Sequence[Any] | None = None,
) -> list[list[TokenRow]]:
    """The rows of each document, with their labels if `labels` is given.

    Args:
        documents: their labels are not read.
        texts: the texts that the batch maker takes from each document.
        plain: the label of each document as `Labels.plain` gives it; None without labels.

    Raises:
        UserError: a class is unknown, or a label cannot be placed.
    """
    flat = [text for of_document in texts for text in of_document]
    if labels is None or plain is None or not labels.placed:
        rows = (TokenRow(*row) for row in tokenizer.encode(flat))
        found = [list(islice(rows, len(of_document))) for of_document in texts]
        if labels is None or plain is None:
            return found
        numbers = [_numbers(labels, document, label, NOWHERE) for document, label in zip(documents, plain, strict=True)]
        return [[row._replace(labels=own) for row in rows] for rows, own in zip(found, numbers, strict=True)]
    encoded = iter(tokenizer.encode_with_offsets(flat))
    found = []
    for document, of_document, label in zip(documents, texts, plain, strict=True):
        found.append([])
        for text, start in zip(of_document, starts_of_texts(document, of_document), strict=True):
            ids, starts_word, offsets = next(encoded)
            if start is None:
                place = Place(0, 0, [None] * len(ids))
            else:
                place = Place(start, start + len(text), [at and (start + at[0], start + at[1]) for at in offsets])
            found[-1].append(TokenRow(ids, starts_word, _numbers(labels, document, label, place)))
    return found


def characters_within(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> list[int]:
    """How many characters of each text lie within its first `length` tokens, those of the frame's beginning included."""
    counts = [len(text) for text in texts]
    for first in range(0, len(texts), BATCH):
        part = texts[first : first + BATCH]
        sizes = [len(ids) - len(tokenizer.suffix) for ids, _ in tokenizer.encode(list(part))]
        cut = [place for place, size in enumerate(sizes) if size > length]
        encoded = tokenizer.encode_with_offsets([part[place] for place in cut])
        for place, (_, _, offsets) in zip(cut, encoded, strict=True):
            counts[first + place] = max((span[1] for span in offsets[:length] if span is not None), default=0)
    return counts


def _numbers(labels: Labels, document: Document, label: Any, place: Place) -> Numbers:
    try:
        return labels.of_row(label, place)
    except UserError as error:
        raise UserError(f"{document.text[:40]!r}: {error}") from error


def starts_of_texts(document: Document, texts: list[str]) -> list[int | None]:
    """The character at which each text begins in its document's text; None for a text of its `pair`.

    Raises:
        UserError: a text is neither a part of the document's text, in order, nor of its pair.
    """
    starts: list[int | None] = []
    after = 0
    for text in texts:
        start = document.text.find(text, after)
        if start >= 0:
            after = start + len(text)
        elif document.pair is None or text not in document.pair:
            raise UserError(
                f"data.unit makes {text[:40]!r} of {document.text[:40]!r}, which does not contain it there, so that tags "
                "and spans cannot be placed: let `texts` return parts of the document in their order"
            )
        starts.append(start if start >= 0 else None)
    return starts
