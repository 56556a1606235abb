"""A task among the objectives of a `MultiObjective`: it alone sees the labels, and is what it would be alone."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ssl_nlp.corpora import Document
from ssl_nlp.encoders import Trained
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM, MaskedLM, Method, MultiObjective
from ssl_nlp.runs import checkpoint
from ssl_nlp.tasks import Classification, Tagging
from tests.corpus import random_texts
from tests.tasks.made import FAST, QUIET, data_of, fitted, tiny
from tests.tasks.test_tagging import people


class Curious(MaskedLM):
    """Keeps the labels of what it is shown."""

    def loss(self, batch):
        vars(self).setdefault("seen", []).append(batch.labels)
        return super().loss(batch)


def tags(**settings):
    return data_of(list(people()), **{"labels": "tags"} | settings)


def both(dropout=0.0, **settings):
    return MultiObjective(tiny(dropout=dropout), [Curious(), Tagging(dropout=dropout)], optimization=FAST, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A method, its data, its scores before and after the training, and a checkpoint."""
    folder, method, data = tmp_path_factory.mktemp("both"), both(), tags()
    [before] = Trainer(default_root_dir=folder, accelerator="cpu", **QUIET).validate(method, data, verbose=False)
    trainer = Trainer(default_root_dir=folder, accelerator="cpu", max_steps=60, max_epochs=-1, **QUIET)
    trainer.fit(method, datamodule=data)
    [after] = trainer.validate(method, datamodule=data, verbose=False)
    trainer.save_checkpoint(folder / "a.ckpt")
    return method.eval(), data, before, after, folder / "a.ckpt"


def test_it_learns_the_tags_and_the_text_and_shows_the_labels_to_the_task_alone(trained):
    method, _, before, after, _ = trained
    for name in ("loss/curious/masked_token", "loss/tagging/tagging"):
        assert after[f"val/{name}"] < before[f"val/{name}"]
    assert after["val/tagging/f1"] > 0.9 > before["val/tagging/f1"]
    assert {"val/tagging/accuracy", "val/curious/perplexity", "val/curious/bits_per_byte"} <= after.keys()
    assert after["val/loss"] == pytest.approx(
        after["val/loss/curious/masked_token"] + after["val/loss/tagging/tagging"], rel=1e-5
    )
    seen = method.objectives["curious"].seen
    assert len(seen) > 60 and all(labels is None for labels in seen)


def test_the_task_is_what_it_is_alone_with_these_weights(trained, tmp_path):
    method, data, _, after, _ = trained
    part = method.objectives["tagging"]
    alone = Tagging(tiny(), dropout=0.0)
    alone.connect_data(data, "validate")
    alone.encoder.load_state_dict(method.encoder.state_dict())
    alone.head.load_state_dict(part.head.state_dict())
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", **QUIET)
    [scores] = trainer.validate(alone, datamodule=data, verbose=False)
    for name in ("f1", "accuracy", "precision", "recall"):
        assert after[f"val/tagging/{name}"] == scores[f"val/{name}"]
    assert after["val/loss/tagging/tagging"] == pytest.approx(scores["val/loss"], rel=1e-6)
    assert part.last_result.metrics == alone.last_result.metrics
    assert part.predict(["Ada Lovelace went"]) == alone.predict(["Ada Lovelace went"])
    documents = list(data.corpus.documents("valid"))[:1]
    shown = {row["objective"]: row["sample"] for row in method.sample_documents(documents)}
    assert shown.keys() == {"curious", "tagging"} and "Ada/B-PER" in shown["tagging"]


def test_a_process_that_has_not_imported_the_tasks_loads_it_and_nothing_else_that_it_names(trained, monkeypatch):
    import_module = checkpoint.import_module
    imported = []
    monkeypatch.setattr(checkpoint, "import_module", lambda name: imported.append(name) or import_module(name))
    assert isinstance(Method.load_from_checkpoint(trained[-1]).objectives["tagging"], Tagging)
    assert {*imported} == {"ssl_nlp.methods", "ssl_nlp.tasks"}
    imported.clear()
    for path in ("ssl_nlp.commands.demo.Anything", "this.Anything", "ssl_nlp.tasks.sub.Anything"):
        with pytest.raises(UserError, match="which is not known"):
            checkpoint.find_class(path, Method)
    assert not imported


