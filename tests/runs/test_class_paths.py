"""Configurations of 0.1 name classes by the files that they were in then; today's name public paths only."""

import re
from pathlib import Path

import pytest
import yaml

from ssl_nlp.commands.fit import plan_fit
from ssl_nlp.runs.class_paths import public_path, with_public_paths
from ssl_nlp.runs.run import Run
from tests.runs.test_run import begin

OLD = {
    "ssl_nlp.callbacks.OnlineProbe": "ssl_nlp.training.callbacks.OnlineProbe",
    "ssl_nlp.callbacks.online_probe.OnlineProbe": "ssl_nlp.training.callbacks.OnlineProbe",
    "ssl_nlp.methods.masked_lm.MaskedLM": "ssl_nlp.methods.MaskedLM",
    "ssl_nlp.methods.language_models.masked_lm.MaskedLM": "ssl_nlp.methods.MaskedLM",
    "ssl_nlp.methods.optimization.Optimization": "ssl_nlp.training.Optimization",
    "ssl_nlp.methods.contrastive.Projection": "ssl_nlp.modules.Projection",
    "ssl_nlp.encoders.transformer.Transformer": "ssl_nlp.encoders.Transformer",
}
CONFIG = """
model:
  class_path: ssl_nlp.methods.simclr.SimCLR
  init_args:
    encoder: {class_path: ssl_nlp.encoders.transformer.Transformer, init_args: {size: tiny}}
    views: [{class_path: ssl_nlp.objectives.views.Delete, init_args: {rate: 0.5}}]
    projection: {class_path: ssl_nlp.methods.contrastive.Projection, init_args: {depth: 1}}
    optimization: {class_path: ssl_nlp.methods.optimization.Optimization, init_args: {learning_rate: 0.5}}
data:
  class_path: ssl_nlp.data.datamodule.TextDataModule
  init_args: {unit: sentence, corpus: {class_path: ssl_nlp.corpora.installed_docs.InstalledDocs}}
trainer:
  callbacks: [{class_path: ssl_nlp.callbacks.OnlineProbe, init_args: {suite: docs}}]
"""


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def our_paths(text: str) -> list[str]:
    return re.findall(r"\bssl_nlp\.[\w.]+", text)


@pytest.mark.parametrize("old", OLD)
def test_a_class_is_found_by_its_name(old):
    assert public_path(old) == OLD[old] == public_path(OLD[old])


@pytest.mark.parametrize(
    "other",
    ["ssl_nlp", "ssl_nlp.methods", "ssl_nlp.methods.Unheard", "mine.MaskedLM", "MaskedLM", "see ssl_nlp.a.VAE", ""],
)
def test_other_text_stays_as_it_is(other):
    assert with_public_paths({"a": [other, 1, None]}) == {"a": [other, 1, None]}


def test_old_files_are_read_and_public_paths_written():
    Path("old.yaml").write_text(CONFIG)
    planned = plan_fit(["--config", "old.yaml"])
    Path("new.yaml").write_text(yaml.safe_dump(with_public_paths(yaml.safe_load(CONFIG))))
    assert plan_fit(["--config", "new.yaml", "--run=old-seed0"]) == planned
    model = yaml.safe_load(planned)["model"]["init_args"]
    assert model["optimization"]["learning_rate"] == 0.5
    assert model["projection"]["depth"] == 1
    assert {"ssl_nlp.methods.SimCLR", "ssl_nlp.training.callbacks.OnlineProbe"} <= set(our_paths(planned))
    assert our_paths(planned) == [public_path(path) for path in our_paths(planned)]


def test_old_paths_among_the_arguments():
    arguments = ["--config", "masked_lm", "--model.encoder=ssl_nlp.encoders.transformer.Transformer"]
    arguments += ["--data.corpus", "ssl_nlp.corpora.text_files.TextFiles", "--data.corpus.train=a.txt"]
    arguments += ["--trainer.callbacks+=ssl_nlp.callbacks.OnlineProbe", "--trainer.callbacks.suite=docs"]
    planned = plan_fit([*arguments, "--model", "ssl_nlp.methods.causal_lm.CausalLM"])
    named = {"ssl_nlp.methods.CausalLM", "ssl_nlp.corpora.TextFiles", "ssl_nlp.training.callbacks.OnlineProbe"}
    assert named <= set(our_paths(planned))
    assert our_paths(planned) == [public_path(path) for path in our_paths(planned)]


def test_a_run_that_names_old_paths_resumes():
    run = Run("a")
    begin(run, CONFIG)
    run.check(yaml.safe_dump(with_public_paths(yaml.safe_load(CONFIG))))
