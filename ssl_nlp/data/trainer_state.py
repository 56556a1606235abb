"""The state of the trainer that the data depend on, and defaults without one. No other file of the data reads it."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lightning.pytorch import Trainer

from ssl_nlp import lightning_internals as internals
from ssl_nlp.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ssl_nlp.data.datamodule import TextDataModule


@runtime_checkable
class Model(Protocol):
    """A model that meets the data: the data module asks it for a tokenizer, and then calls `connect_data` once."""

    @property
    def tokenizer_wanted(self) -> Tokenizer | str | None:
        """The tokenizer that the data must use, the name of a pretrained one, or None for any."""

    def connect_data(self, data: "TextDataModule", stage: str) -> None:
        """Create what depends on the vocabulary, and check the data. Called before the `setup` of any callback."""


def model_of(trainer: Trainer | None) -> Model | None:
    """The model that a trainer runs; None if there is none, or if it is not a `Model`."""
    model = None if trainer is None else trainer.lightning_module
    return model if isinstance(model, Model) else None


def stage_of(trainer: Trainer | None) -> str:
    """`fit`, `validate`, `test` or `predict`."""
    function = None if trainer is None else trainer.state.fn
    return "fit" if function is None else function.value


def rank_and_ranks(trainer: Trainer | None) -> tuple[int, int]:
    """The number of this process among all that train together, and how many these are."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def overfits(trainer: Trainer | None) -> bool:
    """Whether the same few batches are trained on in every epoch (`overfit_batches`)."""
    return trainer is not None and trainer.overfit_batches > 0


def is_on_cuda(trainer: Trainer | None) -> bool:
    """Whether batches go to a GPU, and are faster from page-locked memory."""
    return trainer is not None and trainer.strategy.root_device.type == "cuda"


def batches_done(trainer: Trainer | None) -> int:
    """The number of batches that the training has used; Lightning keeps the count in its checkpoints."""
    return 0 if trainer is None else internals.batches_used(trainer)


def epoch_and_position(trainer: Trainer | None) -> tuple[int, int]:
    """The epoch and the number of its batches that are done."""
    return (0, 0) if trainer is None else internals.epoch_and_position(trainer)
