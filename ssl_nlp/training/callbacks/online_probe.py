"""What the embeddings are worth while the training goes on."""

from collections.abc import Sequence

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Embedder, Evaluator, get_suite
from ssl_nlp.evaluation.cache import MemoryEmbedder
from ssl_nlp.training.module import Module


class OnlineProbe(Callback):
    """Asks evaluators of a suite at every validation and logs `probe/SUITE/EVALUATOR/METRIC`.

    The evaluators have their own data and see frozen embeddings, in evaluation mode: the training is to the bit what it
    would be without them. A method that is sharded among processes is not asked.

    Args:
        suite: `docs`, or another one that `ssl-nlp evaluate --suite` knows.
        config: a YAML file that describes a suite of one's own files, instead.
        evaluators: those to ask, such as `knn`: with this name, or with it behind the name of a data set.
    """

    def __init__(self, suite: str = "docs", config: str | None = None, evaluators: Sequence[str] = ("knn",)) -> None:
        self.suite, self.config, self.names = suite, config, tuple(evaluators)
        self._evaluators: dict[str, Evaluator] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        suite = get_suite(self.suite, self.config)
        for name in self.names:
            asked = {key: e for key, e in suite.evaluators.items() if name in (key, key.rpartition(".")[2])}
            if not asked:
                raise UserError(
                    f"OnlineProbe: {suite.name} has no evaluator {name!r}: use {', '.join(suite.evaluators)}"
                )
            self._evaluators |= {f"probe/{suite.name}/{key}": evaluator for key, evaluator in asked.items()}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Module) and isinstance(pl_module, Embedder)
        if trainer.state.fn != "fit" or trainer.sanity_checking or pl_module.sharded or not trainer.is_global_zero:
            return
        texts = [text for evaluator in self._evaluators.values() for text in evaluator.texts]
        with torch.random.fork_rng([pl_module.device] if pl_module.device.type == "cuda" else []):
            embedder = MemoryEmbedder(pl_module, texts)
            for name, evaluator in self._evaluators.items():
                for metric, value in evaluator(embedder).metrics.items():
                    pl_module.log(f"{name}/{metric}", value, rank_zero_only=True)
