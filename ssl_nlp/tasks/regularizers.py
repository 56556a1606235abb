"""Callbacks that add a term to the training loss of any task: `Adversarial` and `RDrop`.

In YAML, `trainer.callbacks: [{class_path: ssl_nlp.tasks.RDrop, init_args: {weight: 1.0}}]`; several add up in their order.
They are not a part of the model, so that a checkpoint loads without them.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.errors import UserError
from ssl_nlp.objectives.agreement import symmetric_bernoulli_kl, symmetric_kl
from ssl_nlp.tasks.base import Task
from ssl_nlp.training.sums import Loss, Term


class Regularizer(Callback):
    """Extends the loss of a task in training; validation losses stay as they are."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "predict":
            return
        if not isinstance(pl_module, Task):
            raise UserError(f"{type(self).__name__} belongs to a task, not to {type(pl_module).__name__}: leave it out")
        pl_module.regularizers = [*pl_module.regularizers, self]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if isinstance(pl_module, Task):
            pl_module.regularizers = [other for other in pl_module.regularizers if other is not self]

    @abstractmethod
    def extend(self, task: Task, batch: TokenBatch, outputs: Any, loss: Loss) -> Loss:
        """The loss of a training batch with what this adds.

        Args:
            task: in training mode.
            batch: with its labels.
            outputs: of the task for this batch.
            loss: so far.
        """

    @abstractmethod
    def targets(self, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The numbers of targets of all terms of the extended loss, given those of the loss so far."""

    def details(self) -> dict[str, Any]:
        """Plain data about the last validation or test, for `Result.details`."""
        return {}


class RDrop(Regularizer):
    """R-Drop (Liang et al., arXiv:2106.14448, equations 2 to 4): two passes with different dropout, which should agree.

        loss = (loss_1 + loss_2) / 2 + weight * (KL(p_1 || p_2) + KL(p_2 || p_1)) / 4

    It is half of the paper's, so that `train/loss` stays comparable. Where a text may have several classes the divergence
    is that of each class; of an answer it is the mean of those of start and end; for scores it is half of the squared
    difference, as in the released code.

    Args:
        weight: of the divergence; the paper's alpha.

    Raises:
        UserError: when the training starts, if nothing is dropped, so that both passes are the same.
    """

    def __init__(self, weight: float = 1.0) -> None:
        if not 0 <= weight < float("inf"):
            raise UserError(f"RDrop: weight must be 0 or more, not {weight}")
        self.weight = weight

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not any(map(_drops, pl_module.modules())):
            raise UserError(
                "RDrop compares two passes with different dropout, and nothing that is trained has a dropout rate above 0: "
                "set model.encoder.dropout (or model.dropout) to 0.1, or leave RDrop out"
            )

    def extend(self, task: Task, batch: TokenBatch, outputs: Any, loss: Loss) -> Loss:
        other = task.outputs(batch)
        second = task.loss_of(other, batch)
        terms = {
            name: term._replace(total=(term.total + second.terms[name].total) / 2) if name in second.terms else term
            for name, term in loss.terms.items()
        }
        targets = next(iter(loss.terms.values())).targets
        apart = _divergence(task, outputs, other, batch, targets)
        return Loss(terms | {"r_drop": Term(apart / 2, targets, self.weight)}, loss.metrics)

    def targets(self, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**targets, "r_drop": next(iter(targets.values()))}


def _drops(part: nn.Module) -> bool:
    """Whether a module drops anything in training: a layer of dropout, or one with a rate, as attention may have it."""
    rates = [value for name, value in vars(part).items() if "drop" in name and isinstance(value, float)]
    return part.training and (max(rates, default=0.0) > 0 or (isinstance(part, nn.Dropout) and part.p > 0))


def _divergence(task: Task, one: Any, other: Any, batch: TokenBatch, targets: Tensor) -> Tensor:
    """The divergence of two outputs, summed over the targets of a batch, each of which may be predicted in several parts.

    Args:
        task: whose outputs they are.
        one, other: the outputs.
        batch: with its labels.
        targets: their number.

    Raises:
        UserError: the task writes texts.
    """
    labels = task.targets_of(batch)
    if isinstance(one, Tensor) and labels is not None:
        if not labels.is_floating_point() and one.shape[:-1] == labels.shape:
            known = labels != IGNORE_INDEX
            return (symmetric_kl(one, other) * known).sum() * targets / known.sum().clamp(min=1)
        if labels.is_floating_point() and one.shape == labels.shape:
            scores = one.ndim == 1
            apart = (one - other).float().square() / 2 if scores else symmetric_bernoulli_kl(one, other).mean(dim=1)
            return (apart * ~(labels if scores else labels[:, 0]).isnan()).sum()
    raise UserError(
        f"RDrop compares classes, scores or places of answers, which {type(task).__name__} does not predict: leave it out"
    )
