"""A suite: evaluators with their data, under one name."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

from ssl_nlp.cache import fingerprint, own_sources
from ssl_nlp.corpora.base import order_digest
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.classification import FewLabelProbe, LabelledSplits, LinearProbe, NearestNeighbours
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.result import PROTOCOL

LABELS = (8, 32, 128)  # training items of each class, of the probes with few labels
GEOMETRY = 512  # texts, and pairs, whose geometry is measured
LANGUAGE_TEXTS = 500  # texts of language modelling
VALIDATION_TEXTS = 200  # of language modelling and of texts written from others, for validation

T = TypeVar("T")


@dataclass(frozen=True)
class Suite:
    """Evaluators and their data.

    Attributes:
        name: under which the numbers are kept.
        evaluators: by name.
        train_texts: the training texts of its data, from which TF-IDF and LSA learn; empty where it has none.
    """

    name: str
    evaluators: dict[str, Evaluator]
    train_texts: Sequence[str]

    @property
    def texts(self) -> list[str]:
        """Every text whose embedding is needed, once."""
        return list(dict.fromkeys(text for evaluator in self.evaluators.values() for text in evaluator.texts))

    @cached_property
    def fingerprint(self) -> str:
        """A key of all evaluators with their data, and with their code if they are the user's own."""
        own = own_sources(map(type, self.evaluators.values()), Evaluator)
        return fingerprint("suite", PROTOCOL, self._described, list(self.train_texts), *([own] if own else []))

    @cached_property
    def digests(self) -> dict[str, str]:
        """A key of the items and settings of each evaluator, and of its code if it is the user's own.

        Versions of the protocol do not change it.
        """
        own = {name: own_sources([type(evaluator)], Evaluator) for name, evaluator in self.evaluators.items()}
        return {
            name: fingerprint(described, *([own[name]] if own[name] else []))
            for name, described in self._described.items()
        }

    @cached_property
    def _described(self) -> dict[str, list[Any]]:
        return {
            name: [type(evaluator).__name__, json.dumps(asdict(evaluator), default=str), evaluator.texts]  # type: ignore[call-overload]  # dataclasses, all of them
            for name, evaluator in self.evaluators.items()
        }


def with_validation_items(suite: Suite, name: str) -> Evaluator:
    """The evaluator of a suite by which settings can be chosen.

    Raises:
        UserError: there is none of this name, or it has no validation items.
    """
    able = [key for key, evaluator in suite.evaluators.items() if evaluator.validation is not None]
    if name in able:
        return suite.evaluators[name]
    if not able:
        raise UserError(
            f"no evaluator of {suite.name} has validation items: use another suite, or describe one with `valid`"
        )
    what = "has no validation items" if name in suite.evaluators else "does not exist"
    raise UserError(f"{suite.name}: the evaluator {name!r} {what}: use one of {', '.join(able)}")


def classifiers(data: LabelledSplits, prefix: str = "") -> dict[str, Evaluator]:
    """Every classifier of the protocol, on the same data."""
    named: dict[str, Evaluator] = {"knn": NearestNeighbours(data), "linear_probe": LinearProbe(data)}
    named |= {f"few_labels_{labels}": FewLabelProbe(data, labels) for labels in LABELS}
    return {prefix + name: evaluator for name, evaluator in named.items()}


def subset(items: Iterable[T], cap: int, text: Any = str) -> list[T]:
    """At most `cap` of the items: those whose text has the lowest `order_digest`, so that more data change few of them.

    Args:
        text: the text of an item.
    """
    return sorted(items, key=lambda item: order_digest(text(item)))[:cap]
