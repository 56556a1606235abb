"""N-gram language models with interpolated modified Kneser-Ney smoothing, counted in sorted arrays.

    p(w | c) = (n(c w) - D(n(c w))) / n(c) + g(c) p(w | c without its first token)

n(c) sums n(c w) over all w, D(0) = 0, and g(c) = sum over w of D(n(c w)) / n(c) is what the discounts D(1), D(2) and
D(3 and more) have taken away. A context that was never seen leaves everything to the shorter one; below the shortest, the
empty one, all tokens are equally likely (Chen and Goodman, "An empirical study of smoothing techniques for language
modeling", Computer Speech and Language 13, 1999, sections 2.7 and 3).

The longest n-grams are counted as often as they occur, shorter ones by the number of distinct tokens before them:
"Francisco" is frequent, but after "San" only. Nothing precedes the start of a text: n-grams there count as often as they
occur, as in KenLM (Heafield et al., "Scalable Modified Kneser-Ney Language Model Estimation", ACL 2013, section 3).

An n-gram is a row of the sorted array of its length. Its key is the row of all its tokens but the last one, times the size
of the vocabulary, plus the last token: whatever their length, n-grams are single int64 numbers, and those that continue one
context stand together.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none, which happens in small texts only: those of KenLM."""


class KneserNey:
    """The probability of each next token, given those before it.

    Args:
        vocab_size: V. Tokens are numbers from 0 to V - 1.
        keys: of the n-grams of 2, 3, ... tokens: (N,) int64, sorted.
        counts: of the n-grams of 1, 2, 3, ... tokens: (V,) and (N,), whole numbers.
        discounts: D(1), D(2) and D(3 and more) for n-grams of 1, 2, ... tokens; None: as the counts say. The same three
            numbers everywhere make it Kneser and Ney's own method; zeros for n-grams of 1 token leave out the equally
            likely tokens.
        ends: as the property; None: looked up when they are needed.

    Raises:
        ValueError: these are not the arrays of such n-grams.
    """

    def __init__(
        self,
        vocab_size: int,
        keys: Sequence[Array],
        counts: Sequence[Array],
        discounts: Sequence[Sequence[float]] | None = None,
        ends: list[Array] | None = None,
    ) -> None:
        _check(vocab_size, keys, counts)
        self.vocab_size, self.keys, self.counts = vocab_size, list(keys), list(counts)
        self.discounts = (
            [estimated_discounts(n) for n in counts] if discounts is None else [tuple(d) for d in discounts]
        )
        self._ends = ends
        self._shares: list[Array] = []  # (n - D(n)) / n(context) of each n-gram, by length
        self._left: list[Array] = []  # g of each context, by length
        contexts = [np.zeros(vocab_size, dtype=np.int64), *(key // vocab_size for key in self.keys)]
        sizes = [1, *map(len, self.counts)]
        for n, taken, context, size in zip(self.counts, self.discounts, contexts, sizes, strict=False):
            discount = np.array([0.0, *taken])[np.minimum(n, 3)]
            total = np.bincount(context, n, minlength=size)
            reserved = np.bincount(context, discount, minlength=size)
            seen = total > 0
            self._left.append(np.divide(reserved, total, out=np.ones(size), where=seen))
            self._shares.append(np.divide(n - discount, total[context], out=np.zeros(len(n)), where=seen[context]))

    @property
    def order(self) -> int:
        """Tokens of the longest n-grams."""
        return len(self.counts)

    @property
    def size(self) -> int:
        """The number of different n-grams that were counted, of all lengths."""
        return int(np.count_nonzero(self.counts[0])) + sum(map(len, self.keys))

    @classmethod
    def fit(
        cls,
        rows: Iterable[Array],
        vocab_size: int,
        order: int,
        discounts: Sequence[Sequence[float]] | None = None,
    ) -> Self:
        """Count the n-grams of up to `order` tokens in rows.

        Args:
            rows: whole numbers (L,). The first token of a row is only a context; every other one is predicted from those
                before it in its row. A text should begin with a start token and end with the token that ends it.
            vocab_size, discounts: as for the class.
            order: 1 or more.
        """
        ids, place = _joined(rows)
        positions = np.flatnonzero(place > 0)
        occurrences = np.bincount(ids[positions], minlength=vocab_size)
        keys: list[Array] = []
        all_ends: list[Array] = []
        counts = [occurrences if order == 1 else np.zeros(vocab_size, dtype=np.int64)]
        node = ids.copy()  # of each position: the n-gram that ends there, as a row of its array
        for length in range(2, order + 1):
            ends = np.flatnonzero(place >= length - 1)
            found = node[ends - 1] * vocab_size + ids[ends]
            sorting = np.argsort(found)
            ordered = found[sorting]
            first = np.flatnonzero(np.diff(ordered, prepend=-1))  # of each distinct n-gram
            rank = np.empty(len(ends), dtype=np.int64)
            rank[sorting] = np.repeat(np.arange(len(first)), np.diff(first, append=len(ordered)))
            # Each distinct n-gram has one token before the shorter n-gram that it ends with.
            shorter = node[ends[sorting[first]]]
            counts[-1] += np.bincount(shorter, minlength=len(counts[-1]))
            all_ends.append(shorter)
            counted = rank if length == order else rank[place[ends] == length - 1]
            counts.append(np.bincount(counted, minlength=len(first)))
            keys.append(ordered[first])
            node[ends] = rank
        return cls(vocab_size, keys, counts, discounts, all_ends)

    def merged(self, other: Self) -> Self:
        """The model of the rows of both, the same as if `fit` had counted them together. Its discounts are estimated.

        Args:
            other: of the same vocabulary and order.
        """
        if not (self.size and other.size):
            return self if self.size else other
        size, models = self.vocab_size, (self, other)
        # Whatever does not follow from longer n-grams can be added up: n-grams at the start of rows, and the longest ones.
        own = [[n - before for n, before in zip(m.counts, [*m._predecessors(), 0], strict=True)] for m in models]
        rows = [np.arange(size)] * 2  # of each n-gram of the two models: its row in the merged array of its length
        keys: list[Array] = []
        counts: list[Array] = []
        ends: list[Array] = []
        for length in range(self.order):
            if length > 0:
                mine = [m.keys[length - 1] for m in models]
                each = [row[key // size] * size + key % size for row, key in zip(rows, mine, strict=True)]
                key, rank = np.unique(np.concatenate(each), return_inverse=True)
                shorter, rows = rows, np.split(rank, [len(each[0])])
                end = np.empty(len(key), dtype=np.int64)
                for row, before, m in zip(rows, shorter, models, strict=True):
                    end[row] = before[m.ends[length - 1]]
                counts[-1] += np.bincount(end, minlength=len(counts[-1]))
                keys.append(key)
                ends.append(end)
            counts.append(np.zeros(len(keys[-1]) if keys else size, dtype=np.int64))
            for row, added in zip(rows, own, strict=True):
                counts[-1][row] += added[length]
        return type(self)(size, keys, counts, ends=ends)

    @property
    def ends(self) -> list[Array]:
        """For n-grams of 2, 3, ... tokens: the row of all tokens but the first, in the array of this length; (N,)."""
        if self._ends is None:
            self._ends = []
            shorter = np.zeros(self.vocab_size, dtype=np.int64)
            for number, key in enumerate(self.keys):
                end = shorter[key // self.vocab_size] * self.vocab_size + key % self.vocab_size
                shorter = _look_up(self.keys[number - 1], end)[0] if number > 0 else end
                self._ends.append(shorter)
        return self._ends

    def _predecessors(self) -> list[Array]:
        """The number of distinct tokens before each n-gram, for n-grams of 1, 2, ... tokens, except the longest."""
        return [np.bincount(end, minlength=len(n)) for end, n in zip(self.ends, self.counts, strict=False)]

    def log_probs(self, *rows: Array) -> Array:
        """Natural logarithms of the probabilities of all tokens but the first of each row, one row after the other.

        Args:
            rows: whole numbers (L,).

        Returns:
            (sum over rows of L - 1,) float64.
        """
        ids, place = _joined(rows)
        probability = self._shares[0][ids] + self._left[0][0] / self.vocab_size
        node = ids.copy()  # of each position: the n-gram that ends there, or -1 if it was never seen
        for length, (keys, shares, left) in enumerate(
            zip(self.keys, self._shares[1:], self._left[1:], strict=True), start=2
        ):
            ends = np.flatnonzero(place >= length - 1)
            ends = ends[node[ends - 1] >= 0]
            context = node[ends - 1]
            row, seen = _look_up(keys, context * self.vocab_size + ids[ends])
            probability[ends] = left[context] * probability[ends]
            probability[ends[seen]] += shares[row[seen]]
            node = np.full(len(ids), -1, dtype=np.int64)
            node[ends[seen]] = row[seen]
        return np.log(probability[place > 0])

    def next_probs(self, context: Array) -> Array:
        """(V,) float64: the probabilities of all tokens after a context (L,), which may be empty."""
        probability = self._shares[0] + self._left[0][0] / self.vocab_size
        for length in range(1, min(len(context), self.order - 1) + 1):
            row = self._row(context[len(context) - length :])
            if row is None:
                break
            keys, shares, left = self.keys[length - 1], self._shares[length], self._left[length]
            start, stop = np.searchsorted(keys, [row * self.vocab_size, (row + 1) * self.vocab_size])
            probability *= left[row]
            probability[keys[start:stop] - row * self.vocab_size] += shares[start:stop]
        return probability

    def _row(self, ngram: Array) -> int | None:
        """The row of an n-gram in the array of its length; None if it was never seen."""
        row = int(ngram[0])
        for keys, token in zip(self.keys, ngram[1:], strict=False):
            found, seen = _look_up(keys, np.array([row * self.vocab_size + int(token)]))
            if not seen[0]:
                return None
            row = int(found[0])
        return row


def estimated_discounts(counts: Array) -> tuple[float, float, float]:
    """D(1), D(2) and D(3 and more) from the numbers of n-grams that are counted once, twice, three and four times.

    Where these give no discount above 0 and up to its count, which happens in small texts only, `FALLBACK`.
    """
    times = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(np.float64)
    if (times[:3] == 0).any():
        return FALLBACK
    y = times[0] / (times[0] + 2 * times[1])
    found = [float(count - (count + 1) * y * times[count] / times[count - 1]) for count in (1, 2, 3)]
    if not all(0 < discount <= count for count, discount in enumerate(found, start=1)):
        return FALLBACK
    return found[0], found[1], found[2]


def _check(vocab_size: int, keys: Sequence[Array], counts: Sequence[Array]) -> None:
    """Check the arrays of a model, which may come from a file of unknown origin.

    Raises:
        ValueError: they are not those of n-grams.
    """
    if [vocab_size, *map(len, keys)] != [*map(len, counts)]:
        raise ValueError("there is not one count for each n-gram")
    for key, shorter in zip(keys, counts, strict=False):  # the longest n-grams begin no others
        if len(key) and not (key[0] >= 0 and (key[1:] > key[:-1]).all() and key[-1] < len(shorter) * vocab_size):
            raise ValueError("its n-grams are not in order")
    if any((n < 0).any() for n in counts):
        raise ValueError("a count is negative")


def _joined(rows: Iterable[Array]) -> tuple[Array, Array]:
    """The tokens of all rows, (N,) int64, and the number of tokens before each of them in its row, (N,)."""
    rows = [np.asarray(row, dtype=np.int64) for row in rows]
    ids = np.concatenate([*rows, np.empty(0, dtype=np.int64)])
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return ids, np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _look_up(keys: Array, wanted: Array) -> tuple[Array, Array]:
    """The row of each wanted key among sorted keys, and whether it is there; the rows of others mean nothing."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return row, keys[row] == wanted
