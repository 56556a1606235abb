"""How much of an evaluation's items stands in the text that a model has read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_nlp.commands.learned_baselines import LearnedTexts
from ssl_nlp.evaluation import Result, Suite
from ssl_nlp.evaluation.overlap import TrainingText
from ssl_nlp.evaluation.result import OVERLAP_WITH, Array
from ssl_nlp.evaluation.run import evaluator_of


@dataclass(frozen=True)
class ReadText:
    """The text that a model has read, to look for items in it.

    Attributes:
        known: its 8-grams.
        part: which part of it was looked at, if not all.
    """

    known: TrainingText
    part: str | None

    @classmethod
    def of(cls, read: LearnedTexts, more: Sequence[str] = ()) -> "ReadText":
        """The text that a model was trained on, and more texts that count as read."""
        texts = [*more, *read.texts]
        known = TrainingText.of(texts)
        whole = not read.cut and known.texts == len(texts)
        part = "texts" if whole else f"first {known.texts:,} texts"
        if read.unknown:
            part += f" without those of {', '.join(read.unknown)}"
        return cls(known, None if whole and not read.unknown else part)

    def shares(self, items: Sequence[tuple[str, ...]]) -> Array:
        """(N,): the share of the words of each item, given as its texts, that this text covers."""
        return np.array([self.known.overlap(texts) for texts in items], dtype=np.float32)

    def added(self, result: Result, shares: Array) -> Result:
        """A result with the overlap of its items, which are the first of those that have these `shares`."""
        if result.items is None or len(shares) < len(result.items):
            return result
        details = result.details | ({} if self.part is None else {OVERLAP_WITH: self.part})
        return replace(result, details=details, overlap=shares[: len(result.items)])


class Overlaps:
    """The overlap of a suite's items with the training texts of models; texts that several models have read count once.

    Args:
        suite: whose training texts count as read, too, because classifiers learn from them.
    """

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._found: dict[str, tuple[ReadText, dict[str, Array]]] = {}

    def added(self, results: Mapping[str, Result], read: LearnedTexts | None) -> dict[str, Result]:
        """Results of a model, or of a baseline beside it, with the overlap of their items, where it is known.

        Args:
            results: by evaluator, or by PART.EVALUATOR.
            read: the texts that the model was trained on; None: they are not known, and nothing is added.
        """
        if read is None:
            return dict(results)
        key = f"{read.key} {read.unknown}"
        if key not in self._found:
            text = ReadText.of(read, self._suite.train_texts)
            evaluators = self._suite.evaluators.items()
            self._found[key] = text, {name: text.shares(evaluator.item_texts) for name, evaluator in evaluators}
        text, shares = self._found[key]
        evaluators_of = {name: evaluator_of(name, self._suite.evaluators) for name in results}
        none = np.empty(0)  # of an evaluator without texts
        return {name: text.added(result, shares.get(evaluators_of[name], none)) for name, result in results.items()}
