"""Tokenized text on disk: one long stream of tokens, memory-mapped, that knows where its rows begin."""

import json
import os
import shutil
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from ssl_nlp.cache import build_once, cache_dir, fingerprint
from ssl_nlp.corpora.base import Corpus, Document, Split
from ssl_nlp.corpora.digests import digest_of_text
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.batch_maker import BatchMaker, TokenRow
from ssl_nlp.data.encoding import encode
from ssl_nlp.data.labels import VERSION as LABEL_RULES
from ssl_nlp.data.labels import Labels
from ssl_nlp.data.sentences import SENTENCE_RULES
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.data.words import WORD_RULES
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TextStatistics:
    """The size of a split.

    Attributes:
        documents: number of rows: documents, sentences, or two for every pair.
        tokens: number of tokens, special tokens not counted.
        bytes: their length in UTF-8.
    """

    documents: int
    tokens: int
    bytes: int


class TokenStore:
    """The tokens of one split, read through the operating system's page cache; opening it reads nothing.

    The rows are the texts that the batch maker takes from documents: these as they are, sentences, or two to a pair.

    Attributes:
        starts: (rows + 1,) int64. The start of each row in the stream; the last entry is the stream's length.
        documents: (rows,) uint32. The number of the document that each row was cut from.
        labels: the kind and the classes of the rows' labels; None if the store was built without.
        statistics: sizes of the split, for bits per byte.
        digest: covers all tokens, the starts of words and rows, the documents of rows, and labels if there are any. The
            same tokenizer and the same text give the same digest, whatever their files are called and however they were
            written.
        text_digest: covers the documents alone (`digest_of_text`), whatever the tokenizer and the unit are.
    """

    def __init__(self, directory: Path, labels: Labels | None = None) -> None:
        from datasets import load_from_disk

        table = load_from_disk(str(directory / "tokens")).data
        statistics = json.loads((directory / "statistics.json").read_text())
        self._ids, self._starts_word = RaggedColumn(table["input_ids"]), RaggedColumn(table["starts_word"])
        self.starts = self._ids.starts
        self.documents: Array = np.load(directory / "documents.npy", mmap_mode="r")
        self.labels = None if labels is None else type(labels)(statistics.pop("class_names"))
        self._labels = None if labels is None else RaggedColumn(table["labels"])
        self._tags = self._labels if labels is not None and labels.kind == "tags" else None
        self.digest: str = statistics.pop("digest")
        self.text_digest: str = statistics.pop("text")
        self.statistics = TextStatistics(**statistics)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, start: int, stop: int) -> TokenRow:
        """Tokens [start, stop) of the stream, whether each begins a word, and their tags if there are any."""
        tags = None if self._tags is None else self._tags.read(start, stop)
        return TokenRow(self._ids.read(start, stop), self._starts_word.read(start, stop), tags)

    def row(self, number: int) -> TokenRow:
        """A row with its labels."""
        row = self.read(int(self.starts[number]), int(self.starts[number + 1]))
        return row if self._labels is None or self._tags is not None else row._replace(labels=self.label(number))

    def label(self, number: int) -> Array:
        """The label of a row as numbers."""
        assert self._labels is not None
        return self._labels.read(*map(int, self._labels.starts[number : number + 2]))

    def description(self) -> dict[str, Any]:
        """Sizes, digests and, with labels, the classes by number, as plain data: another text has another description."""
        names = {} if self.labels is None else {"class_names": self.labels.class_names}
        return asdict(self.statistics) | {"digest": self.digest, "text": self.text_digest} | names

    def token_counts(self, vocab_size: int) -> Array:
        """(vocab_size,) int64: how often each token occurs in the stream."""
        counts = np.zeros(vocab_size, dtype=np.int64)
        for ids in self._ids.chunks:
            counts += np.bincount(ids, minlength=vocab_size)
        return counts


