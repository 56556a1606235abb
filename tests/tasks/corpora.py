"""Labelled corpora that tiny models learn in a few steps."""

from collections.abc import Iterator

from lightning.pytorch import Trainer

from ssl_nlp.cache import fingerprint
from ssl_nlp.corpora import Corpus, Document
from ssl_nlp.corpora.base import Split
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.tasks import Task

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
TOPICS = {"animals": "cat dog horse cow sheep", "fruits": "apple pear plum fig grape"}
NUMBER = 120


class Topics(Corpus):
    """Texts of three words of one topic and a number; every text of valid and test is one of train.

    Args:
        kind: of the labels. `class`: the topic. `classes`: the topic, and `even` after an even word. `score`: the place of
            the first word among those of its topic, and 5 more for fruits. None: no labels.
        pairs: two texts each. The label is the topic of the second one, or 1 for fruits.
    """

    def __init__(self, kind: str | None = "class", pairs: bool = False) -> None:
        self.kind, self.pairs = kind, pairs

    def documents(self, split: Split) -> Iterator[Document]:
        yield from map(self.document, range(NUMBER if split == "train" else 16))

    def document(self, number: int) -> Document:
        topic, first = list(TOPICS)[number % 2], number // 2 % 5
        text = self.text(topic, number)
        if self.pairs:
            other = list(TOPICS)[number // 2 % 2]
            label = float(other == "fruits") if self.kind == "score" else other
            return Document(text, label, self.text(other, number + 1))
        several = (topic, "even") if first % 2 == 0 else (topic,)
        labels = {"class": topic, "classes": several, "score": float(first + 5 * (topic == "fruits")), None: None}
        return Document(text, labels[self.kind])

    def text(self, topic: str, number: int) -> str:
        words = TOPICS[topic].split()
        return " ".join(words[(number // 2 + step * (number // 10)) % 5] for step in range(3)) + f" {number}"

    def fingerprint(self) -> str:
        return fingerprint("Topics", self.kind, self.pairs)


def topics(kind: str | None = "class", pairs: bool = False, **settings: object) -> TextDataModule:
    """A data module of `Topics`."""
    given = {"unit": "pair" if pairs else "text", "length": 48 if pairs else 24, "batch_size": 8, "labels": kind}
    given["tokenizer"] = TokenizerSettings(vocab_size=320)
    return TextDataModule(Topics(kind, pairs), **given | settings)  # type: ignore[arg-type]


def tiny(dropout: float = 0.0) -> Transformer:
    return Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=dropout)


def connected(task: Task, data: TextDataModule) -> Task:
    """The task with its parameters, in evaluation mode."""
    task.connect_data(data, "fit")
    return task.eval()


def fitted(task: Task, data: TextDataModule, tmp_path: object, steps: int = 40, **arguments: object) -> Trainer:
    given = {"accelerator": "cpu", "max_steps": steps, "max_epochs": -1, "limit_val_batches": 0, **QUIET} | arguments
    trainer = Trainer(default_root_dir=tmp_path, **given)  # type: ignore[arg-type]
    trainer.fit(task, datamodule=data)
    return trainer
