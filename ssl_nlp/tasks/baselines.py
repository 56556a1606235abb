"""Baselines without an encoder, which learn from the same labels as a task.

    classes   logistic regression on TF-IDF of words or characters (several classes a text: one against the rest for each);
              also of relations, which are classes of a text with two marked entities
    scores    ridge regression on the same
    tags      the most frequent tag of each word in training, and of all words for those that are new

Words or characters, and the strength of the regularisation, are chosen on the validation split. A pair of texts (u, v)
has the features (u, v, |u - v|, u * v), as in probes. Of each text, the characters count that the task reads of it, in rows
of `data.length` tokens. The predictions pass through the task's own `items` and `result`, so
that each number is counted exactly as the task's own, item by item.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from ssl_nlp.corpora import Document
from ssl_nlp.corpora.base import Split, order_digest
from ssl_nlp.data import ContinualDataModule, TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.marks import first_tokens, words_of_tags
from ssl_nlp.data.units import Sentences
from ssl_nlp.evaluation.baselines import TfIdf, Unit
from ssl_nlp.evaluation.classification import Labelled, fit_probe, text_features
from ssl_nlp.evaluation.result import Array, Result, pearson
from ssl_nlp.evaluation.vectors import Matrix
from ssl_nlp.tasks.base import Task
from ssl_nlp.tasks.documents import texts_in_rows

VERSION = 3  # for the keys of caches
TEXTS_TIMES_CLASSES = 4_000_000
"""Training texts are left out where there would be more, because the regression would take many minutes."""
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the ridge regression; rows of TF-IDF have length 1."""

Predict = Callable[[TokenBatch], Tensor]
Learn = Callable[[Matrix, Array, Matrix, Array], tuple[float, Callable[[Matrix], Array]]]
"""From features and labels for training and validation to the quality on the latter, and a function from features (N, F) to
outputs (N, ...) as those of the task."""


@dataclass(frozen=True)
class Baseline:
    """The result of a baseline, or the reason why there is none.

    Attributes:
        name: `tfidf` or `majority_tag`; empty if there is none.
        result: on the split that was asked for.
        reason: why there is none.
    """

    name: str = ""
    result: Result | None = None
    reason: str = ""


@dataclass(frozen=True)
class Examples:
    """The rows of a split that have a label.

    Attributes:
        documents: that the rows were made of, N of them.
        labels: (N, ...) as in `TokenBatch.labels`; of relations the classes (N,).
    """

    documents: Sequence[Document]
    labels: Array

    def first(self, number: int) -> "Examples":
        """At most `number` of them: those whose texts have the lowest `order_digest`."""
        order = sorted(range(len(self.documents)), key=lambda row: order_digest(self.documents[row].text))[:number]
        return Examples([self.documents[row] for row in order], self.labels[order])


