"""A corpus of the user's own files."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ssl_nlp.cache import fingerprint
from ssl_nlp.corpora.base import Document, Split
from ssl_nlp.corpora.parallel import file_of_pairs
from ssl_nlp.corpora.readers import DocumentUnit, Fields, Format, read_file
from ssl_nlp.corpora.splits import SplitCorpus
from ssl_nlp.errors import UserError


class TextFiles(SplitCorpus):
    """Plain text, `.jsonl`, `.csv`, `.tsv`, `.parquet`, `.conll` and `.json` (SQuAD) files, each also with `.gz`.

    Text is UTF-8. CSV and TSV have a header unless fields are given by number; quotes mean something in CSV only. CoNLL
    files have a word a line and a blank line between sentences. In SQuAD's format the context is the text, the question
    its pair and the answers the label. Blank texts are left out, and no text occurs twice over all splits, unless it has
    tags or spans: it stays in test, else in valid, else in train.

    Args:
        train: path or glob (`**` for any depth), or several. Relative ones start at the working directory. The files of
            a glob are read in the order of their names.
        valid: share of the texts of `train` (chosen by a hash of the text), or path or glob of files.
        test: the same, or null for a corpus without test split, whose `documents("test")` is an error.
        unit: a document of plain text: a file, a line, or a paragraph (between blank lines). In all other formats a
            document is a record.
        text: name of the field that holds the text, or its number from 0 in csv and tsv files without header. Of conll
            files, the number of the column that holds the words, from the end if it is negative.
        label: name or number of the field that holds a label, if there is one; of conll files, the column of the tags.
        pair: name or number of the field that holds a text that belongs to the first: a translation, another caption. Of
            plain text by the line, the ending of the file whose lines belong to these: `.de` for `train.de` beside
            `train.en`.
        label_separator: what separates the labels of a text that has several, such as `|`; a list of them in jsonl needs
            none.
        part: name or number of the field that holds the part of the corpus that a document comes from, such as its
            domain (`ContinualDataModule`).
        format: `text`, `jsonl`, `csv`, `tsv`, `parquet`, `conll` or `squad`, whatever the files' ending; null goes by the
            ending.
    """

    def __init__(
        self,
        train: str | list[str],
        valid: float | str | list[str] = 0.05,
        test: float | str | list[str] | None = 0.05,
        unit: DocumentUnit = "file",
        text: int | str = "text",
        label: int | str | None = None,
        pair: int | str | None = None,
        format: Format | None = None,
        label_separator: str | None = None,
        part: int | str | None = None,
    ) -> None:
        super().__init__(_share(valid), _share(test), paired=pair is not None)
        self.patterns: dict[Split, str | list[str]] = {"train": train}
        for split, given in (("valid", valid), ("test", test)):
            if isinstance(given, str | list):
                self.patterns[split] = given  # type: ignore[index]  # the two names are splits
        fields = Fields(text, label, pair, label_separator or None, part)
        self.unit, self.format, self.fields = unit, format, fields

    def __str__(self) -> str:
        return f"TextFiles({self.patterns['train']})"

    def has(self, split: Split) -> bool:
        return split in self.patterns or split in self.shares

    def files(self, split: Split) -> list[Path]:
        """The files that were given for `split`, each once.

        Raises:
            UserError: a path or glob matches no file.
        """
        return find_files(self.patterns[split])

    def _all_files(self, split: Split) -> list[Path]:
        """The files of `split` and those that hold their pairs."""
        files = self.files(split)
        pairs = [file_of_pairs(path, self.fields.pair) for path in files]
        return [*files, *(path for path in pairs if path is not None and path.exists())]

    def read(self, split: Split) -> Iterator[Document]:
        for path in self.files(split):
            yield from read_file(path, self.format, self.unit, self.fields)

    def fingerprint(self) -> str:
        stamps = {split: file_stamps(self._all_files(split)) for split in self.patterns}
        settings = [self.shares, self.unit, self.format, self.fields.fingerprint()]
        return fingerprint("TextFiles", settings, stamps)


def find_files(patterns: str | list[str]) -> list[Path]:
    """The files that paths and globs name, in the order of the list, sorted within a glob, each once.

    Raises:
        UserError: a path or glob matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = Path(pattern).expanduser()
        matches = [path] if path.is_file() else [Path(match) for match in _glob(path)]
        files = sorted(match for match in matches if match.is_file())
        if not files:
            remedy = f"name its files, as in {path / '*.txt'}" if path.is_dir() else "check the path"
            raise UserError(f"no file matches {pattern!r} (working directory {Path.cwd()}): {remedy}")
        found.update(dict.fromkeys(files))
    if not found:
        raise UserError("a split has no files: give at least one path")
    return list(found)


def _glob(path: Path) -> list[str]:
    """The paths that a glob matches.

    Its beginning is taken literally as far as such folders exist, and so are brackets that match nothing.
    """
    there = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    while parts and (there / parts[0]).is_dir() and len(parts) > 1:
        there, parts = there / parts[0], parts[1:]
    rest = str(Path(*parts))
    for pattern in (rest, rest.replace("[", "[[]")):
        if found := glob.glob(str(Path(glob.escape(str(there))) / pattern), recursive=True):
            return found
    return []


def file_stamps(files: Iterable[Path]) -> list[Any]:
    """Absolute path, size in bytes and time of change in nanoseconds: a changed file differs in one of them."""
    return [[str(file.resolve()), (status := file.stat()).st_size, status.st_mtime_ns] for file in files]


def _share(given: float | str | list[str] | None) -> float | None:
    return float(given) if isinstance(given, int | float) else None
