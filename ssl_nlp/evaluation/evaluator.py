"""Evaluators: from a model to a `Result`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self

from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.result import Array, Result, groups_of


class Evaluator(ABC):
    """An evaluation task with its data. A subclass is a frozen dataclass, whose fields say all that its numbers depend on.

    Attributes:
        needs: the capability that it calls: one of the protocols in `ssl_nlp.evaluation.capabilities`.
        higher_is_better: whether settings are good whose primary metric is high.
    """

    needs: ClassVar[Any] = Embedder
    higher_is_better: ClassVar[bool] = True

    @property
    def texts(self) -> list[str]:
        """Every text whose embedding it needs; repeated texts are embedded once."""
        return []

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        """The texts of each item of `Result.items`, to be looked for in training text; empty where items are no texts."""
        return []

    @property
    def shared(self) -> Array | None:
        """Which items share something, as `Result.groups` of all of them.

        By default, items share the texts of `item_texts`, if each has one of these or each has two.
        """
        texts = self.item_texts
        lengths = {len(of_item) for of_item in texts}
        return groups_of(*zip(*texts, strict=True)) if lengths in ({1}, {2}) else None

    @property
    def chooser(self) -> "Validated | None":
        """The evaluator whose validation data decide with which pooling this one is called; None: it has no such data.

        Then it gets the pooling that most evaluators of its suite have chosen.
        """
        return None

    @property
    def validation(self) -> "Evaluator | None":
        """The same task on validation items, of which none is a test item; None: it has none.

        Settings of a model are chosen by its primary metric, which `Result.validation` holds.
        """
        return None

    @abstractmethod
    def __call__(self, model: Any) -> Result:
        """The numbers of a model that has the capability in `needs`."""


def with_validation(evaluator: Evaluator, model: Any, result: Result) -> Result:
    """A result with its validation value, which is measured now if it is not there yet and there are items for it."""
    if result.validation is not None or evaluator.validation is None:
        return result
    return replace(result, validation=evaluator.validation(model).primary)


class Fit(NamedTuple):
    """A predictor learned from one kind of embedding.

    Attributes:
        validation: the primary metric on the validation data; higher is better.
        predictor: what `test` needs of it.
    """

    validation: float
    predictor: Any


class Validated(Evaluator):
    """An evaluator of embeddings that learns from training data, and chooses on validation data."""

    @property
    def chooser(self) -> "Validated":
        return self

    @abstractmethod
    def fit(self, embedder: Embedder) -> Fit:
        """Learn from the training and validation data, without a look at the test data."""

    @abstractmethod
    def test(self, embedder: Embedder, predictor: Any) -> Result:
        """The numbers on the test data."""

    def __call__(self, model: Embedder) -> Result:
        return self.test(model, self.fit(model).predictor)


class TestItems(Protocol):
    """Test items, and perhaps others for validation."""

    @property
    def texts(self) -> Sequence[str]:
        """All texts of the test items."""

    @property
    def valid(self) -> Self | None:
        """The validation items."""


@dataclass(frozen=True)
class CrossFitted(Evaluator):
    """An evaluator of embeddings that learns nothing, each of whose items has a prediction that no other item changes.

    With validation items, the embedding is chosen on these. Without, each half of the test items is predicted with the
    embedding that is best on the other half.

    Attributes:
        data: the items.
        ranked: predictions of different embeddings have one scale. Otherwise they are compared by their ranks within the
            items of each embedding.
    """

    data: TestItems
    ranked: ClassVar[bool]

    @property
    def validation(self) -> Self | None:
        return None if self.data.valid is None else replace(self, data=self.data.valid)

    @property
    def texts(self) -> list[str]:
        return [*self.data.texts, *(self.data.valid.texts if self.data.valid else [])]

    @property
    @abstractmethod
    def groups(self) -> Sequence[str]:
        """(N,): a text of each item; items with the same one stay together when items are divided into halves."""

    @abstractmethod
    def predictions(self, embedder: Embedder) -> Array:
        """(N, ...): the prediction for each item."""

    @abstractmethod
    def quality(self, predictions: Array, rows: Array) -> float:
        """The primary metric of some items.

        Args:
            predictions: (N, ...).
            rows: (N,) bool, the items that count.
        """

    @abstractmethod
    def result(self, predictions: Array, embedder: Embedder) -> Result:
        """The numbers that follow from predictions (N, ...) of an embedder, or of its other poolings."""

    def __call__(self, model: Embedder) -> Result:
        return self.result(self.predictions(model), model)
