"""Metrics of predicted classes, as scikit-learn computes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

from ssl_nlp.evaluation.result import Result

NAMES = ("precision", "recall", "f1")


def single_class_result(items: Sequence[Any], classes: Sequence[str]) -> Result:
    """Accuracy, precision, recall and F1 as macro and micro means, and Matthews' correlation coefficient.

    The macro means are over the classes that occur, in the texts or among the predictions; all numbers are NaN without
    any text. The details hold the numbers by class and the confusion matrix: a row for each class, a column for each
    predicted one.

    Args:
        items: for each text, the number of its class and that of the predicted one.
        classes: their names, C of them.
    """
    gold, predicted = np.array(items, dtype=np.int64).reshape(-1, 2).T
    correct = (gold == predicted).astype(np.float64)
    metrics = {"accuracy": float(correct.mean()) if len(correct) else np.nan} | _means(gold, predicted)
    metrics["mcc"] = float(matthews_corrcoef(gold, predicted)) if len(correct) else np.nan
    labels = list(range(len(classes)))
    details = {"classes": _by_class(gold, predicted, classes)}
    if len(correct):
        counts = confusion_matrix(gold, predicted, labels=labels).tolist()
        details["confusion"] = dict(zip(classes, counts, strict=True))
    return Result("accuracy", metrics, details, items=correct)


def several_class_result(items: Sequence[Any], classes: Sequence[str]) -> Result:
    """Precision, recall and F1 as macro and micro means, Matthews' coefficient, and the share of texts that are all right.

    Matthews' coefficient is that of all decisions about a text and a class taken together, as the micro means are. The
    details hold the numbers by class, and a confusion matrix for each class: a row for the texts without it and one for
    those with it, in each the number of those predicted without and with it. All numbers are NaN without any text.

    Args:
        items: for each text, the numbers of its classes and of the predicted ones.
        classes: their names, C of them.
    """
    gold, predicted = (_indicators([item[side] for item in items], len(classes)) for side in (0, 1))
    metrics = {"accuracy": float((gold == predicted).all(axis=1).mean()) if len(gold) else np.nan}
    metrics |= _means(gold, predicted)
    metrics["mcc"] = float(matthews_corrcoef(gold.ravel(), predicted.ravel())) if len(gold) else np.nan
    details = {"classes": _by_class(gold, predicted, classes)}
    if len(gold):
        matrices = np.stack([[(gold == y) & (predicted == z) for z in (0, 1)] for y in (0, 1)]).sum(axis=2)
        details["confusion"] = dict(zip(classes, np.moveaxis(matrices, 2, 0).tolist(), strict=True))
    counts = np.stack([(gold & predicted).sum(axis=1), predicted.sum(axis=1), gold.sum(axis=1)], axis=1)
    return Result("micro_f1", metrics, details, items=counts, statistic="f1")


def _indicators(rows: Sequence[Sequence[int]], width: int) -> npt.NDArray[np.int64]:
    """(N, C): 1 for the classes of each text."""
    found = np.zeros((len(rows), width), dtype=np.int64)
    for row, numbers in zip(found, rows, strict=True):
        row[list(numbers)] = 1
    return found


def _means(gold: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> dict[str, float]:
    found: dict[str, float] = {}
    for average in ("macro", "micro"):
        numbers = [np.nan] * 3
        if len(gold):
            numbers = precision_recall_fscore_support(gold, predicted, average=average, zero_division=0.0)[:3]
        found |= {f"{average}_{name}": float(number) for name, number in zip(NAMES, numbers, strict=True)}
    return found


def _by_class(
    gold: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of texts of each class."""
    if not len(gold):
        return {}
    columns = precision_recall_fscore_support(gold, predicted, labels=range(len(classes)), zero_division=0.0)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {name: dict(zip((*NAMES, "texts"), row, strict=True)) for name, row in zip(classes, rows, strict=True)}
