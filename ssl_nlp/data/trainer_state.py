"""The state of the trainer that the data depend on, and defaults without one. No other file of the data reads it."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lightning.pytorch import Trainer

from ssl_nlp import lightning_internals as internals
from ssl_nlp.corpora.base import Split
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.errors import refuse

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


def splits_of(trainer: Trainer | None) -> tuple[Split, ...]:
    """The splits that the stage reads."""
    stage = stage_of(trainer)
    return ("train", "valid") if stage == "fit" else ("valid" if stage == "validate" else "test",)


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


def accumulated_batches(trainer: Trainer | None) -> int:
    """The number of batches in a step of the optimizer."""
    return 1 if trainer is None else trainer.accumulate_grad_batches


def check_single_pass(trainer: Trainer, batches: int, remedy: str) -> None:
    """Check that a trainer reads all batches of one long epoch, and all of the validation.

    Args:
        batches: in the epoch.
        remedy: the settings that shorten the epoch.

    Raises:
        UserError: it stops earlier, goes on longer, or leaves out batches.
    """
    if trainer.fast_dev_run:
        return
    steps = -(-batches // trainer.accumulate_grad_batches)
    problems = {
        f"max_epochs {trainer.max_epochs}: the parts come once, as one epoch: set it to 1": trainer.max_epochs != 1,
        f"max_steps {trainer.max_steps} ends before the last of the {steps} steps: set it to -1, and {remedy} to less": (
            0 < trainer.max_steps < steps
        ),
        f"limit_train_batches {trainer.limit_train_batches} would leave out parts: set {remedy} instead": (
            trainer.limit_train_batches != 1.0
        ),
        f"limit_val_batches {trainer.limit_val_batches} would leave out parts: leave it out": (
            trainer.limit_val_batches != 1.0
        ),
        f"overfit_batches {trainer.overfit_batches} would leave out parts: leave it out": trainer.overfit_batches != 0,
    }
    refuse(problems, "trainer")


def epoch_and_position(trainer: Trainer | None) -> tuple[int, int]:
    """The epoch and the number of its batches that are done."""
    return (0, 0) if trainer is None else internals.epoch_and_position(trainer)
