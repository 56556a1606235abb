"""Rows of a question and a window of the text that may answer it; long texts make several rows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ssl_nlp.corpora.base import Document
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.batch_maker import BatchMaker, StreamedDocument, TokenRow
from ssl_nlp.data.labels import Labels
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.data.units import Item, Sentences
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from ssl_nlp.data.store import TokenStore

Array = npt.NDArray[np.int64]


class Plan(NamedTuple):
    """The windows of N texts, numbers without their frames.

    Attributes:
        heads: (N,) the tokens of a row before its window.
        rooms: (N,) the most tokens of a window.
        counts: (N,) the windows of each text.
    """

    heads: Array
    rooms: Array
    counts: Array


class Questions(BatchMaker):
    """Makes rows of a question (the document's `pair`) and a window of its text, as BERT does for SQuAD.

    A row is `[CLS] question [SEP] window [SEP]`, or `<s> question <s> window` where the tokenizer ends no text. It has at
    most `data.length` tokens. The windows of a text overlap, so that an answer is whole in one of them. Spans are those
    that lie in the window as a whole, at their positions in the row.

    Args:
        overlap: tokens that a window shares with the one before it.
        question: tokens of a question that are kept.
    """

    kind = "sentence"
    label_kinds = ("spans",)
    shortest = 16

    def __init__(self, overlap: int = 64, question: int = 64) -> None:
        if overlap < 0 or question < 1:
            raise UserError(
                f"data.unit: overlap must be 0 or more and question 1 or more, not {overlap} and {question}"
            )
        self.overlap, self.question = overlap, question

    def texts(self, document: Document) -> list[str]:
        if document.pair is None:
            raise UserError(
                f"{document.text[:40]!r} has no question: name the field of the questions in the corpus's `pair`, or set "
                "its format to squad"
            )
        return [document.text, document.pair]

    def text_lengths(self, length: int) -> None:
        return None

    def fingerprint(self) -> Any:
        return "question" if type(self) is Questions else super().fingerprint()

    def rows(self, store: "TokenStore", tokenizer: Tokenizer, length: int) -> "QuestionRows":
        return QuestionRows(self, store, tokenizer, length)

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
        """As `BatchMaker.stream`: windows are grouped as sentences are."""
        cut = (document._replace(rows=self.windows(*document.rows, tokenizer, length)) for document in documents)
        yield from _Windows().stream(cut, cursor, tokenizer, length, batch_size, seed, labels)

    def batch(
        self, windows: Sequence[Item], tokenizer: Tokenizer, length: int, labels: Labels | None = None
    ) -> TokenBatch:
        """The batch of rows from `window`, each with the number of its document."""
        return _Windows().batch(windows, tokenizer, length, labels)

    def plan(self, texts: Array, questions: Array, tokenizer: Tokenizer, length: int) -> Plan:
        """The windows of texts, given the number of their tokens and of those of their questions, both framed.

        Raises:
            UserError: `length` leaves no room for a window beside a question.
        """
        frame = len(tokenizer.prefix) + len(tokenizer.suffix)
        heads = np.minimum(questions - frame, self.question) + len(tokenizer.prefix + tokenizer.suffix)
        heads = heads + (0 if tokenizer.suffix else len(tokenizer.prefix))
        rooms = length - heads - len(tokenizer.suffix)
        if rooms.min() <= self.overlap:
            raise UserError(
                f"data.length {length} leaves {rooms.min()} tokens for a window beside a question of {self.question}, and "
                f"windows overlap by {self.overlap}: raise data.length, or lower question or overlap of data.unit"
            )
        beyond = np.maximum(texts - frame - rooms, 0)
        return Plan(heads, rooms, 1 - (-beyond // (rooms - self.overlap)))

    def windows(self, text: TokenRow, question: TokenRow, tokenizer: Tokenizer, length: int) -> list[TokenRow]:
        """The rows of a text and its question, both framed. Their labels begin with the numbers of `TokenBatch.windows`."""
        plan = self.plan(np.array([len(text.ids)]), np.array([len(question.ids)]), tokenizer, length)
        return [self.window(text, question, number, int(plan.rooms[0]), tokenizer) for number in range(plan.counts[0])]

    def window(self, text: TokenRow, question: TokenRow, number: int, room: int, tokenizer: Tokenizer) -> TokenRow:
        """The row of one window."""
        prefix, suffix = tokenizer.prefix, tokenizer.suffix
        asked = slice(len(prefix), min(len(question.ids) - len(suffix), len(prefix) + self.question))
        between = [*suffix] or [*prefix]
        before = [*prefix, *question.ids[asked], *between]
        first = number * (room - self.overlap)
        read = slice(len(prefix) + first, min(len(text.ids) - len(suffix), len(prefix) + first + room))
        ids = [*before, *text.ids[read], *suffix]
        starts = [True] * len(prefix) + [*question.starts_word[asked]] + [True] * len(between)
        starts += [*text.starts_word[read], *[True] * len(suffix)]
        numbers = [len(before), len(before) + read.stop - read.start, first]
        for start, stop, name in np.reshape(text.labels if text.labels is not None else [], (-1, 3)).tolist():
            if read.start <= start and stop <= read.stop:
                moved = len(before) - read.start
                numbers += [start + moved, stop + moved, name]
        return TokenRow(ids, starts, numbers)


class _Windows(Sentences):
    """Batches of rows that `Questions.window` has made."""

    def batch(self, items: Sequence[Item], tokenizer: Tokenizer, length: int, labels: Labels | None) -> TokenBatch:
        numbers = [[int(each) for each in row.labels or ()] for _, [row] in items]
        spans = [(number, [row._replace(labels=own[3:])]) for (number, [row]), own in zip(items, numbers, strict=True)]
        batch = super().batch(spans, tokenizer, length, labels)
        return replace(batch, windows=torch.tensor([own[:3] for own in numbers]))


class QuestionRows:
    """The windows of all questions of a store, whose rows are a text and its question in turn."""

    def __init__(self, maker: Questions, store: "TokenStore", tokenizer: Tokenizer, length: int) -> None:
        self.maker, self.store, self.tokenizer, self.length = maker, store, tokenizer, length
        lengths = np.diff(store.starts).reshape(-1, 2)
        self.plan = maker.plan(lengths[:, 0], lengths[:, 1], tokenizer, length)
        counts = self.plan.counts
        self.documents = np.repeat(np.arange(len(counts)), counts)
        self.numbers = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        rooms, heads = self.plan.rooms[self.documents], self.plan.heads[self.documents]
        frame = len(tokenizer.prefix) + len(tokenizer.suffix)
        rest = lengths[self.documents, 0] - frame - self.numbers * (rooms - maker.overlap)
        self.sizes = heads + np.minimum(rest, rooms) + len(tokenizer.suffix)

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, rows: Sequence[int]) -> TokenBatch:
        items = []
        for row in rows:
            document, number = int(self.documents[row]), int(self.numbers[row])
            text, question = self.store.row(2 * document), self.store.row(2 * document + 1)
            window = self.maker.window(text, question, number, int(self.plan.rooms[document]), self.tokenizer)
            items.append((int(self.store.documents[2 * document]), [window]))
        return self.maker.batch(items, self.tokenizer, self.length, self.store.labels)
