"""Spans and their scores are those of seqeval, for good tags and for tags that no scheme allows."""

import random
import warnings

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB1, IOB2, IOBES, Entities

from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.tasks.scoring.spans import PREFIXES, mark_spans, span_scores, spans_of

SCHEMES = {"IOB1": IOB1, "IOB2": IOB2, "IOBES": IOBES}


def random_tags(generator, prefixes, kinds=("PER", "LOC", "creative-work")):
    """Random tags; every other sentence has few of O, so that spans touch."""
    prefixes = prefixes.replace("O", "") * generator.choice([1, 3]) + "O"
    drawn = generator.choices(prefixes, k=generator.randint(0, 12))
    return [prefix if prefix == "O" else f"{prefix}-{generator.choice(kinds)}" for prefix in drawn]


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_spans_of_random_tags_are_those_of_seqeval(scheme):
    generator = random.Random(0)
    spans = 0
    for _ in range(4000):
        tags = random_tags(generator, PREFIXES.get(scheme, "IOBES"))
        if scheme is None:
            expected = [(start, stop + 1, kind) for kind, start, stop in get_entities(tags)]
        else:
            [entities] = Entities([tags], SCHEMES[scheme]).entities
            expected = [(entity.start, entity.end, entity.tag) for entity in entities]
        assert spans_of(tags, scheme) == expected, tags
        spans += len(expected)
    assert spans > 4000


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_scores_of_random_tags_are_those_of_seqeval(scheme):
    generator = random.Random(1)
    prefixes = PREFIXES.get(scheme, "IOBES")
    strict = {} if scheme is None else {"mode": "strict", "scheme": SCHEMES[scheme]}
    for _ in range(60):
        true = [random_tags(generator, prefixes) for _ in range(10)]
        found = [[tag if generator.random() < 0.7 else generator.choice(tags) for tag in tags] for tags in true]
        scores, kinds, counts = span_scores(true, found, scheme)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, metric in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
                assert scores[name] == pytest.approx(metric(true, found, **strict), abs=1e-12)
                by_class = metric(true, found, average=None, **strict)
                assert [of_kind[name] for of_kind in kinds.values()] == pytest.approx(list(by_class), abs=1e-12)
            few = f1_score(true[:4], found[:4], **strict)
            assert statistic_of(counts[:4], "f1") == pytest.approx(few, abs=1e-12)
            assert statistic_of(counts, "f1") == pytest.approx(scores["f1"], abs=1e-12)
            assert scores["macro_f1"] == pytest.approx(f1_score(true, found, average="macro", **strict), abs=1e-12)


def test_no_spans_at_all_are_no_error():
    scores, kinds, counts = span_scores([["O"]], [["O"]])
    assert (scores, kinds) == ({"precision": 0.0, "recall": 0.0, "f1": 0.0, "macro_f1": 0.0}, {})
    assert statistic_of(counts, "f1") == 0


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "B-PER", "I-creative-work", "E-x", "S-x"], True),
        (["B", "I", "O"], True),
        (["O"], False),
        (["NN", "IN", "."], False),
        (["O", "B-PER", "X-PER"], False),
    ],
)
def test_tags_that_mark_spans(tags, expected):
    assert mark_spans(tags) == expected
