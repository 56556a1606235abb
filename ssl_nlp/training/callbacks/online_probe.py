"""Scores on the validation items of a suite while a model trains."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Evaluator, get_suite
from ssl_nlp.evaluation.cache import embed_in_memory
from ssl_nlp.evaluation.run import able_parts, validated
from ssl_nlp.evaluation.suite import with_validation_items
from ssl_nlp.lightning_internals import step_done
from ssl_nlp.seeding import random_state_kept
from ssl_nlp.training.module import Module


class OnlineProbe(Callback):
    """Logs the main metric of evaluators on their validation items as `eval_valid/SUITE/EVALUATOR/METRIC`.

    No test item is embedded or scored, so settings may be chosen by these numbers. The evaluators see the model in
    evaluation mode, with the pooling that suits each of them best: the training is to the bit the same as without them. A
    method that is sharded among processes is not evaluated.

    Args:
        suite: `docs`, or another one that `ssl-nlp evaluate --suite` knows.
        config: a YAML file that describes a suite of your own files, instead.
        evaluators: names such as `knn`, which means `knn` itself or the `knn` of every data set.
        steps: the steps of the optimizer after which the scores are measured; None: at every validation.
    """

    def __init__(
        self,
        suite: str = "docs",
        config: str | None = None,
        evaluators: Sequence[str] = ("knn",),
        steps: Sequence[int] | None = None,
    ) -> None:
        self.suite, self.config, self.names = suite, config, tuple(evaluators)
        self.steps = None if steps is None else frozenset(steps)
        self._evaluators: dict[str, Evaluator] = {}
        self._prefix = ""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        suite = get_suite(self.suite, self.config)
        for name in self.names:
            of_data_sets = [key for key in suite.evaluators if key.rpartition(".")[2] == name]
            for key in [name] if name in suite.evaluators else of_data_sets or [name]:
                self._evaluators[key] = with_validation_items(suite, key)
        for name, evaluator in self._evaluators.items():
            able, reason = able_parts(name, pl_module, evaluator.needs)
            if not able:
                raise UserError(f"OnlineProbe: {reason}, so {name} cannot score it: use another evaluator")
        self._prefix = f"eval_valid/{suite.name}"

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.steps is not None or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        for name, value in self._scores(trainer, pl_module).items():
            pl_module.log(name, value, rank_zero_only=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        step = trainer.global_step
        if self.steps is None or step not in self.steps or not step_done(trainer):
            return
        if scores := self._scores(trainer, pl_module):
            for logger in trainer.loggers:
                logger.log_metrics(scores, step)

    def _scores(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """By name in the log; empty in processes that do not evaluate."""
        assert isinstance(pl_module, Module)
        if pl_module.sharded or not trainer.is_global_zero:
            return {}
        with random_state_kept(pl_module.device):
            results = validated(self._evaluators, pl_module, partial(embed_in_memory, pl_module))
        return {f"{self._prefix}/{name}/{one.primary_metric}": one.primary for name, one in results.items()}
