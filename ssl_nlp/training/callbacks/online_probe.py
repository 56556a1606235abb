"""Scores of a suite while the training goes on."""

from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Evaluator, PoolingEmbedder, get_suite
from ssl_nlp.evaluation.cache import embed_in_memory
from ssl_nlp.evaluation.capabilities import Embedder, lacks
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.seeding import random_state_kept
from ssl_nlp.training.module import Module


class OnlineProbe(Callback):
    """Runs evaluators of a suite at every validation and logs `probe/SUITE/EVALUATOR/METRIC`.

    The evaluators have their own data and see the model in evaluation mode, with the pooling that suits each of them best,
    as in `ssl-nlp evaluate`: the training is to the bit the same as without them. A method that is sharded among processes
    is not evaluated.

    Args:
        suite: `docs`, or another one that `ssl-nlp evaluate --suite` knows.
        config: a YAML file that describes a suite of your own files, instead.
        evaluators: names such as `knn`, which means `knn` itself or the `knn` of every data set.
    """

    def __init__(self, suite: str = "docs", config: str | None = None, evaluators: Sequence[str] = ("knn",)) -> None:
        self.suite, self.config, self.names = suite, config, tuple(evaluators)
        self._evaluators: dict[str, Evaluator] = {}
        self._prefix = ""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        suite = get_suite(self.suite, self.config)
        for name in self.names:
            found = {key: e for key, e in suite.evaluators.items() if name in (key, key.rpartition(".")[2])}
            if not found:
                raise UserError(
                    f"OnlineProbe: {suite.name} has no evaluator {name!r}: use {', '.join(suite.evaluators)}"
                )
            self._evaluators |= found
        self._prefix = f"probe/{suite.name}"

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Module)
        if trainer.state.fn != "fit" or trainer.sanity_checking or pl_module.sharded or not trainer.is_global_zero:
            return
        texts = [text for evaluator in self._evaluators.values() for text in evaluator.texts]
        with random_state_kept(pl_module.device):
            able = isinstance(pl_module, PoolingEmbedder) and lacks(pl_module, Embedder) is None
            poolings = Poolings(embed_in_memory(pl_module, texts)) if texts and able else None
            for name, result in run_evaluators(self._evaluators, pl_module, poolings).results.items():
                for metric, value in result.metrics.items():
                    pl_module.log(f"{self._prefix}/{name}/{metric}", value, rank_zero_only=True)