def test_its_checkpoint_tags_and_starts_a_task(trained, tmp_path):
    method, data, _, _, path = trained
    loaded = Method.load_from_checkpoint(path)
    part = loaded.objectives["tagging"]
    assert (part.classes, part.characters) == (["B-PER", "I-PER", "O"], False)
    assert part.predict(["Ada Lovelace went"]) == method.objectives["tagging"].predict(["Ada Lovelace went"])
    task = Tagging(Trained(str(path)), optimization=FAST)
    assert task.tokenizer_wanted.fingerprint() == method.tokenizer.fingerprint()
    task.connect_data(data, "validate")
    assert torch.equal(task.embed(["Ada went"]), method.embed(["Ada went"]))


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_run_resumed_from_a_checkpoint_ends_with_the_same_bits(tmp_path):
    """With dropout, and with two batches accumulated into each step."""

    def fit(checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
        method = both(dropout=0.1)
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=2)
        trainer = Trainer(
            default_root_dir=tmp_path, accelerator="cpu", max_steps=3, max_epochs=-1, limit_val_batches=0,
            accumulate_grad_batches=2, callbacks=[] if checkpoint else [keep], **QUIET | {"enable_checkpointing": True},
        )  # fmt: skip
        trainer.fit(method, tags(), ckpt_path=checkpoint, weights_only=True)
        return method.state_dict()

    whole, resumed = fit(), fit(tmp_path / "step=2.ckpt")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())


@pytest.mark.parametrize(("given", "expected"), [(None, True), (False, False)])
def test_a_resumed_training_keeps_what_its_checkpoint_says_about_characters(trained, given, expected):
    _, data, _, _, path = trained
    saved = torch.load(path, weights_only=True)
    described = saved["ssl_nlp"]["method"]["init_args"]["objectives"][1]["init_args"]
    described["characters"] = True  # as an earlier version may have decided
    resumed = MultiObjective(tiny(dropout=0.0), [Curious(), Tagging(dropout=0.0, characters=given)])
    resumed.connect_data(data, "fit")
    assert resumed.objectives["tagging"].characters is False
    resumed.trainer = Trainer(accelerator="cpu", **QUIET)
    resumed.on_load_checkpoint(saved)
    kept = resumed.description()["init_args"]["objectives"][1]["init_args"]["characters"]
    assert resumed.objectives["tagging"].characters is kept is expected


def test_texts_without_tags_are_learned_from_as_texts(tmp_path):
    documents = [Document(d.text, d.label if n % 3 else None) for n, d in enumerate(people(40))]
    scores = fitted(both(), data_of(documents, labels="tags"), tmp_path, steps=2)
    assert scores["val/loss/curious/masked_token"] > 0


def test_what_a_task_counts_in_the_training_split_it_counts_in_company_too(tmp_path):
    documents = [Document(text, "rare" if n % 5 == 1 else "usual") for n, text in enumerate(random_texts(40))]
    method = MultiObjective(tiny(), [MaskedLM(), Classification(class_weights="balanced")])
    fitted(method, data_of(documents, labels="class"), tmp_path, steps=1)
    alone = Classification(tiny(), class_weights="balanced")
    alone.connect_data(data_of(documents, labels="class"), "fit")
    weights = method.objectives["classification"].weights
    assert torch.equal(weights, alone.weights) and weights[0] != weights[1]


def test_it_sees_in_the_direction_that_its_objectives_ask_for():
    for objectives, causal in (
        ([Tagging()], None),
        ([CausalLM(), Tagging()], True),
        ([CausalLM(), Tagging(causal=False)], False),
        ([MaskedLM(), Tagging()], False),
    ):
        assert MultiObjective(tiny(), objectives).causal is causal


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"labels": None},
            "Tagging learns from labels of the kind 'tags', and the batches carry none: set data.labels",
        ),
        (
            {"labels": "tags", "unit": "sentence", "length": 64},
            "data.length 64 is longer than the encoder's max_length",
        ),
    ],
)
def test_data_that_do_not_fit_a_task_are_refused_in_one_line(settings, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        fitted(both(), tags(**settings), tmp_path, steps=1)
