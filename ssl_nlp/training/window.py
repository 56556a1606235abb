"""The batches that are accumulated into one step of the optimizer, whose targets are counted before the first of them."""

from typing import TYPE_CHECKING

from torch import Tensor

from ssl_nlp.data import TextDataModule
from ssl_nlp.errors import UserError
from ssl_nlp.seeding import run_seed, seed_generators
from ssl_nlp.training.ranks import sums_over_ranks

if TYPE_CHECKING:
    from ssl_nlp.training.module import Module


class Window:
    """Accumulated batches.

    Attributes:
        targets: of each term of the loss, over all batches and ranks.
        left: batches that are still to come; 0 before the first one of a window.
    """

    def __init__(self) -> None:
        self.targets: dict[str, Tensor] = {}
        self.left = 0

    def open(self, module: "Module", data: TextDataModule | None, batch_idx: int, number: int) -> None:
        """Count the targets of a window.

        Args:
            module: counts those of a batch.
            data: where the batches come from.
            batch_idx: the place of the first one in the epoch.
            number: batches that were trained on before.

        Raises:
            UserError: the data cannot look ahead.
        """
        if data is None or not data.looks_ahead:
            raise UserError(
                "accumulate_grad_batches needs a TextDataModule, which can look ahead: give the trainer one"
            )
        trainer = module.trainer
        left = max(trainer.num_training_batches - batch_idx, 1)  # Lightning may resume behind the end of an epoch
        self.left = int(min(trainer.accumulate_grad_batches - batch_idx % trainer.accumulate_grad_batches, left))
        targets: dict[str, Tensor] = {}
        for place, batch in enumerate(data.upcoming(self.left)):
            seed_generators(module.device, run_seed(), number + place, module.global_rank)
            for name, count in module.count_targets(module.visible(batch).to(module.device)).items():
                targets[name] = targets.get(name, 0) + count.long()
        self.targets = sums_over_ranks(targets)

    def take(self) -> dict[str, Tensor]:
        """The targets, for the next batch of the window."""
        self.left -= 1
        return self.targets
