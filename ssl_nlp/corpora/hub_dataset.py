"""A corpus from the Hugging Face hub, or from a local directory in one of its formats."""

import glob
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_nlp.cache import build_once, cache_dir, fingerprint
from ssl_nlp.corpora.base import Document, Split
from ssl_nlp.corpora.readers import Fields
from ssl_nlp.corpora.splits import SplitCorpus
from ssl_nlp.corpora.streaming import DocumentStream, read_batches, telling
from ssl_nlp.corpora.text_files import file_stamps
from ssl_nlp.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

BATCH = 1000  # records that are decoded at a time
SAVED_SHARDS = 64  # parts that a stream makes of a directory of `save_to_disk`, for readers to share


class HubDataset(SplitCorpus):
    """A data set that `datasets.load_dataset` loads by name or path, or that `save_to_disk` wrote.

    Without streaming, `datasets` prepares the data on disk once (in its own cache or, for local files, in this project's),
    and no text occurs twice over all splits: it stays in test, else in valid, else in train.

    With `streaming: true` nothing is stored. Valid and test are then the first `max_eval_documents` of their splits,
    and training documents come from `stream`. Texts of valid and test are kept out of train as strictly as before; that
    train itself has no repeated text cannot be promised: it would take a memory of all of them.

    A dataset on the hub is taken to be constant: name a `revision` to be sure, and another one to notice a change.

    Args:
        path: name on the hub, local directory, or a format of `load_dataset` (`json`, `csv`, ...) with `data_files`.
        name: configuration of the dataset, if it has several.
        train: name of the training split; `load_dataset` also knows slices such as `train[:10%]` (not streaming).
        valid: name of the split, or share of the texts of `train`, chosen by a hash of the text.
        test: the same, or null for a corpus without test split, whose `documents("test")` is an error.
        text: name of the column that holds the text, or a list of its words.
        label: name of the column that holds a label, if there is one: a class, a score, a list with a tag for each word, or
            the answers of SQuAD's data sets (`text: context, pair: question, label: answers`). Class numbers become the
            names of the classes.
        pair: name of the column that holds a text that belongs to the first: a translation, another caption.
        part: name of the column that holds the part of the data set that a document comes from, such as its domain.
        data_files: files or globs, for all splits or by split, as `load_dataset` takes them.
        revision: commit, tag or branch on the hub.
        streaming: read while training instead of preparing everything first.
        max_eval_documents: documents in valid, and in test, when streaming.
        window: documents that are shuffled together when streaming.
    """

    def __init__(
        self,
        path: str,
        name: str | None = None,
        train: str = "train",
        valid: float | str = 0.05,
        test: float | str | None = 0.05,
        text: str = "text",
        label: str | None = None,
        pair: str | None = None,
        data_files: str | list[str] | dict[str, str | list[str]] | None = None,
        revision: str | None = None,
        streaming: bool = False,
        max_eval_documents: int = 2000,
        window: int = 1000,
        part: str | None = None,
    ) -> None:
        valid_share, test_share = (None if isinstance(given, str) else given for given in (valid, test))
        super().__init__(valid_share, test_share, paired=pair is not None)
        names: dict[Split, str | None] = {"train": train}
        names |= {"valid": valid if isinstance(valid, str) else None, "test": test if isinstance(test, str) else None}
        self.names: dict[Split, str] = {split: given for split, given in names.items() if given is not None}
        self.path, self.name, self.data_files, self.revision = path, name, data_files, revision
        self.fields = Fields(text, label, pair, part=part)
        self.streaming, self.max_eval_documents, self.window = streaming, max_eval_documents, window
        for argument, value in (("max_eval_documents", max_eval_documents), ("window", window)):
            if value < 1:
                raise UserError(f"`{argument}: {value}` of {self}: must be at least 1")

    def __str__(self) -> str:
        return f"HubDataset({self.path})"

    def has(self, split: Split) -> bool:
        return split in self.names or split in self.shares

    def documents(self, split: Split) -> Iterator[Document]:
        if not self.streaming:
            yield from super().documents(split)
        elif split != "train":
            yield from islice(super().documents(split), self.max_eval_documents)
        else:
            held_out = self.held_out("train")
            yield from (document for digests, document in self.digested("train") if held_out.isdisjoint(digests))

    def stream(self, rank: int, ranks: int, epoch: int = 0, seed: int = 0) -> DocumentStream:
        """Reader `rank` of the `ranks` that share one epoch of the training documents; see `DocumentStream`.

        Raises:
            UserError: `streaming` is false, or one of the errors of `documents`.
        """
        if not self.streaming:
            raise UserError(f"{self} is not streaming: set `streaming: true`")
        source = self._load("train")
        held_out = self.held_out("train")
        class_names = self._class_names(source)

        def to_train(record: dict[str, Any]) -> Document | None:
            document = self._to_document(record, class_names)
            if not document.text or document.text.isspace():
                return None
            digests = self.digests_of(document)
            return document if self.part_of_train(digests[0]) == "train" and held_out.isdisjoint(digests) else None

        return DocumentStream(source, to_train, str(self), rank, ranks, epoch, seed, self.window)

    def read(self, split: Split) -> Iterator[Document]:
        source = self._load(split)
        class_names = self._class_names(source)
        for records in read_batches(source, BATCH, str(self)):
            yield from (self._to_document(record, class_names) for record in records)

    def fingerprint(self) -> str:
        source = [self.path, self.name, self.data_files, self.revision, file_stamps(self._local_files())]
        settings = [self.shares, self.names, self.fields.fingerprint()]
        streaming = [self.max_eval_documents, self.window] if self.streaming else None
        return fingerprint("HubDataset", source, settings, streaming)

    def _load(self, split: Split) -> Any:
        """The `Dataset` of a split, or its `IterableDataset` when streaming, with no more columns than are needed."""
        import datasets

        name, root = self.names[split], Path(self.path).expanduser()
        local = bool(self._local_files())
        if not local and (root.is_dir() or self.path.startswith((".", "/", "~"))):
            raise UserError(f"{self}: no such directory, or nothing in it: check `path`")
        with telling(str(self)):
            if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
                source = self._load_saved(root, name)
            else:
                load = partial(
                    datasets.load_dataset,
                    str(root) if root.is_dir() else self.path,
                    self.name,
                    split=name,
                    data_files=self.data_files,
                    revision=self.revision,
                    streaming=self.streaming,
                )
                if local:
                    cache = cache_dir() / "datasets" if self.streaming else self._prepare(load)
                source = load(cache_dir=str(cache) if local else None)
        if source.column_names is None:  # a stream may learn its columns from its first record only
            return source
        self.fields.check(f"{self}, split {name!r},", source.column_names)
        return source.select_columns(self.fields.given)

    def _prepare(self, load: Callable[..., Any]) -> Path:
        """The directory in which `datasets` keeps local files as it reads them; it does not check for damage itself."""
        key = fingerprint("HubDataset", self.path, self.name, self.data_files, file_stamps(self._local_files()))
        return build_once(cache_dir() / "datasets" / key, lambda directory: load(cache_dir=str(directory)))

    def _load_saved(self, root: Path, name: str) -> "Dataset | IterableDataset":
        """A split of a directory of `save_to_disk`. A single data set that was saved there is called train."""
        import datasets

        saved = datasets.load_from_disk(str(root))
        splits = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
        if name not in splits:
            raise UserError(f"{self} has no split {name!r}: choose one of {', '.join(map(repr, splits))}")
        if not self.streaming:
            return splits[name]
        return splits[name].to_iterable_dataset(num_shards=max(1, min(SAVED_SHARDS, len(splits[name]))))

    def _local_files(self) -> list[Path]:
        """The files of a local data set, sorted; none for one on the hub."""
        root = Path(self.path).expanduser()
        if root.is_dir():
            return sorted(path for path in root.rglob("*") if path.is_file())
        given = self.data_files or []
        groups = list(given.values()) if isinstance(given, dict) else [given]
        patterns = [pattern for group in groups for pattern in ([group] if isinstance(group, str) else group)]
        return sorted(Path(match) for pattern in patterns for match in glob.glob(pattern, recursive=True))

    def _class_names(self, source: Any) -> list[str] | None:
        """The names of the classes, if the label column holds their numbers, or a list of them for each text."""
        import datasets

        feature = (source.features or {}).get(self.fields.label)
        if isinstance(feature, datasets.List | datasets.LargeList):
            feature = feature.feature
        return feature.names if isinstance(feature, datasets.ClassLabel) else None

    def _to_document(self, record: dict[Any, Any], class_names: list[str] | None) -> Document:
        self.fields.check(str(self), record)
        number = record.get(self.fields.label)
        if class_names is not None and isinstance(number, list):
            names = [None if tag is None or tag < 0 else class_names[tag] for tag in number]
            record = record | {self.fields.label: names}
        elif class_names is not None and number is not None:  # -1 stands for no label
            record = record | {self.fields.label: class_names[number] if number >= 0 else None}
        return self.fields.document(str(self), record)


def configurations(path: str) -> list[str]:
    """The names of the configurations of a data set on the hub, or of a local directory.

    Raises:
        UserError: as `HubDataset.documents`.
    """
    import datasets

    root = Path(path).expanduser()
    with telling(f"HubDataset({path})"):
        return [str(name) for name in datasets.get_dataset_config_names(str(root) if root.is_dir() else path)]
