"""Relations are scored as the description of SemEval's scorer says, computed here from its confusion matrix."""

import random
from collections import defaultdict

import pytest

from ssl_nlp.tasks.scoring.relations import relation_scores

NAMES = ["Cause-Effect", "Component-Whole", "Message-Topic"]
CLASSES = ["Other", *(f"{name}({one},{other})" for name in NAMES for one, other in (("e1", "e2"), ("e2", "e1")))]


def official(true, found):
    """Macro-F1 of the (9+1)-way evaluation with directionality, by its confusion matrix with a column for wrong directions.

    Each row is a true relation, each column a proposed one; `xDIRx` counts the right relation with the wrong direction. A
    relation's precision divides by its column and its `xDIRx`, its recall by all of its true examples. In percent.
    """
    matrix, wrong = defaultdict(int), defaultdict(int)
    for one, other in zip(true, found, strict=True):
        row, column = one.split("(")[0], other.split("(")[0]
        if row == column and one != other:
            wrong[row] += 1
        else:
            matrix[row, column] += 1
    rows = {one.split("(")[0] for one in true}
    f1 = []
    for relation in sorted(rows - {"Other"}):
        column = sum(count for (_, proposed), count in matrix.items() if proposed == relation)
        actual = sum(count for (one, _), count in matrix.items() if one == relation) + wrong[relation]
        precision = 0 if column == 0 else 100 * matrix[relation, relation] / (column + wrong[relation])
        recall = 100 * matrix[relation, relation] / actual
        f1.append(0 if precision + recall == 0 else 2 * precision * recall / (precision + recall))
    return sum(f1) / len(f1)


@pytest.mark.parametrize("seed", range(30))
def test_macro_f1_is_that_of_the_confusion_matrix(seed):
    generator = random.Random(seed)
    classes = generator.sample(
        CLASSES, k=generator.randint(2, len(CLASSES))
    )  # some relations occur in neither, or in one
    true = generator.choices(classes, k=60)
    found = [one if generator.random() < 0.4 else generator.choice(CLASSES) for one in true]
    scores, relations = relation_scores(true, found)
    assert 100 * scores["macro_f1"] == pytest.approx(official(true, found), abs=1e-9)
    assert "Other" not in relations
    assert sum(of["support"] for of in relations.values()) == sum(one != "Other" for one in true)


def test_a_wrong_direction_counts_as_proposed_and_other_does_not_count():
    true = ["A(e1,e2)", "A(e1,e2)", "Other", "B(e1,e2)"]
    found = ["A(e1,e2)", "A(e2,e1)", "Other", "Other"]
    scores, relations = relation_scores(true, found)
    assert relations["A"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert relations["B"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert scores["macro_f1"] == 0.25
    assert scores["accuracy"] == 0.5
    assert scores["micro_f1"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
