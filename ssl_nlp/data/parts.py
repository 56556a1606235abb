"""The parts of a corpus, such as domains or topics: which document belongs to which, and batches of one after the other."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ssl_nlp.corpora.base import Corpus, Split
from ssl_nlp.data.sampler import BatchSampler, ResumableSampler
from ssl_nlp.errors import UserError

Numbers = npt.NDArray[np.int64]


def part_column(corpus: Corpus, split: Split, class_names: Sequence[str] | None = None, parts: int = 0) -> list[str]:
    """The name of the part of each document of a split; "" for documents without one.

    Args:
        corpus: the corpus.
        split: one of its splits.
        class_names: all classes, if they are dealt out to parts, each part the next few of them.
        parts: to how many.
    """
    if class_names is None:
        return [document.part or "" for document in corpus.documents(split)]
    groups = np.array_split(np.array(class_names, dtype=object), parts)
    part_of = {name: str(number) for number, group in enumerate(groups, start=1) for name in group}
    return [part_of.get(str(document.label), "") for document in corpus.documents(split)]


def names_of_parts(column: Sequence[str], wanted: Sequence[str] | None, place: str) -> list[str]:
    """The parts of a training split in the order of their first documents, or those that are wanted, in their order.

    Raises:
        UserError: there are none, or fewer than two, or a wanted one is missing.
    """
    there = [name for name in dict.fromkeys(column) if name]
    if not there:
        raise UserError(
            f"no document of {place} has a part: name the field that holds it in the corpus's `part`, or deal out the "
            "classes with a number in data.parts"
        )
    for name in wanted or ():
        if name not in there:
            raise UserError(f"data.parts: {name!r} is not among the parts of {place}: choose from {', '.join(there)}")
    names = list(dict.fromkeys(wanted)) if wanted else there
    if len(names) < 2:
        raise UserError(
            f"{place} has one part only, {names[0]!r}: a stream needs two or more; to train on one, take "
            "ssl_nlp.data.TextDataModule"
        )
    return names


def check_parts(column: Sequence[str], names: Sequence[str], left_out: bool, place: str) -> None:
    """Check that a split measures all parts.

    Args:
        column: the part of each document of the split.
        names: the parts that are trained on.
        left_out: whether documents of other parts are left out, rather than refused.
        place: the split, for messages.

    Raises:
        UserError: a part has no documents here, or one occurs that is not trained on.
    """
    there = [name for name in dict.fromkeys(column) if name]
    if missing := [name for name in names if name not in there]:
        raise UserError(
            f"{place} has no document of the part {missing[0]!r}, whose score would be unknown: give it some, or leave the "
            "part out of data.parts"
        )
    if not left_out and (unknown := [name for name in there if name not in names]):
        raise UserError(
            f"{place} has the part {unknown[0]!r}, which the train split does not have: give it documents there, or list "
            "the parts in data.parts"
        )


def memory_of(rows: Numbers, share: float, seed: int, part: int) -> Numbers:
    """The rows of a part that are kept to be replayed: a share of them, at least one, drawn without replacement."""
    number = max(1, round(share * len(rows))) if share else 0
    drawn: Numbers = np.random.default_rng([seed, part]).permutation(rows)[:number]
    return drawn


class Phase(NamedTuple):
    """The training on one part.

    Attributes:
        rows: of the part, and those of earlier parts that are replayed.
        sampler: of as many rows.
        batches: on each rank; several passes over the rows, or less than one.
    """

    rows: Numbers
    sampler: BatchSampler
    batches: int


class PartSampler(ResumableSampler):
    """Batches of one phase after the other, in one long epoch. Which they are depends on the seed and the place alone."""

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = phases
        self.ends = list(accumulate(phase.batches for phase in phases))

    def __len__(self) -> int:
        return self.ends[-1]

    def __iter__(self) -> Iterator[list[int]]:
        for phase, end in zip(self.phases, self.ends, strict=True):
            skipped = max(self.position - (end - phase.batches), 0)
            sampler = phase.sampler
            epoch, left = skipped // len(sampler), phase.batches - skipped
            sampler.epoch, sampler.position = epoch, skipped % len(sampler)
            while left > 0:
                for batch in islice(sampler, left):
                    yield phase.rows[batch].tolist()
                    left -= 1
                epoch += 1
                sampler.epoch, sampler.position = epoch, 0
