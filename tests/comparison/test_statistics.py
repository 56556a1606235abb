"""Intervals compared with scipy's, and verdicts compared with known truths."""

import numpy as np
import pytest
from scipy import stats

from ssl_nlp.comparison.statistics import RESAMPLES, Sample, _means, resample, spearman_of_resamples, t_interval
from ssl_nlp.comparison.types import Column
from ssl_nlp.comparison.verdicts import RowResults
from ssl_nlp.evaluation.result import Result, statistic_of


def sample(*items, statistic="mean", trained=True):
    scores = np.array([statistic_of(one, statistic) for one in items])
    return Sample(scores, tuple(items), statistic, trained)


def difference_intervals(samples, other, resamples=RESAMPLES):
    drawn = resample(samples, resamples)
    return [None if n == other else drawn.interval(n, other) for n in range(len(samples))]


def predictions(rng, ability, difficulty, deviation, seeds):
    """Predictions of a method, right or wrong by item, with an ability that varies with the seed."""
    found = []
    for shift in rng.normal(0, deviation, seeds):
        right = 1 / (1 + np.exp(-(ability + shift + difficulty)))
        found.append((rng.random(len(difficulty)) < right).astype(np.uint8))
    return sample(*found)


def test_the_interval_of_a_mean_is_students():
    scores = np.array([0.3, 0.5, 0.45])
    expected = stats.t.interval(0.95, 2, scores.mean(), stats.sem(scores))
    assert t_interval(scores) == pytest.approx(expected)
    assert t_interval(scores[:1]) is None


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlations_of_resamples_are_scipys(ties):
    rng = np.random.default_rng(0)
    items = rng.normal(size=(40, 2))
    if ties:
        items = items.round()
    items[3, 0] = np.nan
    chosen = rng.integers(40, size=(20, 40))
    counts = np.stack([np.bincount(row, minlength=40) for row in chosen]).astype(float)
    expected = [statistic_of(items[row], "spearman") for row in chosen]
    np.testing.assert_allclose(spearman_of_resamples(items, counts), expected, atol=1e-12)
    assert spearman_of_resamples(np.ones((40, 2)), counts).tolist() == [0.0] * 20


def test_bleu_is_resampled_as_that_of_a_corpus_and_not_as_a_mean():
    rng = np.random.default_rng(0)
    grams = rng.integers(4, 20, size=(60, 1)) - np.arange(4)
    matched = [rng.binomial(grams, share) for share in (0.5, 0.7)]
    items = [np.hstack([grams[:, :1], grams[:, :1] + 1, some, grams]) for some in matched]
    pair = [sample(one, statistic="bleu", trained=False) for one in items]
    drawn = resample(pair, 50)
    chosen = np.random.default_rng((0, 0)).integers(60, size=(50, 60))
    for one, found in zip(items, drawn.items, strict=True):
        np.testing.assert_allclose(found, [statistic_of(one[rows], "bleu") for rows in chosen])
    low, high = drawn.interval(1, 0)
    assert 0 < low < pair[1].scores[0] - pair[0].scores[0] < high


@pytest.mark.parametrize("statistic", ["ratio", "perplexity"])
def test_ratios_of_resamples_are_those_of_the_sums(statistic):
    """Drawn in pairs: a model that needs more nats for each text is worse in every resample, however long the texts are."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 50, 40)
    nats = sizes * rng.normal(2, 0.5, 40)
    better, worse = (np.stack([nats * factor, sizes], axis=1) for factor in (1.0, 1.01))
    chosen = rng.integers(40, size=(20, 40))
    counts = np.stack([np.bincount(row, minlength=40) for row in chosen]).astype(float)
    drawn = _means([sample(better, statistic=statistic), sample(better, worse, statistic=statistic)], counts)
    one, other = ([statistic_of(items[row], statistic) for row in chosen] for items in (better, worse))
    np.testing.assert_allclose(drawn, [one, np.mean([one, other], axis=0)])
    [(low, high), _] = difference_intervals(
        [sample(worse, statistic=statistic), sample(better, statistic=statistic)], 1
    )
    assert 0 < low < high


def test_items_of_another_metric_are_not_those_of_a_column():
    result = Result("bits_per_byte", {"bits_per_byte": 2.0, "pseudo_bits_per_byte": 1.0}, {}, np.ones((3, 2)), "ratio")
    results = RowResults([{"lm": result}], ["data"], True)
    assert results.sample(Column("docs/lm/bits_per_byte", "", False)).items is not None
    assert results.sample(Column("docs/lm/pseudo_bits_per_byte", "", False)).items is None


def test_the_bootstrap_of_a_mean_is_that_of_its_pairs():
    """Without seeds it approaches the normal interval of the mean difference."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.0, 1.0, 2000), rng.normal(0.0, 0.1, 2000)
    difference = one - (one + other)
    for trained, wider in ((False, 1.0), (True, np.sqrt(2))):  # the seed of one training may matter as much
        pair = [sample(one, trained=trained), sample(one + other, trained=trained)]
        [interval, own] = difference_intervals(pair, 1, resamples=4000)
        reach = 1.96 * stats.sem(difference) * wider
        assert own is None
        assert interval == pytest.approx((difference.mean() - reach, difference.mean() + reach), abs=0.1 * reach)


@pytest.mark.parametrize(("seeds", "deviation", "least", "most"), [(1, 0.15, 0.9, 0.98), (3, 0.3, 0.95, 1.0)])
def test_intervals_cover_the_truth(seeds, deviation, least, most):
    """Of two runs of one configuration neither is called better, although their seeds matter."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        difficulty = rng.normal(0, 1, 300)
        pair = [predictions(rng, 0.5, difficulty, deviation, seeds) for _ in range(2)]
        low, high = difference_intervals(pair, 0, resamples=500)[1]
        covered.append(low <= 0 <= high)
    assert least <= np.mean(covered) <= most


def test_a_real_difference_is_found_and_seeds_that_vary_more_hide_it():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 1, 1000)
    low, high = difference_intervals([predictions(rng, a, difficulty, 0.0, 3) for a in (0.0, 1.0)], 0)[1]
    assert 0 < low < high
    low, high = difference_intervals([predictions(rng, a, difficulty, 1.0, 3) for a in (0.0, 1.0)], 0)[1]
    assert low < 0 < high


def test_one_seed_varies_as_the_others_do_and_a_baseline_not_at_all():
    items = np.random.default_rng(0).random(500)
    several, single = sample(items - 0.1, items, items + 0.1), sample(items - 0.3)
    low, high = difference_intervals([several, single], 0)[1]
    assert low < -0.3 < high
    assert low < 0 < high
    fixed = sample(items - 0.3, trained=False)
    reach = t_interval(several.scores)
    low, high = difference_intervals([several, fixed], 0)[1]
    assert (low, high) == pytest.approx((-reach[1] + fixed.scores[0], -reach[0] + fixed.scores[0]), abs=0.02)


def test_without_items_seeds_alone_decide():
    known = [Sample(np.array(scores), None) for scores in ([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], [2.0])]
    first, own, borrowed = difference_intervals(known, 1)
    assert first[0] < -1 < first[1] < 0
    assert own is None
    assert borrowed[0] < 0 < borrowed[1]
    assert difference_intervals([Sample(np.array([1.0]), None), Sample(np.array([2.0]), None)], 0) == [None, None]
