"""The score of one evaluator on its validation items at some steps of a training."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import get_suite
from ssl_nlp.evaluation.cache import embed_in_memory
from ssl_nlp.evaluation.capabilities import lacks
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.run import validated
from ssl_nlp.evaluation.suite import with_validation_items
from ssl_nlp.lightning_internals import step_done
from ssl_nlp.seeding import random_state_kept
from ssl_nlp.training.module import Module


class ValidationScore(Callback):
    """Logs `eval_valid/SUITE/EVALUATOR/METRIC` after some steps: a number to choose settings by, whatever the method is.

    No test item is read. As with `OnlineProbe`, the training is to the bit the same as without it. A method that is sharded
    among processes is not evaluated.

    Args:
        steps: the steps of the optimizer after which the score is measured.
        suite: `docs`, or another one that `ssl-nlp evaluate --suite` knows.
        config: a YAML file that describes a suite of your own files, instead.
        evaluator: its name in the suite.
    """

    def __init__(
        self, steps: Sequence[int], suite: str = "docs", config: str | None = None, evaluator: str = "linear_probe"
    ) -> None:
        self.steps, self.suite, self.config, self.name = frozenset(steps), suite, config, evaluator
        self._evaluator: Evaluator | None = None
        self._prefix = ""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        suite = get_suite(self.suite, self.config)
        self._evaluator = with_validation_items(suite, self.name)
        if reason := lacks(pl_module, self._evaluator.needs):
            raise UserError(f"ValidationScore: {reason}, so {self.name} cannot score it: use another evaluator")
        self._prefix = f"eval_valid/{suite.name}/{self.name}"

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, Module)
        step = trainer.global_step
        if step not in self.steps or pl_module.sharded or not trainer.is_global_zero or not step_done(trainer):
            return
        assert self._evaluator is not None
        with random_state_kept(pl_module.device):
            result = validated(self._evaluator, pl_module, partial(embed_in_memory, pl_module))
        for logger in trainer.loggers:
            logger.log_metrics({f"{self._prefix}/{result.primary_metric}": result.primary}, step)
