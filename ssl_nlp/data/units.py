"""Rows of one padded text each, in batches of similar length: sentences, pairs, and subclasses with their own texts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from ssl_nlp.corpora.base import Document
from ssl_nlp.data.batch import IGNORE_INDEX, TokenBatch
from ssl_nlp.data.batch_maker import BatchMaker, StreamedDocument, TokenRow, unmarked
from ssl_nlp.data.blocks import Blocks
from ssl_nlp.data.cooccurrences import Cooccurrences
from ssl_nlp.data.labels import Labels
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from ssl_nlp.data.store import TokenStore

GROUP = 50  # batches of a stream whose texts are sorted by length together

Unit = Literal["block", "sentence", "text", "pair", "cooccurrence"]
"""The names of our own batch makers."""

Item = tuple[int, list[TokenRow]]
"""The number of a document, and one text of it or two."""


class Sentences(BatchMaker):
    """Makes rows of one sentence each, truncated to `data.length`, in batches of similar length.

    Each sentence has the class or score of its document, and those tags and spans that lie in it.

    Attributes:
        texts_of_item: how many texts belong together, one after the other in `texts`; they share `data.length`.
    """

    kind = "sentence"
    texts_of_item: ClassVar[int] = 1

    def texts(self, document: Document) -> list[str]:
        return split_sentences(document.text)

    def text_lengths(self, length: int) -> tuple[int, ...]:
        return (length // self.texts_of_item,) * self.texts_of_item

    def rows(self, store: "TokenStore", tokenizer: Tokenizer, length: int) -> "TextRows":
        return TextRows(self, store, tokenizer, length)

    def batch(self, items: Sequence[Item], tokenizer: Tokenizer, length: int, labels: Labels | None) -> TokenBatch:
        """The first texts of the items, each truncated to its part of `length`; with the second ones as `pair`."""
        documents = torch.tensor([number for number, _ in items])
        parts = []
        texts = zip(*(rows for _, rows in items), strict=True)
        for rows, limit in zip(texts, self.text_lengths(length), strict=True):
            ids, starts_word, numbers = zip(*rows, strict=True)
            part = pad_rows(ids, starts_word, tokenizer, limit)
            own = None if labels is None else labels.collate(numbers, part.input_ids.shape[1])
            parts.append(replace(part, documents=documents, labels=own))
        first, *second = parts
        return replace(first, pair=second[0]) if second else first

    def stream(
        self,
        documents: Iterable[StreamedDocument],
        cursor: dict[str, Any],
        tokenizer: Tokenizer,
        length: int,
        batch_size: int,
        seed: Sequence[int],
        labels: Labels | None,
    ) -> Iterator[tuple[TokenBatch, dict[str, Any]]]:
        """As `BatchMaker.stream`: a group of items is sorted by length. A resumed stream reads its group again."""
        kept = max(self.text_lengths(length)) + 1  # the last position predicts one more
        size = GROUP * batch_size
        group = [(number, [_from_plain(row) for row in rows]) for number, rows in cursor["left"]]
        start, done = dict(cursor), cursor["batches"]
        for document in documents:
            rows = [row.cut(kept) for row in document.rows]
            texts = self.texts_of_item
            group += [(document.number, rows[i : i + texts]) for i in range(0, len(rows), texts)]
            if len(group) < size:
                continue
            group, rest = group[:size], group[size:]
            sizes = item_sizes(np.array([[len(row.ids) for row in rows] for _, rows in group]))
            order = np.argsort(sizes, kind="stable").reshape(GROUP, batch_size)
            order = order[np.random.default_rng([*seed, document.after["epoch"]]).permutation(GROUP)]
            for i in range(done, GROUP):
                batch = self.batch([group[item] for item in order[i]], tokenizer, length, labels)
                yield batch, start | {"batches": i + 1}
            left = [(number, [_plain(row) for row in rows]) for number, rows in rest]
            group, done = rest, 0
            start = document.after | {"left": left, "batches": 0}


class Texts(Sentences):
    """Makes rows of one whole document each, truncated to `data.length`: what a task classifies, tags or translates."""

    def texts(self, document: Document) -> list[str]:
        return [document.text] if document.text.strip() else []

    def fingerprint(self) -> Any:
        return "text" if type(self) is Texts else super().fingerprint()


class Pairs(Sentences):
    """Makes rows of two texts that belong together: a document and its `pair`, or else two consecutive sentences of it.

    A document without a pair of its own gives its sentences two by two, so that each is in one pair; the last one of an
    odd number is left out. Both texts of a pair have the class or score of their document, a `pair` of its own no tags and
    spans. Each text is truncated to half of `data.length`, or the second one to `pair_length` and the first to the rest, so
    that the two fit into one row where a method joins them.

    Args:
        pair_length: tokens of the second text, such as a summary; null: half of `data.length`.
    """

    kind = "pair"
    shortest = 4
    texts_of_item = 2
    pair_length: int | None = None

    def __init__(self, pair_length: int | None = None) -> None:
        if pair_length is not None:
            self.pair_length = pair_length

    def text_lengths(self, length: int) -> tuple[int, ...]:
        if self.pair_length is None:
            return super().text_lengths(length)
        if not 2 <= self.pair_length <= length - 2:
            raise UserError(
                f"data.unit: pair_length must be between 2 and {length - 2}, because data.length {length} is for "
                f"both texts, not {self.pair_length}"
            )
        return length - self.pair_length, self.pair_length

    def texts(self, document: Document) -> list[str]:
        if document.pair is not None:
            return [document.text, document.pair]
        sentences = split_sentences(document.text)
        return sentences[: len(sentences) // 2 * 2]

    def nothing(self, place: str) -> UserError:
        return UserError(
            f"{place} has no pairs, because no document has two sentences: make documents of more than one sentence, or "
            "name the field of the second text in the corpus's `pair`"
        )


def maker_of(unit: Unit) -> BatchMaker:
    """The maker that a name stands for.

    Raises:
        UserError: the name is unknown.
    """
    makers: dict[str, type[BatchMaker]] = {
        "block": Blocks,
        "sentence": Sentences,
        "text": Texts,
        "pair": Pairs,
        "cooccurrence": Cooccurrences,
    }
    if unit not in makers:
        raise UserError(f"data.unit {unit!r} is unknown: use one of {', '.join(makers)}, or a BatchMaker of your own")
    return makers[unit]()


class TextRows:
    """The items of a store. Item i is its rows from `i * texts_of_item` on.

    Attributes:
        sizes: (items,) by which to sort items for batches of similar length (`item_sizes`).
    """

    def __init__(self, maker: Sentences, store: "TokenStore", tokenizer: Tokenizer, length: int) -> None:
        self.maker, self.store, self.tokenizer, self.length = maker, store, tokenizer, length
        lengths = np.diff(store.starts).reshape(-1, maker.texts_of_item)
        self.sizes = item_sizes(np.minimum(lengths, maker.text_lengths(length)))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, rows: Sequence[int]) -> TokenBatch:
        texts = self.maker.texts_of_item
        numbers = self.store.documents[[item * texts for item in rows]].tolist()
        items = [
            (number, [self.store.row(item * texts + i) for i in range(texts)])
            for number, item in zip(numbers, rows, strict=True)
        ]
        return self.maker.batch(items, self.tokenizer, self.length, self.store.labels)


def _plain(row: TokenRow) -> list[Any]:
    """A row as cursors keep it."""
    return row.marked() if row.labels is None else [row.marked(), list(row.labels)]


def _from_plain(plain: list[Any]) -> TokenRow:
    return unmarked(*plain) if isinstance(plain[0], list) else unmarked(plain)


def item_sizes(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Numbers (items,) that sort items by their longest text, and equal ones by all of their texts together.

    The longest text of a batch is its width where all texts are encoded in one pass. Ties are ordered to keep padding
    low when both texts are joined into one row.

    Args:
        lengths: (items, texts of an item), in tokens.
    """
    total = lengths.sum(axis=1)
    return lengths.max(axis=1) * (total.max(initial=0) + 1) + total


