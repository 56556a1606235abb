"""The classes of the training rows: how many there are of each, and training on few of each."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ssl_nlp.data.batch import IGNORE_INDEX, TokenBatch
from ssl_nlp.data.batch_maker import Rows
from ssl_nlp.data.store import TokenStore


def few_of_each_class(rows: Rows, store: TokenStore, per_class: int, seed: int) -> "SomeRows":
    """The rows of the documents that come first among those of a class, in an order that only the seed decides.

    They are the same for every tokenizer, model and training, and 32 of each class are among 64 of it. A class with fewer
    documents has all of them. A document of several classes counts for each, and is taken if one of them needs it.

    Args:
        rows: all rows of a split.
        store: which holds their labels, of the kind `class` or `classes`.
        per_class: documents of each class.
        seed: of the order.
    """
    texts = _texts_of_row(rows, store)
    documents = store.documents[::texts].tolist()
    rank = np.random.default_rng(seed).random(max(documents) + 1)
    taken: dict[int, int] = {}
    few: set[int] = set()
    first = {document: item for item, document in reversed(list(enumerate(documents)))}
    for document in sorted(first, key=lambda number: float(rank[number])):
        classes = [number for number in store.label(first[document] * texts).tolist() if number >= 0]
        if any(taken.get(number, 0) < per_class for number in classes):
            few.add(document)
            for number in classes:
                taken[number] = taken.get(number, 0) + 1
    return SomeRows(rows, [item for item, document in enumerate(documents) if document in few])


def class_counts(rows: Rows, store: TokenStore) -> tuple[npt.NDArray[np.int64], int]:
    """The number of rows of each class, (C,) int64, and of those with any label.

    Args:
        rows: those to count.
        store: which holds their labels, of the kind `class` or `classes`.
    """
    assert store.labels is not None
    texts = _texts_of_row(rows, store)
    chosen = rows.chosen if isinstance(rows, SomeRows) else range(len(rows))
    labels = [store.label(item * texts) for item in chosen]
    known = [label for label in labels if IGNORE_INDEX not in label]
    counts = np.bincount(np.concatenate([np.empty(0, np.int64), *known]), minlength=len(store.labels.class_names or ()))
    return counts, len(known)


def _texts_of_row(rows: Rows, store: TokenStore) -> int:
    """The number of texts of a store that make a row: one, or two of a pair."""
    return len(store.documents) // (len(rows.all) if isinstance(rows, SomeRows) else len(rows))


class SomeRows:
    """Some of the rows of a split, as `Rows`.

    Args:
        rows: all of them.
        chosen: (n,) the numbers of those to keep.
    """

    def __init__(self, rows: Rows, chosen: Sequence[int]) -> None:
        self.all, self.chosen = rows, chosen

    @property
    def sizes(self) -> npt.NDArray[np.int64] | None:
        """(n,) as those of all rows."""
        return None if self.all.sizes is None else self.all.sizes[list(self.chosen)]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, rows: Sequence[int]) -> TokenBatch:
        return self.all[[self.chosen[row] for row in rows]]
