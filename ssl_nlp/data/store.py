"""Tokenized text on disk: one long stream of tokens, memory-mapped, that knows where its rows begin."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from ssl_nlp.cache import build_once, cache_dir, fingerprint
from ssl_nlp.corpora.base import Corpus, Document, Split
from ssl_nlp.data.batch_maker import BatchMaker, TokenRow
from ssl_nlp.data.sentences import SENTENCE_RULES
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.data.words import WORD_RULES
from ssl_nlp.errors import UserError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TextStatistics:
    """What the rows of a split hold.

    Attributes:
        documents: how many rows: documents, sentences, or two for every pair.
        tokens: their content, special tokens not counted.
        bytes: their length in UTF-8.
    """

    documents: int
    tokens: int
    bytes: int


class TokenStore:
    """The tokens of one split, read through the operating system's page cache; opening it reads nothing.

    The rows are the texts that the batch maker takes from documents: these as they are, sentences, or two to a pair.

    Attributes:
        starts: (rows + 1,) int64. Where each row begins in the stream; the last entry is the stream's length.
        documents: (rows,) uint32. The number of the document that each row was cut from.
        statistics: sizes of the split, for bits per byte.
        digest: of all tokens, where words and rows begin, and which document each row is of. It is the same wherever the
            same tokenizer meets the same text, whatever the files of either are called and however they were written.
    """

    def __init__(self, directory: Path) -> None:
        from datasets import load_from_disk

        table = load_from_disk(str(directory / "tokens")).data
        self._ids = [chunk.values.to_numpy() for chunk in _chunks(table["input_ids"])]
        self._starts_word = [chunk.values.to_numpy() for chunk in _chunks(table["starts_word"])]
        offsets = [chunk.offsets.to_numpy() for chunk in _chunks(table["input_ids"])]
        # A chunk may be a slice of a larger array: its offsets then do not begin at 0, and its values are the whole.
        self._shift = np.array([offset[0] for offset in offsets], dtype=np.int64)
        lengths = np.concatenate([np.diff(offset) for offset in offsets])
        self.starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._chunk_starts = np.concatenate([[0], np.cumsum([offset[-1] - offset[0] for offset in offsets])])
        self.documents: Array = np.load(directory / "documents.npy", mmap_mode="r")
        statistics = json.loads((directory / "statistics.json").read_text())
        self.digest: str = statistics.pop("digest")
        self.statistics = TextStatistics(**statistics)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, start: int, stop: int) -> TokenRow:
        """Tokens [start, stop) of the stream and whether each begins a word."""
        first = int(np.searchsorted(self._chunk_starts, start, side="right")) - 1
        ids, words = [], []
        while start < stop:
            end = min(stop, int(self._chunk_starts[first + 1]))
            base = int(self._shift[first] - self._chunk_starts[first])
            ids.append(self._ids[first][start + base : end + base])
            words.append(self._starts_word[first][start + base : end + base])
            start, first = end, first + 1
        if len(ids) == 1:
            return TokenRow(ids[0], words[0])
        return TokenRow(np.concatenate(ids or [np.empty(0, int)]), np.concatenate(words or [np.empty(0, np.uint8)]))

    def token_counts(self, vocab_size: int) -> Array:
        """(vocab_size,) int64: how often each token occurs in the stream."""
        counts = np.zeros(vocab_size, dtype=np.int64)
        for i, ids in enumerate(self._ids):
            length = int(self._chunk_starts[i + 1] - self._chunk_starts[i])
            counts += np.bincount(ids[self._shift[i] : self._shift[i] + length], minlength=vocab_size)
        return counts


def open_store(corpus: Corpus, split: Split, tokenizer: Tokenizer, maker: BatchMaker) -> TokenStore:
    """The tokens of a split, tokenized now (in parallel, with a progress bar) unless the cache has them.

    The key covers the corpus, the tokenizer and the maker, so that a changed setting never meets a stale cache. Packing
    and truncation happen when a batch is read: they need no key.
    """
    key = fingerprint(
        "tokens",
        5,
        SENTENCE_RULES,
        WORD_RULES,
        corpus.fingerprint(),
        split,
        tokenizer.fingerprint(),
        maker.fingerprint(),
    )
    return TokenStore(
        build_once(cache_dir() / "tokens" / key, lambda path: _build(path, corpus, split, tokenizer, maker))
    )


def _build(directory: Path, corpus: Corpus, split: Split, tokenizer: Tokenizer, maker: BatchMaker) -> None:
    from datasets import Dataset, Features, List, Value
    from datasets.exceptions import DatasetGenerationError

    def texts() -> Any:
        for document in corpus.documents(split):
            yield {"text": document.text, "pair": document.pair}

    def tokenize(batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        documents = [Document(text, pair=pair) for text, pair in zip(batch["text"], batch["pair"], strict=True)]
        rows = [maker.texts(document) for document in documents]
        texts = [text for row in rows for text in row]
        encoded = tokenizer.encode(texts)
        return {
            "input_ids": [np.asarray(ids, dtype=width) for ids, _ in encoded],
            "starts_word": [np.asarray(starts, dtype=np.uint8) for _, starts in encoded],
            "bytes": [len(text.encode()) for text in texts],
            "document": [number for number, row in zip(numbers, rows, strict=True) for _ in row],
        }

    width = "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"
    scratch = directory / "scratch"
    columns = Features({"text": Value("string"), "pair": Value("string")})
    place = f"the {split} split of {type(corpus).__name__}"
    try:
        text = Dataset.from_generator(texts, cache_dir=str(scratch), features=columns, fingerprint=fingerprint(split))
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None  # what the corpus had to say
    if not len(text):
        raise UserError(f"{place} is empty: give it more documents")
    processes = min(os.cpu_count() or 1, max(1, len(text) // 10_000))
    tokens = text.map(
        tokenize,
        batched=True,
        with_indices=True,
        num_proc=processes if processes > 1 else None,
        remove_columns=["text", "pair"],
        features=Features(
            {
                "input_ids": List(Value(width)),
                "starts_word": List(Value("uint8")),
                "bytes": Value("int64"),
                "document": Value("uint32"),
            }
        ),
        new_fingerprint=fingerprint("tokens", split),
        desc=f"Tokenizing {split}",
    )
    if not len(tokens):
        raise maker.nothing(place)
    total = sum(
        int(chunk.offsets[-1].as_py() - chunk.offsets[0].as_py()) for chunk in _chunks(tokens.data["input_ids"])
    )
    frame = len(tokenizer.prefix) + len(tokenizer.suffix)
    statistics = TextStatistics(
        documents=len(tokens), tokens=total - frame * len(tokens), bytes=sum(tokens.data["bytes"].to_pylist())
    )
    if not statistics.tokens:
        raise UserError(f"{place} has no text: give it more documents")
    np.save(directory / "documents.npy", tokens.data["document"].to_numpy())
    tokens.remove_columns(["bytes", "document"]).save_to_disk(str(directory / "tokens"))
    (directory / "statistics.json").write_text(json.dumps(asdict(statistics) | {"digest": _digest(tokens.data)}))
    shutil.rmtree(scratch)


def _digest(table: Any) -> str:
    """That of a table's content, however it is cut into chunks."""
    digest = xxhash.xxh3_128()
    for name in ("input_ids", "starts_word"):
        for chunk in _chunks(table[name]):
            offsets = chunk.offsets.to_numpy()
            digest.update(np.ascontiguousarray(chunk.values.to_numpy()[offsets[0] : offsets[-1]]))
    for chunk in _chunks(table["input_ids"]):
        digest.update(np.diff(chunk.offsets.to_numpy()).astype(np.int64))
    digest.update(np.ascontiguousarray(table["document"].to_numpy()))
    return digest.hexdigest()


def _chunks(column: Any) -> list[Any]:
    """The non-empty Arrow arrays of a column."""
    return [chunk for chunk in column.chunks if len(chunk)]
