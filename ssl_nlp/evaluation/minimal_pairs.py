"""Minimal pairs: whether a model finds the acceptable one of two sentences likelier (Warstadt et al., arXiv:1912.00582).

    good: Katherine can't help herself.      bad: Katherine can't help himself.      paradigm: anaphor_gender_agreement

Nothing is trained. Two numbers for each kind of score, because a likelihood falls with every token:

    accuracy             by the log-likelihood, summed over the tokens of a sentence, as BLiMP reports it
    accuracy_per_token   by the sum divided by the number of tokens

Each is the mean over paradigms of the share of pairs in which the good sentence has the higher score; a tie counts a half.
The accuracy of a field is the mean over its paradigms. Where all paradigms have the same number of pairs, as in BLiMP,
these are means over pairs, too.

Which score decides depends on the model: the likelihood, a bound of it, or a pseudo-likelihood in which each token is
predicted without itself and the later tokens of its word (arXiv:2305.10588). The scores cannot be compared, but the
decisions can: accuracies stand in one column, and `details` name the kind. A bound decides also by how tight it is for each
of the two sentences, and by its random draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ssl_nlp.evaluation.capabilities import PseudoScorer, Scorer, SeveralScorer
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.result import Array, Result
from ssl_nlp.objectives.scores import Scores

TIE = 1e-4
"""Nats. Scores that differ by less are ties: float32 and the order of a sum make equal ones differ by about as much."""
LENGTH = "length"
"""The kind of score that is the number of characters."""


@dataclass(frozen=True)
class MinimalPairs(Evaluator):
    """The accuracy with which a model prefers the good sentence of each pair.

    The accuracy is the ratio of two sums over the items: what a pair adds, and its weight, which is 1 over the number of
    pairs of its paradigm.

    Attributes:
        good, bad: (N,) the sentences.
        paradigms: (N,) what each pair tests.
        fields: (N,) the field of grammar that it belongs to.
        valid: other pairs, for validation.
    """

    needs: ClassVar[type] = Scorer
    good: Sequence[str]
    bad: Sequence[str]
    paradigms: Sequence[str]
    fields: Sequence[str]
    valid: "MinimalPairs | None" = None

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        """The good sentences: a bad one in training text makes its pair harder, not easier."""
        return [(text,) for text in self.good]

    @property
    def validation(self) -> "MinimalPairs | None":
        return self.valid

    def __call__(self, model: Scorer) -> Result:
        return self.merged(self.each(model))

    def each(self, model: Scorer) -> list[Result]:
        """A result for each kind of score, that of the model's own kind first."""
        return [self.scored(score) for score in _scores(model)]

    def merged(self, found: Sequence[Result]) -> Result:
        """The first result, to which the numbers of the others are added."""
        first = found[0]
        for other in found[1:]:
            [(kind, numbers)] = other.details["minimal_pairs"].items()
            name = kind.removesuffix("-likelihood")
            first.metrics.update({f"{name}_{metric}": value for metric, value in other.metrics.items()})
            first.details["minimal_pairs"][kind] = numbers
        return first

    def scored(self, score: Callable[[Sequence[str]], Scores]) -> Result:
        """The numbers of one kind of score."""
        texts = list(dict.fromkeys([*self.good, *self.bad]))
        scores, places = score(texts), {text: place for place, text in enumerate(texts)}
        sums = scores.nats.double().numpy()
        means = sums / scores.targets.clamp(min=1).numpy()
        good, bad = ([places[text] for text in side] for side in (self.good, self.bad))
        facts: dict[str, float] = {"cut": int(scores.cut.sum())}
        if scores.variances is not None:
            facts["standard_error"] = float((scores.variances[good] + scores.variances[bad]).mean().sqrt())
        return self._result(scores.kind, _right(sums[good], sums[bad]), _right(means[good], means[bad]), facts)

    def shorter(self) -> Result:
        """The numbers of a model that prefers the sentence with fewer characters."""
        lengths = [np.array([len(text) for text in side], dtype=np.float64) for side in (self.good, self.bad)]
        return self._result(LENGTH, _right(*lengths))

    def _result(
        self, kind: str, right: Array, per_token: Array | None = None, facts: dict[str, float] | None = None
    ) -> Result:
        """The result of one kind of score.

        Args:
            kind: its name.
            right: (N,) 1, 1/2 or 0 for each pair.
            per_token: the same for means by token, if there are any.
            facts: further details.
        """
        ways = {"accuracy": right} | ({} if per_token is None else {"accuracy_per_token": per_token})
        names, of_paradigm, counts = np.unique(self.paradigms, return_inverse=True, return_counts=True)
        each = {way: np.bincount(of_paradigm, given) / counts for way, given in ways.items()}
        fields = dict(zip(self.paradigms, self.fields, strict=True))
        members: dict[str, list[int]] = {}
        for number, name in enumerate(names.tolist()):
            members.setdefault(fields[name], []).append(number)
        metrics = {way: float(shares.mean()) for way, shares in each.items()}
        details = {
            **metrics,
            "pairs": len(right),
            "ties": int((right == 0.5).sum()),
            **(facts or {}),
            "fields": {
                field: {"paradigms": len(own)} | {way: float(shares[own].mean()) for way, shares in each.items()}
                for field, own in sorted(members.items())
            },
            "paradigms": {
                name: {"field": fields[name], "pairs": int(counts[number])}
                | {way: float(shares[number]) for way, shares in each.items()}
                for number, name in enumerate(names.tolist())
            },
        }
        weights = 1 / counts[of_paradigm]
        items = np.stack([weights * right, weights], axis=1)
        return Result("accuracy", metrics, {"minimal_pairs": {kind: details}}, items, "ratio")


def _scores(model: Scorer) -> list[Callable[[Sequence[str]], Scores]]:
    """The ways in which a model scores texts, its own kind first. Words are not given away where it can help that."""
    ways: dict[Any, Callable[[Sequence[str]], Scores]] = {model.likelihood: model.score}
    if isinstance(model, SeveralScorer):
        ways |= {kind: partial(model.score, kind=kind) for kind in model.likelihoods}
    if isinstance(model, PseudoScorer):
        ways["pseudo-likelihood"] = model.pseudo_score
    return list(ways.values())


def _right(good: Array, bad: Array) -> Array:
    """(N,): 1 where the good sentence has fewer nats, 0 where it has more, 1/2 where they are equal, NaN if one is NaN."""
    with np.errstate(invalid="ignore"):
        difference = np.where(good == bad, 0.0, bad - good)  # the difference of two infinities is not a number
    return np.where(np.isnan(difference), np.nan, np.where(np.abs(difference) <= TIE, 0.5, difference > 0))