class RaggedColumn:
    """An Arrow column of lists, seen as one long array that is cut into rows; nothing is copied.

    Attributes:
        chunks: the parts of the long array.
        starts: (rows + 1,) int64. The start of each row in the long array; the last entry is its length.
    """

    def __init__(self, column: Any) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        # A chunk may be a slice of a larger array: its offsets then do not begin at 0, and its values are the whole.
        self.chunks: list[Array] = [
            chunk.values.to_numpy()[offset[0] : offset[-1]] for chunk, offset in zip(chunks, offsets, strict=True)
        ]
        lengths = np.concatenate([np.diff(offset) for offset in offsets] or [np.empty(0, np.int64)])
        self.starts: Array = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._chunk_starts = [0, *accumulate(map(len, self.chunks))]

    def read(self, start: int, stop: int) -> Array:
        """The long array from `start` to `stop`."""
        if start >= stop:
            return np.empty(0, np.int64)
        number = bisect_right(self._chunk_starts, start) - 1  # a tenth of the time of numpy's search
        parts = []
        while start < stop:
            first, end = self._chunk_starts[number], min(stop, self._chunk_starts[number + 1])
            parts.append(self.chunks[number][start - first : end - first])
            start, number = end, number + 1
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def open_store(
    corpus: Corpus, split: Split, tokenizer: Tokenizer, maker: BatchMaker, labels: Labels | None = None
) -> TokenStore:
    """The tokens of a split, tokenized now (in parallel, with a progress bar) unless the cache has them.

    The key covers the corpus, the tokenizer, the maker and the labels, so that a changed setting never meets a stale
    cache. Packing and truncation happen when a batch is read: they need no key.

    Args:
        labels: which labels to keep beside the tokens. Without names of classes, those that occur are taken, in the
            order of the alphabet.
    """
    key = fingerprint(
        "tokens", 6, SENTENCE_RULES, WORD_RULES, corpus.fingerprint(), split, tokenizer.fingerprint(),
        maker.fingerprint(), *([] if labels is None else [LABEL_RULES, labels.kind, labels.class_names]),
    )  # fmt: skip
    directory = cache_dir() / "tokens" / key
    return TokenStore(build_once(directory, lambda path: _build(path, corpus, split, tokenizer, maker, labels)), labels)


def _build(
    directory: Path, corpus: Corpus, split: Split, tokenizer: Tokenizer, maker: BatchMaker, labels: Labels | None
) -> None:
    place = f"the {split} split of {type(corpus).__name__}"
    text = _documents(directory / "scratch", corpus, split, labels)
    if not len(text):
        raise UserError(f"{place} is empty: give it more documents")
    if labels is not None and labels.class_names is None:
        labels = type(labels)(_class_names(text["label"], labels, place))
    tokens = _tokenized(text, split, tokenizer, maker, labels, place)
    if not len(tokens):
        raise maker.nothing(place)
    frame = len(tokenizer.prefix) + len(tokenizer.suffix)
    statistics = TextStatistics(
        documents=len(tokens),
        tokens=int(RaggedColumn(tokens.data["input_ids"]).starts[-1]) - frame * len(tokens),
        bytes=sum(tokens.data["bytes"].to_pylist()),
    )
    if not statistics.tokens:
        raise UserError(f"{place} has no text: give it more documents")
    if labels is not None and labels.kind == "tags":
        _note_lost_tags(text["label"], tokens, place)
    np.save(directory / "documents.npy", tokens.data["document"].to_numpy())
    tokens.remove_columns(["bytes", "document"]).save_to_disk(str(directory / "tokens"))
    about = asdict(statistics) | {"digest": _digest(tokens.data, labels), "text": digest_of_text(_records(text))}
    if labels is not None:
        about["class_names"] = labels.class_names
    (directory / "statistics.json").write_text(json.dumps(about))
    shutil.rmtree(directory / "scratch")


def _documents(scratch: Path, corpus: Corpus, split: Split, labels: Labels | None) -> "Dataset":
    """The documents of a split as a data set on disk: text, pair and, as JSON, label."""
    from datasets import Dataset, Features, Value
    from datasets.exceptions import DatasetGenerationError

    def records() -> Iterator[dict[str, str | None]]:
        for document in corpus.documents(split):
            record = {"text": document.text, "pair": document.pair}
            yield record if labels is None else record | {"label": json.dumps(labels.plain(document))}

    names = ["text", "pair"] if labels is None else ["text", "pair", "label"]
    columns = Features({name: Value("string") for name in names})
    try:
        return Dataset.from_generator(records, cache_dir=str(scratch), features=columns, fingerprint=fingerprint(split))
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None  # the error of the corpus


