"""Loads every method and task of this package, so that configurations and checkpoints can name them."""

from ssl_nlp.commands.accelerator import accelerator
from ssl_nlp.methods import Method
from ssl_nlp.tasks import Task
from ssl_nlp.training.texts import TextModule

MODELS = (Method, Task)


def load_model(checkpoint: str) -> TextModule:
    """The method or task of a checkpoint, in evaluation mode, on the accelerator.

    Raises:
        UserError: as `TextModule.load_from_checkpoint`.
    """
    return TextModule.load_from_checkpoint(checkpoint).to(accelerator())
