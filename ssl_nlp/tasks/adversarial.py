"""Adversarial training on embeddings: the loss where a small change of the token embeddings raises it most.

    loss = loss(E) + weight * loss(E + r),    r = argmax over |r| <= eps |E| of loss(E + r)

E are the embeddings (T, E) of a text, and norms are those of all its tokens together. `fgm` takes one step along the
gradient (Miyato et al., arXiv:1605.07725, equation 6), `pgd` several steps, each projected back into the ball (Madry et
al., arXiv:1706.06083, section 2.1, with the L2 norm). Miyato normalises embeddings so that eps has a meaning; here eps is
a share of |E|, which means the same for every encoder and length.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.tasks.base import Task
from ssl_nlp.tasks.regularizers import Regularizer
from ssl_nlp.tasks.sequence_to_sequence import SequenceToSequence
from ssl_nlp.training.ranks import gather_objects
from ssl_nlp.training.sums import Loss


class Adversarial(Regularizer):
    """Adds the loss under attack, and logs the metric of the task under the same attack.

    A validation logs it as `val/robust_METRIC`, a test as `test/robust_METRIC`.

    Args:
        attack: `fgm`, one step, or `pgd`, several.
        eps: the greatest length of the change, as a share of that of the embeddings.
        steps: of `pgd`.
        step_size: of each step of `pgd`, as a share of eps.
        weight: of the loss under attack. 0 trains as usual, and only validates under attack.

    Raises:
        UserError: in `setup`, if the encoder is compiled or sharded, or if the task is a SequenceToSequence of the form
            `decoder_only`, which reads its sources a second time to write from them.
    """

    def __init__(
        self,
        attack: Literal["fgm", "pgd"] = "fgm",
        eps: float = 0.1,
        steps: int = 3,
        step_size: float = 0.5,
        weight: float = 1.0,
    ) -> None:
        problems = {
            f"attack {attack!r} is unknown: use fgm or pgd": attack not in ("fgm", "pgd"),
            f"eps must be above 0, not {eps}": not 0 < eps < float("inf"),
            f"steps must be 1 or more, not {steps}": steps < 1,
            f"step_size must be above 0, not {step_size}": not 0 < step_size < float("inf"),
            f"weight must be 0 or more, not {weight}": not 0 <= weight < float("inf"),
        }
        refuse(problems, "Adversarial")
        self.attack, self.eps, self.weight = attack, eps, weight
        self.steps, self.step_size = (steps, step_size) if attack == "pgd" else (1, 1.0)
        self._items: list[tuple[int, Any]] = []
        self._metrics: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if isinstance(pl_module, SequenceToSequence) and pl_module.form == "decoder_only":
            raise UserError(
                "Adversarial cannot score the texts that a decoder_only SequenceToSequence writes, because it reads the "
                "sources again, unattacked: set model.form to encoder_decoder, or leave Adversarial out"
            )
        if stage == "fit" and isinstance(pl_module, Task) and (pl_module.compile_encoder or pl_module.sharded):
            raise UserError(
                "Adversarial changes embeddings inside the encoder: leave compile out, and use ddp, not fsdp"
            )

    def extend(self, task: Task, batch: TokenBatch, outputs: Any, loss: Loss) -> Loss:
        if not self.weight:
            return loss
        with changed(task.encoder.embedding, self.worst_change(task, batch)):
            attacked = task.loss_of(task.outputs(batch), batch)
        terms = {
            f"adversarial_{name}": term._replace(weight=term.weight * self.weight)
            for name, term in attacked.terms.items()
        }
        return Loss(loss.terms | terms, loss.metrics)

    def targets(self, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self.weight:
            return dict(targets)
        own = {name: number for name, number in targets.items() if name != "r_drop"}
        return {**targets, **{f"adversarial_{name}": number for name, number in own.items()}}

    def worst_change(self, task: Task, batch: TokenBatch) -> list[Tensor]:
        """The changes to add to the outputs (B, T, E) of the token embedding, in the order of its calls."""
        embedding = task.encoder.embedding
        changes: list[Tensor] = []
        sizes: list[Tensor] = []
        for step in range(self.steps):
            with torch.enable_grad():
                watch = (
                    noted(embedding, task.encoder.pad_id, changes, sizes) if step == 0 else changed(embedding, changes)
                )
                with watch:
                    loss = task.loss_of(task.outputs(batch), batch)
                total = torch.stack([term.total * term.weight for term in loss.terms.values()]).sum()
                gradients = torch.autograd.grad(total, changes, allow_unused=True) if total.requires_grad else []
            with torch.no_grad():
                for change, gradient, size in zip(changes, gradients, sizes, strict=True):
                    if gradient is not None:
                        change += self.step_size * self.eps * size * _direction(gradient)
                        change *= (self.eps * size / _length(change)).clamp(max=1.0)
        return [change.detach() for change in changes]

    # ---------------------------------------------------------------------------------------------- validation and test

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._items = []

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TokenBatch, *args: Any, **kwargs: Any
    ) -> None:
        if self not in getattr(pl_module, "regularizers", []):
            return
        assert isinstance(pl_module, Task)
        with torch.inference_mode(False):  # gradients need tensors of their own
            batch = batch.clone()
            assert batch.documents is not None
            with trainer.precision_plugin.forward_context():
                change = self.worst_change(pl_module, batch)
                with torch.no_grad():
                    with changed(pl_module.encoder.embedding, change):
                        attacked = pl_module.outputs(batch)
                    found = pl_module.items(attacked, batch)  # a decoder that writes may share the embedding
            self._items += zip(batch.documents.tolist(), found, strict=True)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self not in getattr(pl_module, "regularizers", []):
            return
        assert isinstance(pl_module, Task)
        items = sorted(gather_objects(self._items), key=lambda item: item[0])
        self._metrics = pl_module.result([item for _, item in items]).metrics
        name = pl_module.monitor[0]
        if name in self._metrics:
            pl_module.log(f"{'test' if trainer.testing else 'val'}/robust_{name}", self._metrics[name])

    on_test_epoch_end = on_validation_epoch_end

    def details(self) -> dict[str, Any]:
        return {"robust": {"attack": self.attack, "eps": self.eps, "steps": self.steps, "metrics": self._metrics}}


def _length(rows: Tensor) -> Tensor:
    """(B, 1, 1): the norm of each row (T, E), not below the least positive number."""
    return rows.flatten(1).norm(dim=1).clamp(min=torch.finfo(rows.dtype).tiny)[:, None, None]


def _direction(gradient: Tensor) -> Tensor:
    """The gradient (B, T, E) with each row at length 1. It is scaled by its greatest entry first, which may be tiny."""
    greatest = gradient.abs().amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
    return gradient / greatest / _length(gradient / greatest)


@contextmanager
def noted(embedding: nn.Embedding, pad_id: int, changes: list[Tensor], sizes: list[Tensor]) -> Iterator[None]:
    """Add zeros with a gradient to each output of an embedding, and note them and the norms (B, 1, 1) of the outputs."""

    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        real = (inputs[0] != pad_id).unsqueeze(-1)
        sizes.append(_length(output.detach() * real))
        changes.append(torch.zeros_like(output, requires_grad=True))
        return output + changes[-1]

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def changed(embedding: nn.Embedding, changes: list[Tensor]) -> Iterator[None]:
    """Add the changes to the outputs of an embedding, in the order of its calls."""
    left = iter(changes)

    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return output + next(left)

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
