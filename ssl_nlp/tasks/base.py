"""The contract of a task: its labels, heads, loss and metrics. `ssl_nlp.training.Module` does the rest."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ssl_nlp.corpora import Document
from ssl_nlp.data import ContinualDataModule, TextDataModule, TokenBatch
from ssl_nlp.data.batch_maker import RowKind
from ssl_nlp.data.labels import KINDS, LabelKind
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import Result
from ssl_nlp.tasks.documents import cut, document_of, plain, shown
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.parts import buffers_kept
from ssl_nlp.training.ranks import gather_objects
from ssl_nlp.training.sums import Loss
from ssl_nlp.training.texts import TextModule

if TYPE_CHECKING:
    from ssl_nlp.tasks.regularizers import Regularizer


class Task(TextModule):
    """Labels predicted from an encoder's states, for fine-tuning.

    A subclass sets `labels` and `monitor`, and writes

        build()                    the heads; `classes` are known
        outputs(batch)             logits, of whatever form, from the encoder's states
        loss_of(outputs, batch)    their `Loss`
        items(outputs, batch)      the predictions for each row beside its labels, as plain data
        result(items)              the metrics of a whole split, from the items of all ranks
        records(outputs, batch)    the predictions for each row for people to read, with probabilities

    A validation computes the outputs once for the loss and the items. Each metric of the result is logged as `val/NAME` or
    `test/NAME`; the one in `monitor` decides on `best.ckpt`.

    Args:
        encoder: turns tokens into hidden states, usually a trained one.
        classes: the classes in the order of their numbers; null takes those of the data.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Attributes:
        labels: the kind of labels that the batches must carry; None if the task reads none.
        last_result: of the last validation or test.
    """

    labels: LabelKind | None
    units: tuple[RowKind, ...] = ("sentence", "pair")
    causal: bool | None = None  # tasks take any encoder
    last_result: Result | None = None
    regularizers: Sequence["Regularizer"] = ()  # of the training that goes on

    def __init__(
        self,
        encoder: Encoder | None = None,
        classes: list[str] | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        if len(set(classes or [])) < len(classes or []):
            raise UserError(f"the classes of the {type(self).__name__} name one twice: remove one of them")
        self.classes = classes
        self._items: list[tuple[int, Any]] = []

    @abstractmethod
    def outputs(self, batch: TokenBatch) -> Any:
        """The output of the heads for a batch, such as logits (B, C)."""

    @abstractmethod
    def loss_of(self, outputs: Any, batch: TokenBatch) -> Loss:
        """The loss of outputs, given the labels of the batch."""

    @abstractmethod
    def items(self, outputs: Any, batch: TokenBatch) -> list[Any]:
        """(B,): plain data about each row that `result` needs."""

    @abstractmethod
    def result(self, items: list[Any]) -> Result:
        """The metrics of a split.

        Args:
            items: those of all rows of all ranks, in the order of their documents.
        """

    def rows_and_parts(self, batch: TokenBatch) -> tuple[TokenBatch, Tensor]:
        """The rows that the encoder reads, and the part (B, T) of each token: 1 in the second text of a row, else 0."""
        return batch, torch.zeros_like(batch.input_ids)

    def from_logits(self, logits: Tensor, batch: TokenBatch) -> Any:
        """The outputs for a batch, given the logits that an exported graph computes for its `rows_and_parts`."""
        return logits

    def targets_of(self, batch: TokenBatch) -> Tensor | None:
        """The labels of a batch in the form in which the outputs predict them."""
        return batch.labels

    def records(self, outputs: Any, batch: TokenBatch) -> list[dict[str, Any]]:
        """(B,): for each row its `prediction`, and what else is worth writing, as plain data. It reads no labels."""
        raise UserError(f"{type(self).__name__} cannot predict single texts: write its method `records`")

    def visible(self, batch: TokenBatch) -> TokenBatch:
        return batch

    def loss(self, batch: TokenBatch) -> Loss:
        outputs = self.outputs(batch)
        loss = self.loss_of(outputs, batch)
        for regularizer in self.regularizers if self.training else ():
            loss = regularizer.extend(self, batch, outputs, loss)
        return loss

    def count_targets(self, batch: TokenBatch) -> Mapping[str, Tensor]:
        with torch.no_grad(), buffers_kept(self):
            targets: Mapping[str, Tensor] = self.own_targets(batch)
        for regularizer in self.regularizers:
            targets = regularizer.targets(targets)
        return targets

    def own_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        """As `count_targets`, of the task's own loss. A subclass overrides it where it can do without a forward pass."""
        return {name: term.targets for name, term in self.loss_of(self.outputs(batch), batch).terms.items()}

    def take_facts(self, data: TextDataModule, stage: str) -> None:
        super().take_facts(data, stage)
        if self.labels is not None:
            self._take_classes(data, self.labels)

    def _take_classes(self, data: TextDataModule, kind: LabelKind) -> None:
        """Take the classes of the data, whose labels must be of this kind.

        Raises:
            UserError: the data carry other labels, or other classes than the task was trained on.
        """
        if data.labels != kind:
            given = "none" if data.labels is None else repr(data.labels)
            several = ", or model.several to true" if (kind, data.labels) == ("class", "classes") else ""
            raise UserError(
                f"{type(self).__name__} learns from labels of the kind {kind!r}, and the batches carry {given}: set "
                f"data.labels to {kind!r}, and the corpus's `label` to the field that holds them{several}"
            )
        if not KINDS[kind].has_names:
            return
        if self.classes is None:
            if names := data.class_names:  # answers have none
                self.classes = names
                self.settle("classes", names)
        elif data.classes is None:
            data.classes = self.classes  # the labels are numbered as this task has learned them
        elif data.classes != self.classes:
            raise UserError(
                f"data.classes are {', '.join(data.classes[:5])}, and the {type(self).__name__} was trained on "
                f"{', '.join(self.classes[:5])}: leave data.classes out"
            )

    # ------------------------------------------------------------------------------------------------------- validation

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._items = []

    on_test_epoch_start = on_validation_epoch_start

    def validation_loss(self, batch: TokenBatch) -> Loss:
        outputs = self.outputs(batch)
        loss = self.loss_of(outputs, batch)
        assert batch.documents is not None
        self._items += zip(batch.documents.tolist(), self.items(outputs, batch), strict=True)
        return loss

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        items = sorted(gather_objects(self._items), key=lambda item: item[0])
        self.last_result = self.result([item for _, item in items])
        for regularizer in self.regularizers:
            self.last_result.details.update(regularizer.details())
        metrics = {name: torch.tensor(value) for name, value in self.last_result.metrics.items()}
        return means | metrics | self._scores_of_parts(items)

    def _scores_of_parts(self, items: list[tuple[int, Any]]) -> dict[str, Tensor]:
        """The metric of `monitor` on each part of a corpus that has parts, as `METRIC/PART`."""
        name, data = self.monitor[0], self._data
        if not isinstance(data, ContinualDataModule) or name not in (self.last_result or Result("", {})).metrics:
            return {}
        parts = data.parts_of("test" if self.trainer.testing else "valid")
        found = {}
        for number, part in enumerate(data.part_names):
            if own := [item for document, item in items if parts[document] == number]:
                found[f"{name}/{part}"] = torch.tensor(self.result(own).metrics[name])
        return found

    # ------------------------------------------------------------------------------------------------------- predictions

    def predict(self, texts: Sequence[Any], batch_size: int = 64) -> list[Any]:
        """The prediction for each text, or pair of texts (`Text`)."""
        documents = [document_of(text, number) for number, text in enumerate(texts)]
        return [record["prediction"] for record in self.predict_records(documents, batch_size)]

    @torch.no_grad()
    def predict_records(
        self, documents: Sequence[Document], batch_size: int = 64, data: TextDataModule | None = None
    ) -> list[dict[str, Any]]:
        """The record of each document, in their order: its text, its pair and its label, if there are any, and `records`.

        Args:
            documents: all with a pair, or none.
            batch_size: documents at a time.
            data: texts are cut as in a test on them; None: as long as the encoder allows.

        Raises:
            UserError: some documents have a pair and others have none, or the batch size is below 1.
        """
        with self.evaluating():
            found: list[dict[str, Any]] = [{} for _ in documents]
            for places, batch in self.batches_of(documents, batch_size, data):
                records = self.records(self.outputs(batch.to(self.device)), batch)
                for place, record in zip(places, records, strict=True):
                    found[place] = record
        return [plain(document) | record for document, record in zip(documents, found, strict=True)]

    def document_of_line(self, line: str, number: int) -> Document:
        """The document of a line of a file that is to be predicted.

        Args:
            line: without its end.
            number: counted from 1, for messages.
        """
        return Document(line)

    def batches_of(
        self, documents: Sequence[Document], batch_size: int, data: TextDataModule | None = None
    ) -> Iterator[tuple[list[int], TokenBatch]]:
        """Batches of documents of similar lengths, without labels, and the places of their rows among the documents."""
        if batch_size < 1:
            raise UserError(f"batch_size must be 1 or more, not {batch_size}")
        paired = {document.pair is not None for document in documents}
        if len(paired) > 1:
            raise UserError("some texts have a pair and others have none: give each text one, or none")
        sides = [[document.text for document in documents]]
        limits = None if data is None else data.maker.text_lengths(min(self.encoder.max_length, data.length))
        if True in paired and (limits is None or len(limits) > 1):
            sides.append([str(document.pair) for document in documents])
        limits = limits or (self.encoder.max_length // len(sides),) * len(sides)
        rows = [[ids for ids, _ in self.tokenizer.encode(side)] for side in sides]
        order = sorted(range(len(documents)), key=lambda place: max(len(side[place]) for side in rows))
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            first, *second = (
                pad_rows([side[i] for i in some], None, self.tokenizer, limit)
                for side, limit in zip(rows, limits, strict=False)  # texts without a pair have one of two limits
            )
            yield some, replace(first, documents=torch.tensor(some), pair=second[0] if second else None)

    def sample_documents(self, documents: list[Document]) -> list[dict[str, str]]:
        if type(self).records is Task.records:
            return []
        records = self.predict_records([cut(document) for document in documents])
        return [{name: shown(value) for name, value in record.items()} for record in records]

    def predict_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        return self.embed_batch(self.visible(batch))
