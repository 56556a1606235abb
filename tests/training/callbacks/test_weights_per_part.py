"""Weights of its own for each part: whoever evaluates a part uses them."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import ContinualDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.tasks import Classification
from ssl_nlp.training import Optimization
from ssl_nlp.training.callbacks import WeightsPerPart
from tests.data.parted import CLASSES, write

STEPS = 6  # on each part


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    files = {name: write(folder / f"{name}.tsv", 10, seed) for seed, name in enumerate(("train", "valid", "test"))}

    def module():
        corpus = TextFiles(**files, text="text", label="intent", part="domain")
        settings = TokenizerSettings(vocab_size=400)
        return ContinualDataModule(
            corpus,
            steps_per_part=STEPS,
            tokenizer=settings,
            unit="text",
            labels="class",
            length=24,
            batch_size=8,
            seed=0,
        )

    return module


def trainer(folder, *callbacks):
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    callbacks = [WeightsPerPart(), *callbacks]
    return Trainer(default_root_dir=folder, accelerator="cpu", max_epochs=1, callbacks=callbacks, **quiet)


class Halfway(Callback):
    """Saves a checkpoint in the middle of the second part."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == STEPS + STEPS // 2:
            trainer.save_checkpoint(self.path)


def task():
    torch.manual_seed(0)
    encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=24)
    return Classification(encoder, optimization=Optimization(learning_rate=0.02, warmup=0))


def kept(path):
    return torch.load(path, weights_only=True)["callbacks"]["WeightsPerPart"]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The folder of a checkpoint at the end, and of one in the middle of the second part."""
    folder = tmp_path_factory.mktemp("trained")
    run = trainer(folder, Halfway(folder / "half.ckpt"))
    run.fit(task(), data())
    run.save_checkpoint(folder / "whole.ckpt")
    return folder


def accuracies(path, module, split, weights):
    """The accuracy on each part of a split, of a task with the weights of the part."""
    model = Classification.load_from_checkpoint(path)
    found = {}
    for part, own in zip(CLASSES, weights, strict=True):
        model.load_state_dict(model.state_dict() | own)
        documents = [document for document in module.corpus.documents(split) if document.part == part]
        right = [p == d.label for p, d in zip(model.predict([d.text for d in documents]), documents, strict=True)]
        found[part] = sum(right) / len(right)
    return found


@pytest.mark.parametrize("split", ["valid", "test"])
def test_each_part_is_evaluated_with_its_weights(split, trained, data, tmp_path):
    path, module = trained / "whole.ckpt", data()
    run = trainer(tmp_path)
    evaluate = run.validate if split == "valid" else run.test
    model = Classification.load_from_checkpoint(path)
    [logged] = evaluate(model, datamodule=module, ckpt_path=path, weights_only=True, verbose=False)
    prefix = "val" if split == "valid" else "test"
    found = {part: logged[f"{prefix}/accuracy/{part}"] for part in CLASSES}
    weights = kept(path)["kept"]
    assert found == pytest.approx(accuracies(path, module, split, weights))
    assert found != pytest.approx(accuracies(path, module, split, [weights[-1]] * 3))  # those of the model
    assert all(
        torch.equal(model.get_parameter(name), weight) for name, weight in weights[-1].items()
    )  # which it has back


def test_a_prediction_of_the_test_split_uses_the_weights_of_each_part(trained, data, tmp_path):
    path, module = trained / "whole.ckpt", data()
    model = Classification.load_from_checkpoint(path)
    found = torch.cat(trainer(tmp_path).predict(model, datamodule=module, ckpt_path=path, weights_only=True))
    expected = []
    for batch in module.test_dataloader():
        model.load_state_dict(model.state_dict() | kept(path)["kept"][module.parts_of("test")[int(batch.documents[0])]])
        with torch.no_grad():
            expected.append(model.eval().embed_batch(model.visible(batch)))
    torch.testing.assert_close(found, torch.cat(expected))


def test_a_part_that_was_being_trained_has_the_weights_of_the_model_and_later_ones_the_start(trained, data, tmp_path):
    path, module = trained / "half.ckpt", data()
    model = Classification.load_from_checkpoint(path)
    own = {name: p.detach().clone() for name, p in model.named_parameters()}
    [logged] = trainer(tmp_path).test(model, datamodule=module, ckpt_path=path, weights_only=True, verbose=False)
    state = kept(path)
    expected = accuracies(path, module, "test", [state["kept"][0], own, state["start"]])
    assert {part: logged[f"test/accuracy/{part}"] for part in CLASSES} == pytest.approx(expected)


def test_weights_that_nobody_has_given_are_asked_for(trained, data, tmp_path):
    with pytest.raises(UserError, match="in the checkpoint of the training: give ckpt_path"):
        trainer(tmp_path).test(Classification.load_from_checkpoint(trained / "whole.ckpt"), datamodule=data())
