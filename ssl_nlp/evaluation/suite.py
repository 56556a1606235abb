"""A suite: evaluators with their data, under one name."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from ssl_nlp.cache import fingerprint
from ssl_nlp.corpora.base import text_digest
from ssl_nlp.evaluation.classification import FewLabelProbe, LabelledSplits, LinearProbe, NearestNeighbours
from ssl_nlp.evaluation.result import PROTOCOL, Evaluator

LABELS = (8, 32, 128)
GEOMETRY = 512  # texts, and pairs, whose geometry is measured
LANGUAGE_TEXTS = 500

T = TypeVar("T")


@dataclass(frozen=True)
class Suite:
    """What is asked, and of which texts.

    Attributes:
        name: under which the numbers are kept.
        evaluators: the questions by name.
        train_texts: what TF-IDF learns from.
        language_texts: what language models are asked to predict; none where the suite is not about that.
    """

    name: str
    evaluators: dict[str, Evaluator]
    train_texts: Sequence[str]
    language_texts: Sequence[str] = field(default_factory=tuple)

    @property
    def texts(self) -> list[str]:
        """Every text whose embedding is needed, once."""
        return list(dict.fromkeys(text for evaluator in self.evaluators.values() for text in evaluator.texts))

    @cached_property
    def fingerprint(self) -> str:
        """A key of everything that is asked: two results with the same one can be compared."""
        asked: dict[str, Any] = {
            name: [type(evaluator).__name__, asdict(evaluator)]  # type: ignore[call-overload]  # dataclasses, all of them
            for name, evaluator in self.evaluators.items()
        }
        return fingerprint("suite", PROTOCOL, asked, list(self.train_texts), list(self.language_texts))


def classifiers(data: LabelledSplits, prefix: str = "") -> dict[str, Evaluator]:
    """Every classifier of the protocol, on the same data."""
    named: dict[str, Evaluator] = {"knn": NearestNeighbours(data), "linear_probe": LinearProbe(data)}
    named |= {f"few_labels_{labels}": FewLabelProbe(data, labels) for labels in LABELS}
    return {prefix + name: evaluator for name, evaluator in named.items()}


def subset(items: Iterable[T], cap: int, text: Any = str) -> list[T]:
    """At most `cap` of the items: those whose text's digest is lowest, so that more data change few of them.

    Args:
        text: the text of an item.
    """
    return sorted(items, key=lambda item: text_digest(text(item)))[:cap]