def pad_rows(
    ids: Sequence[Sequence[int]], starts_word: Sequence[Sequence[bool]] | None, tokenizer: Tokenizer, length: int
) -> TokenBatch:
    """One framed document a row, truncated to `length` and padded on the right to the longest row."""
    sizes = [min(len(row), length) for row in ids]
    width = max(sizes)
    inputs = np.full((len(ids), width), tokenizer.pad_id, dtype=np.int64)
    segments = np.zeros_like(inputs)
    following = np.full_like(inputs, IGNORE_INDEX)
    words = np.ones(inputs.shape, dtype=bool)
    for i, (row, size) in enumerate(zip(ids, sizes, strict=True)):
        inputs[i, :size] = row[:size]
        segments[i, :size] = 1
        following[i, : size - 1] = row[1:size]
        if size < len(row):
            following[i, size - 1] = row[size]
        elif not tokenizer.suffix:
            following[i, size - 1] = tokenizer.end_id
        if starts_word is not None:
            words[i, :size] = starts_word[i][:size]
    return TokenBatch(
        *(torch.from_numpy(array) for array in (inputs, segments, following, words)),
        packed=False,
        padded=min(sizes) < width,
        n_tokens=sum(sizes),
    )


def spread_texts(store: "TokenStore", tokenizer: Tokenizer, number: int, length: int) -> Iterator[TokenBatch]:
    """Batches of at most `number` texts, spread evenly over a store, one a row and cut to `length` tokens."""
    texts = len(store.starts) - 1
    chosen = np.linspace(0, texts - 1, min(number, texts)).astype(int)
    for part in np.array_split(chosen, -(-len(chosen) // 256)):
        yield pad_rows([store.row(row).ids for row in part.tolist()], None, tokenizer, length)
