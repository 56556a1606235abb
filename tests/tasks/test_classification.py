"""Classification through the whole way of a batch: corpus, labels, loss, metrics, checkpoint."""

import pytest
import torch
from lightning.pytorch import Trainer

from ssl_nlp.corpora import Document
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.tasks import Classification
from ssl_nlp.training import Optimization
from tests.corpus import ListCorpus

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
WORDS = {"animals": "cat dog horse cow sheep", "fruits": "apple pear plum fig grape"}


class Topics(ListCorpus):
    """Texts of three words, all of one topic."""

    def __init__(self, number=240, classes=("animals", "fruits")):
        self.classes = classes
        super().__init__([f"{number}" for number in range(number)])

    def documents(self, split):
        for number, _ in enumerate(self.texts[split]):
            topic = self.classes[number % len(self.classes)]
            words = WORDS[topic].split()
            yield Document(" ".join(words[(number + step * number) % 5] for step in range(3)) + f" {number}", topic)


def data(**settings):
    given = {"tokenizer": TokenizerSettings(vocab_size=300), "unit": "text", "length": 24, "batch_size": 8}
    return TextDataModule(Topics(), **given | {"labels": "class"} | settings)


def classification(**settings):
    encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=24)
    return Classification(encoder, optimization=Optimization(learning_rate=0.01), **settings)


def fitted(task, module, tmp_path, steps=40):
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_steps=steps, max_epochs=-1, **QUIET)
    trainer.fit(task, datamodule=module)
    return trainer


def test_it_learns_the_classes_of_the_data_and_reports_their_accuracy(tmp_path):
    task = classification()
    trainer = fitted(task, data(), tmp_path)
    assert task.classes == ["animals", "fruits"]
    [scores] = trainer.validate(task, datamodule=trainer.datamodule, verbose=False)
    assert scores["val/accuracy"] == 1.0
    assert task.last_result.primary == 1.0


def test_a_checkpoint_holds_the_classes(tmp_path):
    task = classification()
    trainer = fitted(task, data(), tmp_path, steps=2)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = Classification.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.classes == ["animals", "fruits"]
    assert all(torch.equal(a, b) for a, b in zip(task.state_dict().values(), again.state_dict().values(), strict=True))


def test_data_without_labels_or_with_other_classes_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="set data.labels to 'class'"):
        fitted(classification(), data(labels=None), tmp_path)
    with pytest.raises(UserError, match="leave data.classes out"):
        fitted(classification(classes=["fruits", "animals"]), data(classes=["animals", "fruits"]), tmp_path)
