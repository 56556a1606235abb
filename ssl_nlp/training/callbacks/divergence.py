"""A stop for trainings whose numbers are no longer finite, before they are saved."""

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.errors import UserError
from ssl_nlp.training.module import Module


class Diverged(UserError):
    """The loss or the weights are not finite."""

    status = 1


class Divergence(Callback):
    """Stops a run whose validation loss is not finite, before samples are drawn. `Checkpoints` checks the training."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Module)
        if trainer.state.fn == "fit" and not _everywhere(trainer, pl_module.validation_sums.finite()):
            raise _diverged(trainer, "the validation loss is not finite")


def check(trainer: Trainer, method: Module, weights: bool) -> None:
    """Check the loss since it was last logged and, if `weights` is true, the weights.

    A loss scaler skips steps whose gradients overflow, and the loss of such a step may overflow, too. With one, only the
    weights are checked.

    Raises:
        Diverged: one of them is not finite.
    """
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    if not scaled and not _everywhere(trainer, method.training_sums.finite()):
        raise _diverged(trainer, "the loss is not finite")
    if weights and not _everywhere(trainer, method.finite()):
        raise _diverged(trainer, "the weights are not finite")


def _everywhere(trainer: Trainer, finite: bool) -> bool:
    return trainer.strategy.reduce_boolean_decision(finite, all=True)


def _diverged(trainer: Trainer, sign: str) -> Diverged:
    return Diverged(
        f"the training has diverged, {sign} at step {trainer.global_step:,}. Nothing was saved since then: lower "
        "model.optimization.learning_rate, or set trainer.gradient_clip_val, and start another --run"
    )
