"""How much of the items of a suite stands in the text that a model has read."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ssl_nlp.commands.learned_baselines import LearnedTexts
from ssl_nlp.evaluation import Result, Suite
from ssl_nlp.evaluation.overlap import TrainingText
from ssl_nlp.evaluation.result import OVERLAP_WITH, Array
from ssl_nlp.evaluation.run import evaluator_of


class Overlaps:
    """The overlap of a suite's items with the training texts of models; texts that several models have read count once.

    Args:
        suite: whose training texts count as read, too, because classifiers learn from them.
    """

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._found: dict[str, tuple[dict[str, Array], str | None]] = {}

    def added(self, results: Mapping[str, Result], read: LearnedTexts | None) -> dict[str, Result]:
        """Results of a model with the overlap of their items, where it is known.

        Args:
            results: by evaluator, or by PART.EVALUATOR.
            read: the texts that the model was trained on; None: they are not known, and nothing is added.
        """
        if read is None:
            return dict(results)
        if read.key not in self._found:
            texts = [*self._suite.train_texts, *read.texts]
            known = TrainingText.of(texts)
            shares = {
                name: np.array([known.overlap(texts) for texts in evaluator.item_texts], dtype=np.float32)
                for name, evaluator in self._suite.evaluators.items()
            }
            cut = read.cut or known.texts < len(texts)
            self._found[read.key] = shares, f"first {known.texts:,} texts" if cut else None
        shares, part = self._found[read.key]
        names = {name: evaluator_of(name, self._suite.evaluators) for name in results}
        return {name: _with(result, shares.get(names[name]), part) for name, result in results.items()}


def _with(result: Result, shares: Array | None, part: str | None) -> Result:
    if shares is None or result.items is None or len(shares) < len(result.items):
        return result
    details = result.details | ({} if part is None else {OVERLAP_WITH: part})
    return replace(result, details=details, overlap=shares[: len(result.items)])
