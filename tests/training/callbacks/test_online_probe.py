import json

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import get_suite
from ssl_nlp.evaluation.cache import embed_in_memory
from ssl_nlp.evaluation.capabilities import Searcher
from ssl_nlp.evaluation.classification import NearestNeighbours
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.methods import MaskedLM, MultiObjective, SimCLR
from ssl_nlp.training.callbacks import OnlineProbe
from tests.corpus import ListCorpus, random_texts


@pytest.fixture
def config(tmp_path):
    rows = [
        {"text": f"the {animal} sees {i} red birds", "label": animal} for i in range(20) for animal in ("dog", "cat")
    ]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "task": "classification",
        "train": str(tmp_path / "texts.jsonl"),
        "label": "label",
        "valid": 0.2,
        "test": 0.3,
    }
    path = tmp_path / "suite.yaml"
    path.write_text(json.dumps({"name": "animals", "data": {"kind": data}}))
    return str(path)


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(float(outputs["loss"]))


class Kept(Logger, Callback):
    """Keeps the scores that are logged."""

    name = version = "kept"

    def __init__(self):
        super().__init__()
        self.logged = []

    def on_fit_start(self, trainer, pl_module):
        trainer.loggers = [self]

    def log_metrics(self, metrics, step=None):
        if any(name.startswith("eval_valid") for name in metrics):
            self.logged.append((step, metrics))

    def log_hyperparams(self, params, *args, **kwargs):
        """Nothing."""


def encoder():
    return Transformer(size=None, dim=16, layers=2, heads=2, max_length=64, dropout=0.1)


def fit(tmp_path, *callbacks, method=None):
    torch.manual_seed(0)
    method = method or MaskedLM(encoder())
    corpus = ListCorpus(random_texts(60), random_texts(20, seed=1))
    data = TextDataModule(corpus, TokenizerSettings(vocab_size=320), unit="sentence", length=64, batch_size=4, seed=0)
    losses = Losses()
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=4, val_check_interval=2, limit_val_batches=1, num_sanity_val_steps=0,
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[losses, *callbacks],
    )  # fmt: skip
    trainer.fit(method, data)
    return method, trainer.callback_metrics, losses.seen


NAMES = ("kind.knn", "kind.linear_probe", "kind.few_labels_8", "language_modelling")
METRICS = dict.fromkeys(NAMES[:-1], "accuracy") | {NAMES[-1]: "pseudo_bits_per_byte"}


def scores(method, config, names):
    """The oracle: the validation values that `evaluate` records beside the test results."""
    evaluators = {name: get_suite(config=config).evaluators[name] for name in names}
    texts = [text for evaluator in evaluators.values() for text in evaluator.texts]
    found = run_evaluators(evaluators, method, Poolings(embed_in_memory(method, texts))).results
    return {
        f"eval_valid/animals/{name}/{METRICS[name]}": pytest.approx(found[name].validation, rel=1e-4) for name in names
    }


def test_the_numbers_are_validation_values_and_training_is_the_same_without_them(tmp_path, config):
    probe = OnlineProbe(config=config, evaluators=["knn", "kind.linear_probe", "few_labels_8", "language_modelling"])
    watched, logged, losses = fit(tmp_path, probe)
    alone, metrics, losses_alone = fit(tmp_path)
    assert losses == losses_alone
    assert metrics["val/loss"] == logged["val/loss"]
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)
    assert {name: float(value) for name, value in logged.items() if "animals" in name} == scores(watched, config, NAMES)


def test_no_test_text_is_embedded_or_scored(tmp_path, config, monkeypatch):
    seen = set()

    def spied(function):
        def kept(self, texts, *args, **kwargs):
            seen.update(texts)
            return function(self, texts, *args, **kwargs)

        return kept

    for name in ("embed_all", "embed", "score"):
        monkeypatch.setattr(MaskedLM, name, spied(getattr(MaskedLM, name)))
    fit(tmp_path, OnlineProbe(config=config, evaluators=["knn", "linear_probe", "language_modelling"]))
    evaluators = get_suite(config=config).evaluators
    probe, language = evaluators["kind.linear_probe"].data, evaluators["language_modelling"]
    assert {*probe.valid.texts, *language.valid} <= seen
    assert seen.isdisjoint([*probe.test.texts, *language.data])


def test_the_steps_can_be_given(tmp_path, config):
    kept = Kept()
    method, metrics, _ = fit(tmp_path, kept, OnlineProbe(config=config, evaluators=["kind.knn"], steps=[3, 4]))
    assert not [name for name in metrics if name.startswith("eval_valid")]
    assert [step for step, _ in kept.logged] == [3, 4]
    assert kept.logged[-1][1] == scores(method, config, ["kind.knn"])


def test_the_score_of_an_objective_is_logged_among_the_others(tmp_path, config):
    several = MultiObjective(encoder(), [MaskedLM(), SimCLR()])
    _, logged, _ = fit(tmp_path, OnlineProbe(config=config, evaluators=["language_modelling"]), method=several)
    assert "eval_valid/animals/masked_lm.language_modelling/pseudo_bits_per_byte" in logged


@pytest.mark.parametrize(
    ("name", "reason"), [("kn", "does not exist: use one of kind.knn, "), ("kind.geometry", "has no validation items")]
)
def test_an_evaluator_that_the_suite_lacks_or_that_has_no_validation_items_is_refused(name, reason, tmp_path, config):
    with pytest.raises(UserError, match=f"animals: the evaluator '{name}' {reason}"):
        fit(tmp_path, OnlineProbe(config=config, evaluators=[name]))


def test_an_evaluator_that_the_method_cannot_serve_is_refused_before_the_training(tmp_path, config, monkeypatch):
    monkeypatch.setattr(NearestNeighbours, "needs", Searcher)
    with pytest.raises(UserError, match="MaskedLM writes no text from another, so kind.knn cannot score it"):
        fit(tmp_path, OnlineProbe(config=config))


def test_a_configuration_can_ask_for_it(tmp_path, config, monkeypatch):
    from ssl_nlp.runs.metrics_csv import read_metrics
    from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts

    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.yaml").write_text(
        json.dumps(
            {
                "trainer": {
                    "callbacks": [
                        {"class_path": "ssl_nlp.training.callbacks.OnlineProbe", "init_args": {"config": config}}
                    ]
                }
            }
        )
    )
    arguments = ["fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(write_texts(tmp_path)), *tiny_encoder()]
    assert run(*arguments, "--config", "probe.yaml", "--run", "a", "--trainer.max_steps=10") == 0
    rows = read_metrics(tmp_path / "runs" / "a" / "metrics.csv")
    assert 0 <= float(rows[-1]["eval_valid/animals/kind.knn/accuracy"]) <= 1
