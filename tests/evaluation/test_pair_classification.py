import numpy as np
import pytest

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import PairClassification, RelatedPairs
from ssl_nlp.evaluation.result import average_precision, statistic_of
from tests.evaluation.vectors import Given, Hashed

RELATED = [n % 3 == 0 for n in range(60)]
FIRST = [f"w{n} first" for n in range(60)]
SECOND = [f"{'w' if related else 'v'}{n} second" for n, related in enumerate(RELATED)]
DATA = RelatedPairs("pairs", FIRST, SECOND, RELATED)


def slow_average_precision(predictions, gold):
    """The mean over the items with gold 1 of the share of such items among all that are ranked as high."""
    shares = []
    for own, wanted in zip(predictions, gold, strict=True):
        if wanted:
            as_high = [other for prediction, other in zip(predictions, gold, strict=True) if prediction >= own]
            shares.append(sum(as_high) / len(as_high))
    return sum(shares) / len(shares)


def test_the_average_precision_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    gold = rng.random(300) < 0.3
    predictions = np.round(rng.normal(gold, 1.0), 1)  # with many equal ones
    assert average_precision(predictions, gold) == pytest.approx(slow_average_precision(predictions, gold))
    assert average_precision(gold.astype(float), gold) == 1
    assert average_precision(np.ones(300), gold) == pytest.approx(gold.mean())
    random = np.mean([average_precision(rng.random(300), gold) for _ in range(100)])
    assert random == pytest.approx(gold.mean(), abs=0.02)


def test_cosines_rank_the_pairs():
    embedder = Hashed()
    x, y = (embedder.embed(side).double().numpy() for side in (FIRST, SECOND))
    cosines = (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    result = PairClassification(DATA)(embedder)
    assert result.primary == pytest.approx(slow_average_precision(cosines, RELATED))
    assert 0.4 < result.primary < 1
    assert result.items == pytest.approx(np.stack([cosines, RELATED], axis=1), abs=1e-9)
    assert statistic_of(result.items, result.statistic) == pytest.approx(result.primary)
    assert result.details == {"pairs": 60, "related": 20}


def test_collapsed_embeddings_have_the_share_of_related_pairs():
    vector = np.random.default_rng(0).normal(size=48)
    result = PairClassification(DATA)(Given(dict.fromkeys(DATA.texts, vector)))
    assert result.primary == pytest.approx(1 / 3)


def test_pairs_of_one_kind_are_refused():
    with pytest.raises(UserError, match="x has pairs of one kind only"):
        RelatedPairs("x", ["a"], ["b"], [True])
