import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import get_suite
from ssl_nlp.evaluation.cache import embed_in_memory
from ssl_nlp.evaluation.capabilities import Searcher
from ssl_nlp.evaluation.classification import NearestNeighbours
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.training.callbacks import ValidationScore
from tests.training.callbacks.test_online_probe import config, fit

__all__ = ["config"]


class Kept(Logger, Callback):
    """Keeps what is logged."""

    name = version = "kept"

    def __init__(self):
        super().__init__()
        self.logged = []

    def on_fit_start(self, trainer, pl_module):
        trainer.loggers = [self]

    def log_metrics(self, metrics, step=None):
        self.logged += [(step, name, value) for name, value in metrics.items() if name.startswith("eval_valid")]

    def log_hyperparams(self, params, *args, **kwargs):
        """Nothing."""


def test_it_scores_the_validation_items_after_some_steps_and_training_is_the_same_without_it(tmp_path, config):
    kept = Kept()
    score = ValidationScore([3, 4], config=config, evaluator="kind.knn")
    method, metrics, losses = fit(tmp_path, kept, score)
    _, metrics_alone, losses_alone = fit(tmp_path)
    assert losses == losses_alone
    assert metrics["val/loss"] == metrics_alone["val/loss"]
    assert [(step, name) for step, name, _ in kept.logged] == [
        (s, "eval_valid/animals/kind.knn/accuracy") for s in (3, 4)
    ]
    evaluator = get_suite("files", config).evaluators["kind.knn"]
    expected = Poolings(embed_in_memory(method, evaluator.texts)).evaluate({"knn": evaluator})["knn"]
    assert kept.logged[-1][2] == pytest.approx(expected.validation)


def test_an_evaluator_that_the_method_cannot_serve_is_refused_before_the_training(tmp_path, config, monkeypatch):
    monkeypatch.setattr(NearestNeighbours, "needs", Searcher)
    with pytest.raises(UserError, match="MaskedLM writes no text from another, so kind.knn cannot score it"):
        fit(tmp_path, ValidationScore([1], config=config, evaluator="kind.knn"))


def test_an_evaluator_without_validation_items_is_refused(tmp_path, config):
    with pytest.raises(UserError, match="animals: the evaluator 'kind.geometry' has no validation items: use one of"):
        fit(tmp_path, ValidationScore([1], config=config, evaluator="kind.geometry"))
