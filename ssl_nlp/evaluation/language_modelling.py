"""Language modelling: how well a model predicts text, and in which sense of predicting.

Three kinds of numbers that look alike and are not: a likelihood, a pseudo-likelihood (each token given all others, which
is not a probability of the text), and a bound (the likelihood is at least as good). Their names differ, so that no table
puts one below another: `perplexity`, `pseudo_perplexity`, `perplexity_bound`. The result of a model that gives several
kinds has the numbers of all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssl_nlp.evaluation.capabilities import Scorer, SeveralScorer, Speller
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.result import Result, statistic_of
from ssl_nlp.objectives.scores import Likelihood, Scores

PSEUDO_TEXTS = 64  # of a pseudo-likelihood, which takes most models a forward pass for each token
NAMES = {"likelihood": "{}", "pseudo-likelihood": "pseudo_{}", "bound": "{}_bound"}


@dataclass(frozen=True)
class LanguageModelling(Evaluator):
    """Nats per token, perplexity and bits per byte of texts. The items are the bits and bytes of each text.

    The bits include those for spelling out what the tokenizer does not know (`Speller`): otherwise the model with the most
    unknown tokens would be best. Nats per token and perplexity are of the tokens alone.

    Where the scores are estimates from random draws, the details hold the `standard_error` of the bits per byte that the
    drawing causes.

    Attributes:
        data: the texts.
        valid: other texts, for validation.
    """

    needs: ClassVar[type] = Scorer
    higher_is_better: ClassVar[bool] = False
    data: Sequence[str]
    valid: Sequence[str] = ()

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        return [(text,) for text in self.data]

    @property
    def validation(self) -> "LanguageModelling | None":
        return LanguageModelling(self.valid) if self.valid else None

    def __call__(self, model: Scorer) -> Result:
        spelling = model.spelling(self.data) if isinstance(model, Speller) else torch.zeros(len(self.data))
        result = self._scored(model.likelihood, model.score, spelling)
        if isinstance(model, SeveralScorer):
            for kind in [kind for kind in model.likelihoods if kind != model.likelihood]:
                result.metrics.update(self._scored(kind, partial(model.score, kind=kind), spelling).metrics)
        return result

    def _scored(self, kind: Likelihood | None, score: Callable[[Sequence[str]], Scores], spelling: Tensor) -> Result:
        """The numbers of one kind."""
        texts = list(self.data[:PSEUDO_TEXTS] if kind == "pseudo-likelihood" else self.data)
        scores = score(texts)
        loss = float(scores.nats.double().sum()) / max(int(scores.targets.sum()), 1)
        # The part of a text that the encoder is too short for is taken to be like the rest.
        nats = scores.nats.double() + loss * (scores.all_targets - scores.targets)
        bits = (nats + spelling[: len(texts)]) / math.log(2)
        items = torch.stack([bits, torch.tensor([len(text.encode()) for text in texts])], dim=1)
        numbers = {
            "loss": loss,
            "perplexity": float(torch.tensor(loss, dtype=torch.float64).exp()),  # inf where it overflows
            "bits_per_byte": statistic_of(items.numpy(), "ratio"),
        }
        metrics = {NAMES[scores.kind].format(name): value for name, value in numbers.items()}
        primary = NAMES[scores.kind].format("bits_per_byte")
        details: dict[str, Any] = {"kind": scores.kind, "texts": len(texts)}
        if scores.variances is not None:
            per_nat = float(nats.sum() / scores.nats.double().sum() / items[:, 1].sum()) / math.log(2)
            details["standard_error"] = float(scores.variances.sum().sqrt()) * per_nat
        return Result(primary, metrics, details, items.numpy(), "ratio")