def baseline(task: Task, data: TextDataModule, split: Split) -> Baseline:
    """Learn from the rows that a task is trained on, and predict those of another split.

    Args:
        task: connected to the data.
        data: set up for `split`.
        split: `valid` or `test`.
    """
    if data.labels not in ("tags", *LEARN):
        return Baseline(reason=f"{type(task).__name__} has no word-count baseline")
    if isinstance(data, ContinualDataModule):
        return Baseline(reason="its training data come part by part")
    if type(data.maker) is Sentences:
        return Baseline(reason="its rows are sentences of labelled documents (data.unit sentence)")
    test = list(data.corpus.documents(split))
    train = _examples(data, "train", data.train_dataloader())
    if data.labels == "tags":
        name, predict = "majority_tag", _majority_tags(train.documents, test, data)
    else:
        classes = 1 if data.labels == "score" else len(data.class_names)
        learn: Learn = partial(LEARN[data.labels], classes)
        train = train.first(TEXTS_TIMES_CLASSES // classes)
        valid = _examples(data, "valid", data.val_dataloader())
        texts = [_texts(documents, data) for documents in (train.documents, valid.documents, test)]
        name, predict = "tfidf", _by_counts(learn, texts, train.labels, valid.labels)
    items: list[tuple[int, Any]] = []
    for batch in data.val_dataloader() if split == "valid" else data.test_dataloader():
        items += zip(batch.documents.tolist(), task.items(predict(batch), batch), strict=True)
    items.sort(key=lambda item: item[0])
    result = task.result([item for _, item in items])
    result.details["texts"] = len(train.documents)
    return Baseline(name, result)


def _examples(data: TextDataModule, split: Split, batches: Iterable[TokenBatch]) -> Examples:
    documents = list(data.corpus.documents(split))
    found, labels = [], []
    for batch in batches:
        assert batch.documents is not None and batch.labels is not None
        for number, label in zip(batch.documents.tolist(), batch.labels.numpy(), strict=True):
            document = documents[number]
            label = label[0, 2] if data.labels == "relation" else label
            if data.labels == "tags" and isinstance(document.label, tuple):
                found.append(document)
            elif data.labels != "tags" and not np.any((label == IGNORE_INDEX) | np.isnan(label)):
                found.append(document)
                labels.append(label)
    return Examples(found, np.array(labels))


# ------------------------------------------------------------------------------------------------------ counts of words


def _by_counts(learn: Learn, parts: Sequence[Labelled], labels: Array, valid_labels: Array) -> Predict:
    """Outputs for the last of three parts, from the unit of counting that is better on the second one."""
    best, outputs = -np.inf, np.empty(0)
    for unit in get_args(Unit):
        counts = TfIdf([*parts[0].texts, *(parts[0].pairs or ())], unit)
        x, x_valid, x_test = (text_features(counts, part) for part in parts)
        quality, predict = learn(x, labels, x_valid, valid_labels)
        if quality > best:
            best, outputs = quality, predict(x_test)
    return lambda batch: torch.from_numpy(outputs)[batch.documents]


def _texts(documents: Sequence[Document], data: TextDataModule) -> Labelled:
    texts, *pairs = texts_in_rows(documents, data)
    return Labelled(texts, [], pairs[0] if pairs else None)


def _one_class(
    classes: int, x: Matrix, y: Array, x_valid: Matrix, y_valid: Array
) -> tuple[float, Callable[[Matrix], Array]]:
    choose = _classifier(x, y, x_valid, y_valid)
    return float((choose(x_valid) == y_valid).mean()), lambda features: np.eye(classes)[choose(features)]


def _several_classes(
    classes: int, x: Matrix, y: Array, x_valid: Matrix, y_valid: Array
) -> tuple[float, Callable[[Matrix], Array]]:
    choices = [_classifier(x, y[:, n].astype(int), x_valid, y_valid[:, n].astype(int)) for n in range(classes)]

    def predict(features: Matrix) -> Array:
        return np.stack([choose(features) for choose in choices], axis=1) * 2.0 - 1.0

    return float(((predict(x_valid) > 0) == y_valid).mean()), predict


def _classifier(x: Matrix, y: Array, x_valid: Matrix, y_valid: Array) -> Callable[[Matrix], Array]:
    """(N, F) to numbers of classes (N,)."""
    if len(np.unique(y)) == 1:
        return lambda features: np.full(features.shape[0], y[0])
    return fit_probe(x, y, x_valid, y_valid).predict


def _score(
    classes: int, x: Matrix, y: Array, x_valid: Matrix, y_valid: Array
) -> tuple[float, Callable[[Matrix], Array]]:
    fits = [Ridge(alpha=penalty).fit(x, y) for penalty in PENALTIES]
    quality = [pearson(fit.predict(x_valid), y_valid) for fit in fits]
    best = int(np.argmax(quality))
    return quality[best], lambda features: fits[best].predict(features).astype(np.float32)


LEARN = {"class": _one_class, "relation": _one_class, "classes": _several_classes, "score": _score}


# ------------------------------------------------------------------------------------------------------------- tags


def _majority_tags(train: Sequence[Document], test: Sequence[Document], data: TextDataModule) -> Predict:
    """One-hot outputs (B, T, C) at the first token of each word."""
    number = {name: place for place, name in enumerate(data.class_names)}
    of_word: dict[str, Counter[int]] = defaultdict(Counter)
    for document in train:
        assert isinstance(document.label, tuple)
        for (start, stop), tag in zip(words_of_tags(document), document.label, strict=True):
            of_word[document.text[start:stop]][number[str(tag)]] += 1
    [(commonest, _)] = sum(of_word.values(), Counter()).most_common(1)
    tags = {word: counts.most_common(1)[0][0] for word, counts in of_word.items()}

    def predict(batch: TokenBatch) -> Tensor:
        outputs = torch.zeros(*batch.input_ids.shape, len(number))
        assert batch.documents is not None
        for row, place in enumerate(batch.documents.tolist()):
            document = test[place]
            if not isinstance(document.label, tuple):
                continue
            [(_, _, tokens)] = data.tokenizer.encode_with_offsets([document.text])
            words = words_of_tags(document)
            for position, word in first_tokens(words, tokens[: outputs.shape[1]]):
                start, stop = words[word]
                outputs[row, position, tags.get(document.text[start:stop], commonest)] = 1
        return outputs

    return predict
