"""Elastic weight consolidation: weights that earlier parts need are held near where these left them.

    loss = loss of the current part + strength / 2 * sum_i F_i (w_i - w*_i)^2

(Kirkpatrick et al., arXiv:1612.00796, equation 3). F is the diagonal of the Fisher information of the earlier parts, w*
the weights after the last of them. With each part, F becomes decay * F + its own, as in online EWC (Schwarz et al.,
arXiv:1805.06370, section 3.3): one quadratic, whatever the number of parts. With decay 1 its minimum is that of the sum of
all losses, exactly, where these are quadratic with diagonal Hessians; a penalty for each part would count the first parts
twice (Huszár, arXiv:1712.03847).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_nlp import lightning_internals as internals
from ssl_nlp.data import ContinualDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.seeding import run_seed, seed_generators
from ssl_nlp.training.module import Module
from ssl_nlp.training.sums import Loss

FISHER_SEED = 2_000_003


@runtime_checkable
class Classifies(Protocol):
    """A model with class logits, from which labels can be drawn."""

    def outputs(self, batch: TokenBatch) -> Any:
        """Logits (..., C) for labels (...)."""

    def loss_of(self, outputs: Any, batch: TokenBatch) -> Loss:
        """Their loss, given the labels of the batch."""


class ElasticWeights(Callback):
    """Adds the gradient of the penalty before each step, and measures the Fisher information after each part.

    The Fisher information of a part is the mean over some of its training rows of the squared gradient of
    - log p(label | text), without dropout. It is that of a mean, as the loss is: strength 1 weighs all earlier parts
    together as their own losses would, if the decay is 1. `train/elastic_penalty` is logged. The
    measurement counts in the seconds of the training, but not in its FLOPs and tokens read.

    Args:
        strength: weight of the penalty.
        fisher: whose labels: `model` draws one for each row from the model's own predictive distribution, which makes it
            the Fisher information; `empirical` takes those of the data (Kunstner et al., arXiv:1905.12558, on the
            difference).
        rows: of each part that are measured.
        decay: of earlier parts' information with each part.
    """

    def __init__(
        self,
        strength: float = 100.0,
        fisher: Literal["model", "empirical"] = "model",
        rows: int = 200,
        decay: float = 1.0,
    ) -> None:
        problems = {
            f"strength must be 0 or more, not {strength}": not 0 <= strength < float("inf"),
            f"rows must be 1 or more, not {rows}": rows < 1,
            f"decay must be above 0 and at most 1, not {decay}": not 0 < decay <= 1,
        }
        refuse(problems, "ElasticWeights")
        self.strength, self.fisher, self.rows, self.decay = strength, fisher, rows, decay
        self.precision: dict[str, Tensor] = {}  # F, by the name of the parameter
        self.anchor: dict[str, Tensor] = {}  # w*

    def state_dict(self) -> dict[str, Any]:
        return {"precision": self.precision, "anchor": self.anchor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.precision, self.anchor = dict(state_dict["precision"]), dict(state_dict["anchor"])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check what the penalty needs.

        Raises:
            UserError: the data have no parts, the parameters are divided among processes, or there are no logits.
        """
        assert isinstance(pl_module, Module)
        problems = {
            "the data do not come in parts: take ssl_nlp.data.ContinualDataModule": not isinstance(
                internals.datamodule_of(trainer), ContinualDataModule
            ),
            "the parameters are sharded: use ddp": pl_module.sharded,
            f"{type(pl_module).__name__} has no class logits to draw labels from: set fisher to empirical": (
                self.fisher == "model" and not isinstance(pl_module, Classifies)
            ),
        }
        refuse(problems, "ElasticWeights")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for tensors in (self.precision, self.anchor):
            tensors.update({name: tensor.to(pl_module.device) for name, tensor in tensors.items()})
        data = internals.datamodule_of(trainer)
        assert isinstance(pl_module, Module) and isinstance(data, ContinualDataModule)
        with torch.no_grad():  # an error comes now rather than after the first part
            self._loss(pl_module, data.examples(0, 1, run_seed())[0].to(pl_module.device))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Add strength * F (w - w*) to the gradients, which are complete here and not clipped yet."""
        for name, parameter in pl_module.named_parameters():
            if name in self.precision and parameter.grad is not None:
                pull = self.precision[name] * (parameter.detach() - self.anchor[name])
                parameter.grad.add_(pull.to(parameter.grad.dtype), alpha=self.strength)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # type: ignore[override]  # the rest is in args
        data = internals.datamodule_of(trainer)
        assert isinstance(pl_module, Module) and isinstance(data, ContinualDataModule)
        if self.precision and internals.logs_now(trainer):
            pl_module.log("train/elastic_penalty", self.penalty(pl_module))
        part = data.finished_part
        if part is not None and not data.joint and part + 1 < len(data.part_names):
            examples = data.examples(part, self.rows, run_seed())
            self.consolidate(pl_module, self.information(pl_module, examples, part))

    def penalty(self, model: nn.Module) -> Tensor:
        """Strength / 2 * sum of F (w - w*)^2, a scalar with a gradient."""
        parameters = dict(model.named_parameters())
        terms = [(self.precision[name] * (parameters[name] - self.anchor[name]) ** 2).sum() for name in self.precision]
        return self.strength / 2 * torch.stack(terms).sum()

    def consolidate(self, model: nn.Module, information: Mapping[str, Tensor]) -> None:
        """Add the information of a part, by the name of the parameter, and anchor the weights where they are."""
        for name, parameter in model.named_parameters():
            if name in information:
                before = self.precision.get(name)
                own = information[name]
                self.precision[name] = own if before is None else self.decay * before + own
                self.anchor[name] = parameter.detach().clone()

    def information(self, model: Module, examples: Iterable[TokenBatch], part: int) -> dict[str, Tensor]:
        """The diagonal of the Fisher information of all trained parameters, by name.

        Args:
            examples: batches of one row each.
            part: their part, for the seed of the labels that are drawn.
        """
        training = model.training
        model.eval()
        seed_generators(model.device, run_seed(), FISHER_SEED, part)
        losses = (self._loss(model, batch.to(model.device)) for batch in examples)
        found = mean_squared_gradients(losses, {n: p for n, p in model.named_parameters() if p.requires_grad})
        model.train(training)
        return found

    def _loss(self, model: Module, batch: TokenBatch) -> Tensor:
        """- log p of the labels of a row: those that the model draws, or its own."""
        if self.fisher == "empirical":
            return model.loss(model.visible(batch)).mean()
        assert isinstance(model, Classifies) and batch.labels is not None
        outputs = model.outputs(batch)
        if not isinstance(outputs, Tensor) or outputs.shape[:-1] != batch.labels.shape:
            raise UserError(
                f"ElasticWeights: {type(model).__name__} has no logits for each label to draw labels from: set fisher to "
                "empirical"
            )
        drawn = torch.distributions.Categorical(logits=outputs.detach().float()).sample()
        labels = torch.where(batch.labels == IGNORE_INDEX, batch.labels, drawn)
        return model.loss_of(outputs, replace(batch, labels=labels)).mean()


def mean_squared_gradients(losses: Iterable[Tensor], parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The mean of the squared gradient of each loss, by the name of the parameter. It leaves `.grad` alone."""
    sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    number = 0
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for total, gradient in zip(sums.values(), gradients, strict=True):
            if gradient is not None:
                total += gradient.detach() ** 2
        number += 1
    return {name: total / max(number, 1) for name, total in sums.items()}
