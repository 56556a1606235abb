"""From documents to batches: the base class of everything that `data.unit` may name."""

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ssl_nlp.corpora.base import Document
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.labels import LabelKind, Labels, Numbers
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from ssl_nlp.data.store import TokenStore

RowKind = Literal["block", "sentence", "pair", "cooccurrence"]
"""The content of a row: packed documents, one text, one text whose partner is in the batch's `pair`, or two words that
stand near each other."""


class TokenRow(NamedTuple):
    """One framed text.

    Attributes:
        ids: its tokens.
        starts_word: for each token, whether a word begins there.
        labels: its label as numbers (`Labels.of_row`); None without `data.labels`.
    """

    ids: Sequence[int]
    starts_word: Sequence[bool]
    labels: Numbers | None = None

    def cut(self, length: int) -> "TokenRow":
        """Its first `length` tokens. The labels stay complete: `Labels.collate` cuts them."""
        return TokenRow(self.ids[:length], self.starts_word[:length], self.labels)

    def marked(self) -> list[int]:
        """The tokens as one list, as cursors keep them: one that continues a word is ~id."""
        return [token if start else ~token for token, start in zip(self.ids, self.starts_word, strict=True)]


def unmarked(row: Sequence[int], labels: Numbers | None = None) -> TokenRow:
    """The row whose tokens `TokenRow.marked` has written."""
    tokens = np.array(row, dtype=np.int64)
    starts_word = tokens >= 0
    ids = np.where(starts_word, tokens, ~tokens)
    return TokenRow(ids, starts_word, labels)  # type: ignore[arg-type]  # arrays serve as sequences


class StreamedDocument(NamedTuple):
    """The rows of one document of a stream.

    Attributes:
        number: unique among the documents of all readers.
        rows: its tokenized texts, not truncated.
        after: the position of the stream after it: plain data, including the `epoch`.
    """

    number: int
    rows: list[TokenRow]
    after: dict[str, Any]


class Rows(Protocol):
    """The rows of a split, as a data set that is indexed by a list of row numbers and then gives a batch."""

    @property
    def sizes(self) -> npt.NDArray[np.int64] | None:
        """(rows,) numbers by which rows are sorted: batches are made of similar ones. None: of any rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Sequence[int]) -> TokenBatch: ...


class BatchMaker(ABC):
    """A way of making batches: the texts that a document gives, and the rows that these become.

    To write your own, subclass `Sentences`, `Pairs` or `Blocks` (`ssl_nlp.data`) and write `texts`; the rest follows.
    Name it in YAML as `data.unit: {class_path: my_file.Paragraphs}`, with `--import my_file.py`. The token cache notices
    a change of its file or of its attributes, which must be plain data.

    Attributes:
        kind: which kind of rows it makes. Methods state which kinds they read.
        label_kinds: which kinds of labels its rows can carry.
        shortest: the smallest `data.length` that leaves room for a row.
        version: change it whenever `texts` changes. None: the source file of the class stands for it, but not the files
            that it imports.
    """

    kind: ClassVar[RowKind]
    label_kinds: ClassVar[tuple[LabelKind, ...]] = get_args(LabelKind)
    shortest: ClassVar[int] = 2
    version: ClassVar[int | str | None] = None

    @abstractmethod
    def texts(self, document: Document) -> list[str]:
        """The texts of a document that are tokenized, each with a frame of its own."""

    @abstractmethod
    def text_lengths(self, length: int) -> tuple[int, ...] | None:
        """For each text of an item, the number of tokens that are kept if `data.length` is `length`. None: all are kept."""

    @abstractmethod
    def rows(self, store: "TokenStore", tokenizer: Tokenizer, length: int) -> Rows:
        """The rows of a split, whose texts `store` holds."""

    @abstractmethod
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
        """Endless batches of a stream, each with the cursor after it, from which the next one can be made again.

        Args:
            documents: those that come after `cursor`, without end.
            cursor: plain data: `documents`' own state, `left` (read, but not in any batch yet) and `batches`.
            seed: the order of batches depends on it and on the epoch.
            labels: which labels the batches carry; None for none.
        """

    def nothing(self, place: str) -> UserError:
        """The error to raise if no document of `place` gives any text."""
        return UserError(f"{type(self).__name__} finds no text in {place}: give it other documents")

    def fingerprint(self) -> Any:
        """Everything but the documents that the texts depend on, as plain data for the keys of caches.

        Raises:
            UserError: the source of a class that declares no `version` cannot be read.
        """
        own = [kind for kind in type(self).__mro__ if issubclass(kind, BatchMaker) and not _is_ours(kind)]
        return [self.kind, [_code(kind) for kind in own], vars(self)] if own else self.kind


def check_kind(maker: BatchMaker) -> None:
    """Check that the class of a maker states which kind of rows it makes.

    Raises:
        UserError: `kind` is missing, or not one of `RowKind`.
    """
    if getattr(maker, "kind", None) not in get_args(RowKind):
        kinds = ", ".join(map(repr, get_args(RowKind)))
        raise UserError(f"data.unit: {type(maker).__name__} has no `kind`: set it to one of {kinds}")


def _is_ours(kind: type) -> bool:
    return kind.__module__.split(".")[0] == __name__.split(".")[0]


def _code(kind: type[BatchMaker]) -> list[Any]:
    """The name of a class, and its version or the source of its file."""
    version = kind.__dict__.get("version")
    if version is None:
        try:
            version = inspect.getsource(sys.modules[kind.__module__])
        except (KeyError, OSError, TypeError) as error:
            raise UserError(
                f"data.unit: the source of {kind.__name__} cannot be read, so that a change of it would go unnoticed: "
                "give the class a `version`, such as version = 1, and raise it with every change"
            ) from error
    return [kind.__qualname__, version]
