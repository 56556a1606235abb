"""Which embedding of a model an evaluator gets: the mean, last or first state of its encoder, or the model's own.

All models are evaluated with the same poolings, and word vectors also with their weighted mean (`sif`). Each evaluator gets
the one that suits it best. No choice looks at the items that are then scored with it:

- an evaluator with validation items takes the pooling that does best on these (probes with few labels take the choice of
  the linear probe on the same data, which has the same validation items and more to learn from);
- one of similarity, retrieval or analogies that has test items only is cross-fitted: its items are divided into two halves
  by the digests of their texts, and each half is scored with the pooling that is best on the other half. Choosing on
  another task's validation data would be as honest, but the best pooling for cosines need not be the best for a probe, and
  some suites have no other task. Where the halves choose differently, cosines of two scales cannot be ranked together: each
  half's are replaced by their ranks. With a few dozen items the choice is mostly chance, and the score too low rather than
  too high;
- one that measures no quality (geometry, the map) gets the pooling that most of the others have chosen.

Of equally good ones the first counts, in the order mean, last, first, sif, own.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from scipy.stats import rankdata

from ssl_nlp.corpora.base import order_digest
from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.evaluator import CrossFitted, Evaluator, Fit, Validated, with_validation
from ssl_nlp.evaluation.result import Array, Result

MARKS = {"mean": "ᵐ", "last": "ˡ", "first": "ᶠ", "sif": "ˢ", "own": "ᵒ"}
LEGEND = (
    "ᵐ mean, ˡ last or ᶠ first state, ˢ weighted mean (SIF), ᵒ own embedding: the pooling that is best on validation data, "
    "or on the other half of the items"
)


def mark(pooling: str) -> str:
    """One sign for each pooling of a result, for cells of tables; empty if it is not a pooling."""
    return "".join(MARKS.get(name, "") for name in pooling.split("/"))


class Poolings:
    """Several embeddings of the same texts, of which each evaluator gets the best one.

    Args:
        embedders: by the name of the pooling; the first of equally good ones is chosen.
        kind: under which the name stands in the details of a result: `pooling`, or what else the embeddings differ in.
    """

    def __init__(self, embedders: Mapping[str, Embedder], kind: str = "pooling") -> None:
        self.embedders, self.kind = embedders, kind
        self._fits: list[tuple[Validated, dict[str, Fit]]] = []
        self._votes: Counter[str] = Counter()

    def evaluate(
        self, evaluators: Mapping[str, Evaluator], on_progress: Callable[[str], object] = lambda name: None
    ) -> dict[str, Result]:
        """The result of each evaluator of embeddings, with the name of its pooling in the details.

        Args:
            evaluators: by name.
            on_progress: called with the name of each before it begins.
        """
        choosing = {name: e for name, e in evaluators.items() if e.chooser is not None or isinstance(e, CrossFitted)}
        results = {}
        for name, evaluator in {**choosing, **evaluators}.items():  # those without a choice of their own come last
            on_progress(name)
            results[name] = self._result(evaluator)
        return {name: results[name] for name in evaluators}

    @property
    def favourite(self) -> str:
        """The pooling that most evaluators have chosen so far."""
        return max(self.embedders, key=lambda name: self._votes[name])

    def validation(self, evaluator: Evaluator) -> Result | None:
        """The numbers of an evaluator of embeddings on its validation items alone; None if it has none.

        Only the embeddings of the texts of `evaluator.validation` are needed.
        """
        if (validation := evaluator.validation) is None:
            return None
        if isinstance(validation, CrossFitted):
            best = _best(self._qualities(validation))
        elif (chooser := validation.chooser) is not None:
            fits = self._fitted(chooser)
            best = _best({name: fit.validation for name, fit in fits.items()})
            if _same(chooser, validation):
                return chooser.test(self.embedders[best], fits[best].predictor)
        else:
            best = self.favourite
        return validation(self.embedders[best])

    def _result(self, evaluator: Evaluator) -> Result:
        if isinstance(evaluator, CrossFitted):
            if evaluator.validation is None:
                result, chosen = cross_fit(evaluator, self.embedders)
            else:
                qualities = self._qualities(evaluator.validation)
                chosen = [_best(qualities)]
                result = replace(evaluator(self.embedders[chosen[0]]), validation=qualities[chosen[0]])
            self._votes.update(chosen)
        elif (chooser := evaluator.chooser) is not None:
            fits = self._fitted(chooser)
            chosen = [_best({name: fit.validation for name, fit in fits.items()})]
            embedder, fit = self.embedders[chosen[0]], fits[chosen[0]]
            if _same(chooser, evaluator):
                result = replace(chooser.test(embedder, fit.predictor), validation=fit.validation)
            else:
                result = with_validation(evaluator, embedder, evaluator(embedder))
        else:
            chosen = [self.favourite]
            embedder = self.embedders[self.favourite]
            result = with_validation(evaluator, embedder, evaluator(embedder))
        result.details[self.kind] = "/".join(name for name in self.embedders if name in chosen)
        return result

    def _qualities(self, evaluator: CrossFitted) -> dict[str, float]:
        """The primary metric of each embedding on all items."""
        found = {name: evaluator.predictions(embedder) for name, embedder in self.embedders.items()}
        return {name: evaluator.quality(each, np.ones(len(each), dtype=bool)) for name, each in found.items()}

    def _fitted(self, chooser: Validated) -> dict[str, Fit]:
        """The fit on each embedding, done once."""
        for known, fits in self._fits:
            if _same(known, chooser):
                return fits
        fits = {name: chooser.fit(embedder) for name, embedder in self.embedders.items()}
        self._fits.append((chooser, fits))
        self._votes[_best({name: fit.validation for name, fit in fits.items()})] += 1
        return fits


def _best(values: Mapping[str, float]) -> str:
    """The name of the highest value, of equal ones the first."""
    return max(values, key=lambda name: _or_worst(values[name]))


def _or_worst(number: float) -> float:
    return -math.inf if math.isnan(number) else number


def _same(one: Evaluator, other: Evaluator) -> bool:
    """Whether two evaluators are equal. Those that hold different arrays are not: arrays have no truth value."""
    try:
        return one == other
    except ValueError:
        return False


def cross_fit(evaluator: CrossFitted, embedders: Mapping[str, Embedder]) -> tuple[Result, list[str]]:
    """The result when each half of the items is scored with the embedding that is best on the other half.

    Returns:
        The result, and the name of the embedding of each half.
    """
    found = {name: evaluator.predictions(embedder) for name, embedder in embedders.items()}
    half = halves(evaluator)
    best = [max(found, key=lambda name: _or_worst(evaluator.quality(found[name], rows))) for rows in (~half, half)]
    first, second = (found[name] for name in best)  # of the items in `half`, and of the others
    if best[0] != best[1] and not evaluator.ranked:
        first, second = _ranks(first, half), _ranks(second, ~half)
    chosen = first.copy()
    chosen[~half] = second[~half]
    return evaluator.result(chosen, embedders[best[0]]), best


def halves(evaluator: CrossFitted) -> Array:
    """(N,) bool: whether an item is in the first half. All in one where all items share a text."""
    ordered = sorted(set(evaluator.groups), key=order_digest)
    place = {text: number for number, text in enumerate(ordered)}
    return np.array([place[text] % 2 == 0 for text in evaluator.groups])


def _ranks(predictions: Array, rows: Array) -> Array:
    """(N,): the rank of each prediction among those of `rows`, in (0, 1]; NaN stays NaN."""
    ranks = np.full(len(predictions), np.nan)
    known = rows & ~np.isnan(predictions)
    ranks[known] = rankdata(predictions[known]) / max(int(known.sum()), 1)
    return ranks
