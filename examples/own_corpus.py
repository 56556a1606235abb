"""A corpus in a file of its own: the comments of Python's standard library."""

import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from ssl_nlp.cache import fingerprint
from ssl_nlp.corpora import Document, Split, SplitCorpus


class Comments(SplitCorpus):
    """One document per module: its comments, one a line. A hash of the text decides between train, valid and test.

    Args:
        modules: number of modules to read.
    """

    def __init__(self, modules: int = 200) -> None:
        super().__init__(valid=0.1, test=0.1)
        self.modules = modules

    def paths(self) -> list[Path]:
        """The modules, in an order that never changes."""
        return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[: self.modules]

    def read(self, split: Split) -> Iterator[Document]:
        for path in self.paths():
            with tokenize.open(path) as file:
                tokens = list(tokenize.generate_tokens(file.readline))
            comments = [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]
            yield Document("\n".join(comment for comment in comments if comment))

    def fingerprint(self) -> str:
        return fingerprint("Comments", [[path.name, path.stat().st_size] for path in self.paths()])
