"""The parts of a labelled corpus, one after the other: a stream of domains or of new classes."""

import hashlib
import sys
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_nlp.corpora import Corpus
from ssl_nlp.corpora.base import Split
from ssl_nlp.data import trainer_state as state
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.batch_maker import Rows
from ssl_nlp.data.datamodule import TextDataModule
from ssl_nlp.data.few_labels import SomeRows
from ssl_nlp.data.parts import (
    Numbers,
    PartSampler,
    Phase,
    check_parts,
    memory_of,
    names_of_parts,
    part_column,
)
from ssl_nlp.data.units import Sentences
from ssl_nlp.errors import UserError, refuse


class ContinualDataModule(TextDataModule):
    """Batches of one part of a corpus after the other, as one long epoch.

    A part is what the documents have in common in the corpus's `part` field: a domain, a topic, a year. The classes of all
    parts are known beforehand, so that a task has one head for all of them. Validation and test read the documents of all
    parts, each batch of one part.

    Args:
        corpus: where the text comes from. No text of its valid and test splits is in the train split of any part.
        parts: the parts in the order of training; others are left out. null takes all, in the order of their first
            documents. A number deals the classes out to so many parts, in the order of the classes, for corpora without
            a part field.
        steps_per_part: steps of the optimizer on each part.
        epochs_per_part: passes over each part, instead of steps; by default one.
        replay: the share of the training rows of each part that is kept in memory, drawn with the seed, and mixed into
            every pass over each later part.
        joint: train on all parts at once, for as many steps as one after the other: the upper bound.
        restart_schedule: let the learning rate follow its schedule, warm-up included, anew in each part.
        settings: those of `TextDataModule`.

    Attributes:
        ends: for each part, the number of batches of a rank after which its training ends; of `joint`, one for all parts.
            Known after `setup`.
    """

    ends: list[int]

    def __init__(
        self,
        corpus: Corpus,
        parts: int | list[str] | None = None,
        steps_per_part: int | None = None,
        epochs_per_part: int | None = None,
        replay: float = 0.0,
        joint: bool = False,
        restart_schedule: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(corpus, **settings)
        problems = {
            f"data.parts {parts}: deal the classes out to two parts or more": isinstance(parts, int) and parts < 2,
            "data.parts as a number deals out classes: set data.labels to class": (
                isinstance(parts, int) and self.labels != "class"
            ),
            f"data.steps_per_part must be 1 or more, not {steps_per_part}": (steps_per_part or 1) < 1,
            f"data.epochs_per_part must be 1 or more, not {epochs_per_part}": (epochs_per_part or 1) < 1,
            "data.steps_per_part and data.epochs_per_part contradict each other: set one of them": (
                steps_per_part is not None and epochs_per_part is not None
            ),
            f"data.replay must be a share from 0 to 1, not {replay}": not 0 <= replay <= 1,
            "data.joint trains on all parts at once, so that there is nothing to replay: leave data.replay out": (
                joint and replay > 0
            ),
            f"data.unit {self.maker.kind}: its rows may hold documents of several parts: set it to text": (
                not isinstance(self.maker, Sentences)
            ),
            "a stream from the hub cannot be divided into parts: leave `streaming` out": self._streams(),
        }
        refuse(problems)
        self.parts, self.steps_per_part, self.epochs_per_part = parts, steps_per_part, epochs_per_part
        self.replay, self.joint, self.restart_schedule = replay, joint, restart_schedule
        self._columns: dict[Split, list[str]] = {}
        self._numbers: dict[Split, Numbers] = {}

    # ------------------------------------------------------------------------------------------------------------- parts

    @cached_property
    def part_names(self) -> list[str]:
        """The parts in the order of training.

        Raises:
            UserError: the corpus has no parts, or one only, or lacks one of those that were asked for.
        """
        wanted = self.parts
        if isinstance(wanted, int):
            if wanted > (classes := len(self.class_names)):
                raise UserError(f"data.parts {wanted}: there are {classes} classes to deal out: use a smaller number")
            wanted = [str(number + 1) for number in range(wanted)]
        return names_of_parts(self._column("train"), wanted, f"the train split of {self.corpus}")

    def parts_of(self, split: Split) -> Numbers:
        """(documents,) int64: the number of the part of each document of a split; -1 if it is in none of them.

        Raises:
            UserError: as `part_names`; or a part has no documents in this split, or an unknown one has.
        """
        if split not in self._numbers:
            column = self._column(split)
            check_parts(column, self.part_names, isinstance(self.parts, list), f"the {split} split of {self.corpus}")
            numbers = {name: number for number, name in enumerate(self.part_names)}
            self._numbers[split] = np.array([numbers.get(name, -1) for name in column], dtype=np.int64)
        return self._numbers[split]

    def _column(self, split: Split) -> list[str]:
        if split not in self._columns:
            dealt = self.parts if isinstance(self.parts, int) else 0
            self._columns[split] = part_column(self.corpus, split, self.class_names if dealt else None, dealt)
        return self._columns[split]

    def rows_of_parts(self, split: Split) -> list[Numbers]:
        """For each part, the numbers of its rows."""
        assert isinstance(self.maker, Sentences)
        documents = np.asarray(self.store(split).documents[:: self.maker.texts_of_item], dtype=np.int64)
        rows_read = self.rows(split)
        if isinstance(rows_read, SomeRows):
            documents = documents[list(rows_read.chosen)]
        parts = self.parts_of(split)[documents]
        rows = [np.flatnonzero(parts == number) for number in range(len(self.part_names))]
        if empty := [name for name, own in zip(self.part_names, rows, strict=True) if not len(own)]:
            raise UserError(f"the part {empty[0]!r} of the {split} split of {self.corpus} has no text: give it some")
        return rows

    def examples(self, part: int, number: int, seed: int) -> list[TokenBatch]:
        """Training rows of a part, drawn with a seed, as batches of one row each."""
        rows = self.rows_of_parts("train")[part]
        drawn = np.random.default_rng([seed, part]).permutation(rows)[:number]
        source = self.rows("train")
        return [source[[int(row)]] for row in drawn]

    # ---------------------------------------------------------------------------------------------------------- training

    @property
    def restarts(self) -> list[int]:
        """The steps of the optimizer after which its schedule begins anew."""
        accumulated = state.accumulated_batches(self.trainer)
        return [end // accumulated for end in self.ends] if self.restart_schedule else []

    @property
    def finished_part(self) -> int | None:
        """The number of the part whose last batch was the last one; None in the middle of a part."""
        done = state.batches_done(self.trainer)
        return self.ends.index(done) if done in self.ends else None

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer is not None:
            self.parts_of("valid")  # raises errors before the training
            left_out = self._column("train").count("")
            if left_out and state.rank_and_ranks(self.trainer)[0] == 0:
                of = f"{left_out:,} of {len(self._column('train')):,} documents of the train split"
                print(f"note: {of} have no part and are left out", file=sys.stderr, flush=True)
            self.ends = self._train_sampler().ends
            state.check_single_pass(self.trainer, self.ends[-1], "data.steps_per_part or data.epochs_per_part")

    def _sampler(self, split: Split, rows: Rows) -> PartSampler:
        return self._train_sampler() if split == "train" else self._in_turn(split)

    def _in_turn(self, split: Split) -> PartSampler:
        """Each row of a split once, one part after the other."""
        parts = [(rows, self._part_sampler(split, rows)) for rows in self.rows_of_parts(split)]
        return PartSampler([Phase(rows, sampler, len(sampler)) for rows, sampler in parts])

    def _train_sampler(self) -> PartSampler:
        parts = self.rows_of_parts("train")
        memory: list[Numbers] = []
        phases: list[Phase] = []
        for number, own in enumerate(parts):
            rows = np.concatenate([own, *memory])
            sampler = self._part_sampler("train", rows)
            phases.append(Phase(rows, sampler, self._batches_of_part(len(sampler))))
            if self.replay:
                memory.append(memory_of(own, self.replay, self._seed(), number))
        if self.joint:
            rows = np.concatenate(parts)
            batches = sum(phase.batches for phase in phases)
            phases = [Phase(rows, self._part_sampler("train", rows), batches)]
        return PartSampler(phases)

    def _part_sampler(self, split: Split, rows: Numbers) -> Any:
        sizes: npt.NDArray[np.int64] | None = self._sizes(split)
        return self._batches(split, len(rows), None if sizes is None else sizes[rows])

    def _sizes(self, split: Split) -> npt.NDArray[np.int64] | None:
        return self.rows(split).sizes

    def _batches_of_part(self, epoch: int) -> int:
        """The number of batches of a part whose epoch has `epoch` batches: a step never spans two parts."""
        accumulated = state.accumulated_batches(self.trainer)
        if self.steps_per_part is not None:
            return self.steps_per_part * accumulated
        return -(-(self.epochs_per_part or 1) * epoch // accumulated) * accumulated

    # ------------------------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """As that of `TextDataModule`, with the parts."""
        return super().state_dict() | {"parts": self.part_names, "parts_digest": self._parts_digest()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume where `state_dict` was taken.

        Raises:
            UserError: the text or its parts have changed.
        """
        super().load_state_dict(state_dict)
        if state.stage_of(self.trainer) == "fit" and state_dict.get("parts_digest") != self._parts_digest():
            raise UserError(
                f"the parts of {self.corpus} have changed since the run was trained on them (then "
                f"{', '.join(state_dict.get('parts', ['none']))}): restore them, or train a new run"
            )

    def _parts_digest(self) -> str:
        return hashlib.sha256(self.parts_of("train").tobytes()).hexdigest()
