import json

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import get_suite
from ssl_nlp.evaluation.cache import embed_in_memory
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


def test_the_numbers_are_those_of_the_evaluators_and_training_is_the_same_without_them(tmp_path, config):
    watched, logged, losses = fit(
        tmp_path, OnlineProbe(config=config, evaluators=["knn", "kind.linear_probe", "geometry", "language_modelling"])
    )
    alone, metrics, losses_alone = fit(tmp_path)
    assert losses == losses_alone
    assert metrics["val/loss"] == logged["val/loss"]
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)
    names = ("kind.knn", "kind.linear_probe", "kind.geometry", "language_modelling")
    evaluators = {name: get_suite(config=config).evaluators[name] for name in names}
    texts = [text for evaluator in evaluators.values() for text in evaluator.texts]
    found = run_evaluators(evaluators, watched, Poolings(embed_in_memory(watched, texts))).results
    for name in names:
        for metric, value in found[name].metrics.items():
            assert float(logged[f"probe/animals/{name}/{metric}"]) == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert not any("few_labels" in name for name in logged)


def test_the_score_of_an_objective_is_logged_among_the_others(tmp_path, config):
    several = MultiObjective(encoder(), [MaskedLM(), SimCLR()])
    _, logged, _ = fit(tmp_path, OnlineProbe(config=config, evaluators=["language_modelling"]), method=several)
    assert "probe/animals/masked_lm.language_modelling/pseudo_bits_per_byte" in logged


def test_an_evaluator_that_the_suite_lacks_is_refused(tmp_path, config):
    with pytest.raises(UserError, match=r"no evaluator 'kn': use kind.knn, kind.linear_probe"):
        fit(tmp_path, OnlineProbe(config=config, evaluators=["kn"]))


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
    assert 0 <= float(rows[-1]["probe/animals/kind.knn/accuracy"]) <= 1
