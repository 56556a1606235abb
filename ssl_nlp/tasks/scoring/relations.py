"""Scores of relations as SemEval-2010 task 8 counts them (Hendrickx et al., aclanthology.org/S10-1006, section 4).

    macro-F1 = the mean over relations of F1, `Other` left out

A class is a relation with a direction, such as `Cause-Effect(e2,e1)`. A prediction is right if both are; one with the wrong
direction counts as proposed for its relation, and the two directions have one F1. This is the "(9+1)-way evaluation taking
directionality into account" of the official scorer (version 1.2). As there, the mean is over the relations that occur in
the truth.
"""

import re
from collections import Counter
from collections.abc import Sequence

from ssl_nlp.tasks.scoring.spans import precision_recall_f1

OTHER = "Other"
_DIRECTION = re.compile(r"\(e[12],e[12]\)$")


def relation_scores(true: Sequence[str], found: Sequence[str]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Scores of the classes that were found, beside the true ones.

    Returns:
        `accuracy` over all classes; `macro_precision`, `macro_recall` and `macro_f1`; `micro_f1`; and precision, recall,
        F1 and the number of true examples (`support`) by relation.
    """
    relations = [
        (_DIRECTION.sub("", one), _DIRECTION.sub("", other), one == other)
        for one, other in zip(true, found, strict=True)
    ]
    right = Counter(one for one, _, same in relations if same)
    proposed = Counter(other for _, other, _ in relations)
    existing = Counter(one for one, _, _ in relations)
    by_relation = {
        name: precision_recall_f1(right[name], proposed[name], existing[name]) | {"support": existing[name]}
        for name in sorted(existing.keys() - {OTHER})
    }
    totals = (sum(counts[name] for name in by_relation) for counts in (right, proposed, existing))
    scores = {"accuracy": right.total() / max(len(relations), 1)}
    for name in ("precision", "recall", "f1"):
        scores[f"macro_{name}"] = sum(of[name] for of in by_relation.values()) / max(len(by_relation), 1)
    return scores | {"micro_f1": precision_recall_f1(*totals)["f1"]}, by_relation
