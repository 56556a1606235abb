"""Precision, recall and F1 of tagged spans: a span counts if its class and both of its ends are right.

    precision = spans found and right / spans found        recall = spans found and right / true spans

The numbers are those of seqeval (github.com/chakki-works/seqeval, 1.2.2). Without a scheme spans are read leniently, as the
scorer `conlleval` of CoNLL-2000 does (Tjong Kim Sang and Buchholz, aclanthology.org/W00-0726): any change of the class
begins a span. With a scheme only spans that are well-formed in it count, as in seqeval's mode `strict`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Scheme = Literal["IOB1", "IOB2", "IOBES"]
"""IOB1: I-; B- only for a span right after another one of its class. IOB2 (BIO): B- and then I-. IOBES: B- I- E-, or S-."""

PREFIXES: dict[Scheme, str] = {"IOB1": "IOB", "IOB2": "IOB", "IOBES": "IOBES"}
_SPAN_TAG = re.compile(r"O|[BIES](-.+)?")


class TaggedSpan(NamedTuple):
    """The words [start, stop) of a sentence, and their class."""

    start: int
    stop: int
    kind: str


def mark_spans(tags: Iterable[str]) -> bool:
    """Whether tags mark spans, rather than parts of speech: each is O, or a class behind B-, I-, E- or S-."""
    tags = list(tags)
    return all(map(_SPAN_TAG.fullmatch, tags)) and any(tag != "O" for tag in tags)


def spans_of(tags: Sequence[str], scheme: Scheme | None = None) -> list[TaggedSpan]:
    """The spans that tags of one sentence mark, from left to right.

    >>> spans_of(["B-PER", "I-PER", "O", "I-LOC"])
    [TaggedSpan(start=0, stop=2, kind='PER'), TaggedSpan(start=3, stop=4, kind='LOC')]
    >>> spans_of(["B-PER", "I-PER", "O", "I-LOC"], scheme="IOB2")
    [TaggedSpan(start=0, stop=2, kind='PER')]
    """
    pairs = [("O", "_"), *((tag[0], tag[2:] or "_") for tag in tags), ("O", "_")]
    spans: list[TaggedSpan] = []
    word, last = 1, len(pairs) - 1
    while word < last:
        if not _begins(pairs[word - 1], pairs[word], scheme):
            word += 1
            continue
        stop = word + 1
        while stop < last and _continues(pairs[stop - 1], pairs[stop], scheme):
            stop += 1
        if _ends(pairs[stop - 1], pairs[stop], scheme):
            spans.append(TaggedSpan(word - 1, stop - 1, pairs[word][1]))
        word = stop
    return spans


def _begins(before: tuple[str, str], here: tuple[str, str], scheme: Scheme | None) -> bool:
    (last, last_kind), (prefix, kind) = before, here
    if scheme == "IOB2":
        return prefix == "B"
    if scheme == "IOBES":
        return prefix in "BS"
    if scheme == "IOB1":
        return (
            last in "OB" or last_kind != kind if prefix == "I" else prefix == "B" and last != "O" and last_kind == kind
        )
    return prefix in "BS" or (prefix in "IE" and (last in "ESO" or last_kind != kind))


def _continues(before: tuple[str, str], here: tuple[str, str], scheme: Scheme | None) -> bool:
    (last, last_kind), (prefix, kind) = before, here
    return last in "BI" and prefix in ("IE" if scheme in (None, "IOBES") else "I") and last_kind == kind


def _ends(before: tuple[str, str], here: tuple[str, str], scheme: Scheme | None) -> bool:
    """Whether a span that is not continued is complete."""
    (last, last_kind), (prefix, kind) = before, here
    if scheme == "IOBES":
        return last in "ES"
    return scheme != "IOB1" or not (last == prefix == "B" and last_kind != kind)


def span_scores(
    true: Sequence[Sequence[str]], found: Sequence[Sequence[str]], scheme: Scheme | None = None
) -> tuple[dict[str, float], dict[str, dict[str, float]], npt.NDArray[np.int64]]:
    """Scores of the tags that were found for sentences, beside the true ones.

    Returns:
        `precision`, `recall` and `f1` over the spans of all classes, and `macro_f1`, the mean of the F1 of the classes that
        occur, be it among the true spans or among those found; precision, recall, F1 and the number of true spans
        (`support`) by class; and for each of N sentences, (N, 3), the numbers of spans found and right, found, and true.
    """
    right, proposed, existing, counts = Counter[str](), Counter[str](), Counter[str](), []
    for of_true, of_found in zip(true, found, strict=True):
        true_spans, found_spans = spans_of(of_true, scheme), spans_of(of_found, scheme)
        both = set(true_spans) & set(found_spans)
        counts.append((len(both), len(found_spans), len(true_spans)))
        right.update(span.kind for span in both)
        existing.update(span.kind for span in true_spans)
        proposed.update(span.kind for span in found_spans)
    kinds = {
        kind: precision_recall_f1(right[kind], proposed[kind], existing[kind]) | {"support": existing[kind]}
        for kind in sorted(existing.keys() | proposed.keys())
    }
    total = precision_recall_f1(right.total(), proposed.total(), existing.total())
    macro = sum(scores["f1"] for scores in kinds.values()) / max(len(kinds), 1)
    return total | {"macro_f1": macro}, kinds, np.array(counts, dtype=np.int64).reshape(-1, 3)


def precision_recall_f1(right: int, proposed: int, existing: int) -> dict[str, float]:
    """Precision, recall and F1 from counts; 0 where nothing was proposed, or nothing exists."""
    precision, recall = right / max(proposed, 1), right / max(existing, 1)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}
