"""A corpus that needs no download: the documentation of the installed Python packages."""

import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path

from ssl_nlp.cache import build_once, cache_dir, fingerprint
from ssl_nlp.corpora import docstrings
from ssl_nlp.corpora.base import Document, Split
from ssl_nlp.corpora.splits import SplitCorpus
from ssl_nlp.errors import UserError

# Directories of tests, programs and copies of other packages, those that are roots themselves, and the project, whose
# corpus must stay the same while it is worked on.
SKIPPED = {"__pycache__", "test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "ssl_nlp"}
SKIPPED |= {"_vendor", "_vendored", "vendor", "vendored"}
TASK_BYTES = 4_000_000  # parsed by a process at a time: about a second
QUICK_BYTES = 20_000_000  # less than this needs no progress bar


class InstalledDocs(SplitCorpus):
    """Docstrings of the installed packages and of the standard library, as English technical prose.

    They are read from the source files, without importing anything, cleaned by `docstrings.prose`, kept once each, and
    labelled with their top-level package. The extraction is cached under the versions of everything installed, so two
    environments with the same packages and Python have the same corpus, in the same order.

    Args:
        valid: share of the documents that make the valid split, chosen by a hash of the text.
        test: the same for the test split.
        packages: only the documents of so many packages, those that have the most: as classes to learn, small packages
            have too few documents to be in every split. null takes all.
        summaries: only docstrings of several paragraphs. The first one, which sums up the others, becomes their `pair`.

    Raises:
        UserError: packages is below 1.
    """

    def __init__(
        self, valid: float = 0.05, test: float = 0.05, packages: int | None = None, summaries: bool = False
    ) -> None:
        super().__init__(valid, test, paired=summaries)
        if packages is not None and packages < 1:
            raise UserError(f"`packages` must be 1 or more, or null for all, not {packages}")
        self.packages, self.summaries = packages, summaries

    def __str__(self) -> str:
        return "InstalledDocs"

    def read(self, split: Split) -> Iterator[Document]:
        from pyarrow import parquet

        directory = build_once(cache_dir() / "corpora" / f"installed_docs-{self._key()}", extract)
        with parquet.ParquetFile(directory / "documents.parquet") as table:
            sizes = Counter(table.read(["label"])["label"].to_pylist() if self.packages is not None else ())
            largest = {name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[: self.packages]}
            for batch in table.iter_batches(batch_size=1000):
                for text, label in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    if self.packages is not None and label not in largest:
                        continue
                    summary, _, rest = text.partition("\n")
                    if not self.summaries:
                        yield Document(text, label)
                    elif rest:
                        yield Document(rest, label, summary)

    def fingerprint(self) -> str:
        only = ([] if self.packages is None else [self.packages]) + ["summaries"] * self.summaries
        return fingerprint("InstalledDocs", self.shares, self._key(), *only)

    def _key(self) -> str:
        paths = [str(root) for root in source_roots()]
        packages = {f"{package.name}=={package.version}" for package in distributions(path=paths)}
        packages = {package for package in packages if not package.startswith(("ssl-nlp==", "ssl_nlp=="))}
        code = Path(docstrings.__file__).read_text(encoding="utf-8")
        return fingerprint(platform.python_version(), sorted(packages), sorted(SKIPPED), code)


def source_roots() -> list[Path]:
    """The directories of the standard library and of installed packages, in this order."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys(Path(paths[name]).resolve() for name in ("stdlib", "purelib", "platlib")))


def source_files(root: Path) -> Iterator[tuple[Path, str]]:
    """The Python files below `root` and the top-level package of each, sorted."""
    for directory, subdirectories, names in os.walk(root):
        subdirectories[:] = sorted(name for name in subdirectories if name not in SKIPPED)
        for name in sorted(names):
            path = Path(directory, name)
            top = path.relative_to(root).parts[0].removesuffix(".py")
            wanted = name.endswith(".py") and not name.startswith(("test_", "__editable__")) and top not in SKIPPED
            if wanted and path.is_file():  # a link may lead nowhere
                yield path, top


def extract(directory: Path) -> None:
    """Write `documents.parquet` (text, label) of everything installed into `directory`."""
    import pyarrow
    from pyarrow import parquet
    from rich.console import Console
    from rich.progress import Progress

    tasks: list[list[tuple[Path, str]]] = [[]]
    sizes = [0]
    for root in source_roots():
        for path, top in source_files(root):
            if sizes[-1] > TASK_BYTES:
                tasks.append([])
                sizes.append(0)
            tasks[-1].append((path, top))
            sizes[-1] += path.stat().st_size

    labels: dict[str, str] = {}  # by text: of equal texts the first is kept
    bar = Progress(console=Console(stderr=True), transient=True, disable=sum(sizes) < QUICK_BYTES)
    with ThreadPoolExecutor(_cores()) as pool, bar:
        progress = bar.add_task("Reading the installed documentation", total=sum(sizes))
        results = pool.map(lambda task: parse([path for path, _ in task]), tasks)
        for task, size, texts_of_files in zip(tasks, sizes, results, strict=True):  # in the order of the tasks
            for (_, top), texts in zip(task, texts_of_files, strict=True):
                for text in texts:
                    labels.setdefault(text, top)
            bar.advance(progress, size)
    columns = {"text": list(labels), "label": list(labels.values())}
    table = pyarrow.table(columns, schema=pyarrow.schema({name: pyarrow.string() for name in columns}))
    parquet.write_table(table, directory / "documents.parquet", compression="zstd", row_group_size=10_000)


def parse(paths: list[Path]) -> list[list[str]]:
    """The documents of each of the files, parsed in a process of their own.

    A plain subprocess rather than `multiprocessing`: it neither forks threads of the caller nor imports its main
    module, which a script without an `if __name__ == "__main__"` would not survive.
    """
    command = [sys.executable, "-I", "-S", "-W", "ignore", docstrings.__file__]
    names = json.dumps([str(path) for path in paths])
    result = subprocess.run(command, input=names, stdout=subprocess.PIPE, text=True, check=True)
    texts: list[list[str]] = json.loads(result.stdout)
    return texts


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