def _records(text: "Dataset") -> Iterator[tuple[str, str | None, Any]]:
    """Text, pair and plain label of each of the `_documents`."""
    for batch in text.iter(batch_size=1000):
        labels = batch.get("label") or [None] * len(batch["text"])
        for content, pair, label in zip(batch["text"], batch["pair"], labels, strict=True):
            yield content, pair, None if label is None else json.loads(label)


def _class_names(column: Iterable[str], labels: Labels, place: str) -> list[str]:
    """The classes that occur in plain labels.

    Raises:
        UserError: no document has a label.
    """
    known = [label for text in column if (label := json.loads(text)) is not None]
    if not known:
        raise UserError(
            f"data.labels is {labels.kind!r}, and no document of {place} has a label: name its field in the corpus's "
            "`label`, or leave data.labels out"
        )
    return sorted({name for label in known for name in labels.names(label)})


def _note_lost_tags(column: Iterable[str], tokens: "Dataset", place: str) -> None:
    """Print one line to standard error if words have no token of their own for their tag."""
    given = sum(len(label["tags"]) for text in column if (label := json.loads(text)) is not None)
    kept = sum(int((chunk != IGNORE_INDEX).sum()) for chunk in RaggedColumn(tokens.data["labels"]).chunks)
    if kept < given:
        print(
            f"note: {1 - kept / given:.1%} of the tags of {place} are left out, because their words have no token of their "
            "own. With data.tokenizer.kind char every character has one",
            file=sys.stderr,
            flush=True,
        )


def _tokenized(
    text: "Dataset", split: Split, tokenizer: Tokenizer, maker: BatchMaker, labels: Labels | None, place: str
) -> "Dataset":
    """The rows of `_documents`; `place` names the split in messages."""
    from datasets import Features, List, Value

    width = "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"
    columns = {
        "input_ids": List(Value(width)),
        "starts_word": List(Value("uint8")),
        "bytes": Value("int64"),
        "document": Value("uint32"),
    }
    if labels is not None:
        columns["labels"] = List(Value(labels.dtype))

    def tokenize(batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        documents = [Document(text, pair=pair) for text, pair in zip(batch["text"], batch["pair"], strict=True)]
        plain = None if labels is None else [json.loads(label) for label in batch["label"]]
        texts = [maker.texts(document) for document in documents]
        try:
            encoded = encode(documents, texts, tokenizer, labels, plain)
        except UserError as error:
            raise UserError(f"{place}, {error}") from error
        rows = [row for of_document in encoded for row in of_document]
        found: dict[str, list[Any]] = {
            "input_ids": [np.asarray(row.ids, dtype=width) for row in rows],
            "starts_word": [np.asarray(row.starts_word, dtype=np.uint8) for row in rows],
            "bytes": [len(text.encode()) for of_document in texts for text in of_document],
            "document": [number for number, row in zip(numbers, encoded, strict=True) for _ in row],
        }
        return found if labels is None else found | {"labels": [row.labels for row in rows]}

    processes = min(os.cpu_count() or 1, max(1, len(text) // 10_000))
    return text.map(
        tokenize,
        batched=True,
        with_indices=True,
        num_proc=processes if processes > 1 else None,
        remove_columns=text.column_names,
        features=Features(columns),
        new_fingerprint=fingerprint("tokens", split),
        desc=f"Tokenizing {split}",
    )


def _digest(table: Any, labels: Labels | None) -> str:
    """A digest of a table's content, however it is cut into chunks."""
    ids, starts_word = RaggedColumn(table["input_ids"]), RaggedColumn(table["starts_word"])
    parts = [*ids.chunks, *starts_word.chunks, np.diff(ids.starts), table["document"].to_numpy()]
    if labels is not None:
        numbers = RaggedColumn(table["labels"])
        parts += [
            *numbers.chunks,
            np.diff(numbers.starts),
            np.frombuffer(json.dumps(labels.class_names).encode(), "u1"),
        ]
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(np.ascontiguousarray(part))
    return digest.hexdigest()
