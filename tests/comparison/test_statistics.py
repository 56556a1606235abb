"""P-values and intervals compared with scipy's tests."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from ssl_nlp.comparison.contributions import contributions, covariance_of_means
from ssl_nlp.comparison.intervals import score_interval, t_interval
from ssl_nlp.comparison.statistics import (
    ASSUMED,
    Differences,
    Sample,
    Uncertainty,
    holm,
)
from ssl_nlp.comparison.types import Column
from ssl_nlp.comparison.verdicts import RowResults
from ssl_nlp.evaluation.result import Result, groups_of, statistic_of


def sample(*items, statistic="mean", varies=True):
    scores = np.array([statistic_of(one, statistic) for one in items])
    return Sample(scores, tuple(items), statistic, varies)


def interval(differences, one, other, level=0.95):
    middle, reach = differences.difference(one, other), differences.uncertainty(one, other).reach(level)
    return middle - reach, middle + reach


@pytest.mark.parametrize("ties", [False, True])
def test_the_contribution_of_an_item_is_what_more_of_it_changes(ties):
    """Each item a thousand times, and one of them once more."""
    items = np.random.default_rng(0).normal(size=(20, 2))
    items[:, 1] += items[:, 0]
    if ties:
        items = items.round()
    items[3, 0] = np.nan
    times, size = 1000, len(items)
    ranked = np.stack([items[:, 0], np.arange(20) % 3 == 0], axis=1)
    parts = np.floor(items)
    for given, statistic in (
        (items, "spearman"),
        (ranked, "average_precision"),
        (parts, "v_measure"),
        (items[:, 0], "mean"),
    ):
        many = np.repeat(given, times, axis=0)
        known = size - 1
        changed = [statistic_of(np.concatenate([many, given[[n]]]), statistic) for n in range(size)]
        expected = (np.array(changed) - statistic_of(many, statistic)) * times * known * size / known
        np.testing.assert_allclose(contributions(given, statistic), expected, atol=1e-3 * np.abs(expected).max())
    for statistic in ("spearman", "average_precision", "v_measure"):
        assert contributions(np.ones((20, 2)), statistic) == pytest.approx(np.zeros(20), abs=1e-12)


def grams(rng, share):
    """Counts of BLEU for 60 texts."""
    found = rng.integers(4, 20, size=(60, 1)) - np.arange(4)
    return np.hstack([found[:, :1], found[:, :1] + 1, rng.binomial(found, share), found])


def sums(rng):
    """Nats and tokens of 60 texts."""
    sizes = rng.integers(5, 50, 60)
    return np.stack([sizes * rng.normal(2, 0.5, 60), sizes], axis=1)


def spans(rng):
    """Spans found and right, found, and true, of 60 texts; some have none."""
    true = rng.integers(0, 6, 60)
    right = rng.binomial(true, 0.6)
    return np.stack([right, right + rng.integers(0, 3, 60), true], axis=1)


@pytest.mark.parametrize("statistic", ["mean", "spearman", "bleu", "f1", "ratio", "perplexity"])
def test_contributions_vary_as_much_as_resampled_scores(statistic):
    rng = np.random.default_rng(0)
    items = {"mean": rng.random(60), "spearman": rng.normal(size=(60, 2)), "bleu": grams(rng, 0.6)}.get(statistic)
    items = {"f1": spans}.get(statistic, sums)(rng) if items is None else items
    drawn = [statistic_of(items[rng.integers(60, size=60)], statistic) for _ in range(500)]
    found = contributions(items, statistic)
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert found.std() / np.sqrt(60) == pytest.approx(np.std(drawn), rel=0.15)


@pytest.mark.parametrize("statistic", ["bleu", "f1", "ratio", "perplexity"])
def test_statistics_of_sums_are_compared_in_pairs(statistic):
    """One that is a little worse on each text is worse, however much the texts differ."""
    rng = np.random.default_rng(0)
    one = grams(rng, 0.6) if statistic == "bleu" else {"f1": spans}.get(statistic, sums)(rng)
    other = one.astype(float)
    if statistic == "bleu":
        other[:, 2] *= 0.99
    else:
        other[:, 0] *= 1.01
    pair = [sample(given, statistic=statistic, varies=False) for given in (one, other)]
    low, high = interval(Differences(pair), 0, 1)
    assert low < high < 0 or 0 < low < high
    low, high = score_interval(one, statistic)
    assert low < pair[1].scores[0] < high


def test_items_of_another_metric_are_not_those_of_a_column():
    result = Result("bits_per_byte", {"bits_per_byte": 2.0, "pseudo_bits_per_byte": 1.0}, {}, np.ones((3, 2)), "ratio")
    results = RowResults([{"docs/lm": result}], True)
    assert results.sample(Column("docs/lm/bits_per_byte", "", False)).items is not None
    assert results.sample(Column("docs/lm/pseudo_bits_per_byte", "", False)).items is None


def test_items_without_a_number_do_not_count():
    items = np.random.default_rng(0).normal(size=100)
    items[60:] = np.nan
    assert np.square(contributions(items, "mean")).sum() / 100**2 == pytest.approx(items[:60].var() / 60)
    assert contributions(items[60:], "mean").tolist() == [0.0] * 40


@pytest.mark.parametrize("varies", [True, False])
def test_the_same_difference_on_a_few_items_is_no_certainty(varies):
    """Where all right stands against all wrong, the sign test gives 2 / 2^N."""
    for number in (2, 5, 100):
        right, wrong = sample(np.ones(number), varies=varies), sample(np.zeros(number), varies=varies)
        p_value = Differences([right, wrong]).uncertainty(0, 1).p_value(1.0)
        assert p_value < 1e-3 if number == 100 else p_value > 0.03
    same = Differences([right, right])
    assert same.uncertainty(0, 1).p_value(0.0) == 1.0 and same.uncertainty(0, 1).reach(0.95) == 0.0


def test_without_seeds_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.3, 1.0, 30), rng.normal(0.0, 0.5, 30)
    differences = Differences([sample(one, varies=False), sample(one + other, varies=False)])
    expected = stats.ttest_rel(one, one + other)
    assert differences.uncertainty(0, 1).p_value(differences.difference(0, 1)) == pytest.approx(expected.pvalue)
    assert interval(differences, 0, 1) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_without_items_it_is_the_t_test_of_seeds_with_a_common_variance():
    scores = [np.array(given) for given in ([1.0, 1.1, 0.9], [1.5, 1.2], [0.7], [1.3, 1.6, 1.9, 1.4])]
    two = Differences([Sample(given, None) for given in scores[:2]])
    expected = stats.ttest_ind(*scores[:2])
    assert two.uncertainty(0, 1).p_value(two.difference(0, 1)) == pytest.approx(expected.pvalue, rel=1e-6)
    assert interval(two, 0, 1) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    # The other rows tell how seeds vary, too, also for the row with one seed.
    many = Differences([Sample(given, None) for given in scores])
    squares = sum(np.square(given - given.mean()).sum() for given in scores)
    reach = stats.t.ppf(0.975, 6) * np.sqrt(squares / 6 * (1 / 1 + 1 / 3))
    assert interval(many, 2, 0) == pytest.approx((0.7 - 1.0 - reach, 0.7 - 1.0 + reach))
    single = Differences([sample(given[:1], varies=False) for given in scores[:2]])
    assert single.uncertainty(0, 1) is None  # one item says nothing of others
    fixed = Differences([Sample(scores[0], None), Sample(scores[1], None, varies=False)])
    assert fixed.uncertainty(0, 1) is None
    assert Differences([Sample(scores[2], None)] * 2).uncertainty(0, 1) is None


@pytest.mark.parametrize("items", [True, False])
def test_several_scores_of_the_same_trainings_say_no_more_of_seeds_than_one(items):
    """Of scores that vary as one, copies change nothing; with trainings of their own they would."""
    rng = np.random.default_rng(0)
    one, other = (rng.normal(size=(1, 40)) + 0.5 * rng.normal(size=(number, 40)) for number in (4, 3))

    def row(given, trainings=""):
        return Sample(given.mean(axis=1), tuple(given) if items else None, trainings=frozenset(trainings))

    expected = Differences([row(one), row(other)]).uncertainty(0, 1)
    assert expected.freedom == 5
    for copies in (
        [row(one, "abcd"), row(one, "abcd"), row(one, "abcd")],
        [row(one, "abcd"), row(one[:2], "ab"), row(one[2:], "cd"), row(one[:1], "a")],  # which share some of the seeds
    ):
        found = Differences([*copies, row(other, "efg")]).uncertainty(0, len(copies))
        assert found.freedom == pytest.approx(expected.freedom)
        assert found.items == pytest.approx(expected.items)
        assert found.reach(0.95) == pytest.approx(expected.reach(0.95))
    assert Differences([row(one)] * 3 + [row(other)]).freedom == 11


def false_claims(rows):
    """The share of 1,000 tables in which the first row is said to differ from the last."""
    rng, false = np.random.default_rng(0), 0
    for _ in range(1000):
        differences = Differences(rows(rng))
        last = len(differences.samples) - 1
        false += differences.uncertainty(0, last).p_value(differences.difference(0, last)) < 0.05
    return false / 1000


def dyads(number):
    """Two of so many pairs of words for each analogy."""
    return [list(column) for column in zip(*itertools.permutations(range(number), 2), strict=True)]


@pytest.mark.parametrize("shared", [[np.arange(60) // 4], dyads(8)])
def test_the_covariance_of_groups_counts_items_that_have_something_in_common(shared):
    groups = groups_of(*([int(n) for n in column] for column in shared))
    moved = np.random.default_rng(0).normal(size=(3, len(groups)))
    alike = np.array([[bool({*one} & {*other}) for other in groups.tolist()] for one in groups.tolist()])
    factor = {1: 15 / 14, 2: 8 * 7 / (6 * 5)}[groups.shape[1]]
    expected = moved @ alike @ moved.T / len(groups) ** 2 * factor
    np.testing.assert_allclose(covariance_of_means(moved, groups), expected, atol=1e-12)
    moved -= moved.mean(axis=1, keepdims=True)
    alone = np.arange(len(groups))[:, None]
    np.testing.assert_allclose(covariance_of_means(moved, alone), covariance_of_means(moved))
    np.testing.assert_allclose(covariance_of_means(moved), np.cov(moved) / len(groups))


@pytest.mark.parametrize("shared", [[np.arange(200) // 10], dyads(20)])
@pytest.mark.parametrize("varies", [True, False])
def test_items_with_something_in_common_make_no_bold_claims(shared, varies):
    """Models that are better or worse at whole groups, and as good on the whole; with seeds and without."""
    groups = groups_of(*([int(n) for n in column] for column in shared))

    def rows(rng):
        effects = rng.normal(size=(2, groups.max() + 1))
        given = [own[groups].sum(axis=1) + rng.normal(size=len(groups)) for own in effects]
        seeds = [[items + rng.normal(size=len(groups)) for _ in range(3 if varies else 1)] for items in given]
        return [Sample(np.mean(each, axis=1), tuple(each), varies=varies, groups=groups) for each in seeds]

    assert false_claims(rows) <= 0.064


@pytest.mark.parametrize("kind", ["unequal", "hardly known", "two of a kind"])
def test_few_and_unequal_groups_make_no_bold_claims(kind):
    """A group with a third of all items; items without a number in most groups; both groups of an item the same."""
    sizes = [100] + [5] * 40 if kind == "unequal" else [4] * 100
    one = [n for n, size in enumerate(sizes) for _ in range(size)]
    groups = groups_of(one, one) if kind == "two of a kind" else groups_of(one)

    def rows(rng):
        effects = 3 * rng.normal(size=(2, len(sizes)))
        given = [own[groups[:, 0]] + rng.normal(size=len(one)) for own in effects]
        if kind == "hardly known":
            given = [np.where(groups[:, 0] < 5, own, np.nan) for own in given]
        return [Sample(np.array([np.nanmean(own)]), (own,), varies=False, groups=groups) for own in given]

    assert false_claims(rows) <= 0.064


@pytest.mark.parametrize("shared", [1.0, 0.8])
def test_claims_about_rows_that_share_trainings_are_not_false_more_often_than_they_say(shared):
    """Two seeds of four rows that vary together, beside a row that is as good."""

    def rows(rng):
        common = math.sqrt(shared) * rng.normal(size=2)
        given = [common + math.sqrt(1 - shared) * rng.normal(size=2) for _ in range(4)]
        samples = [Sample(row, None, trainings=frozenset("ab")) for row in given]
        return [*samples, Sample(rng.normal(size=2), None)]

    assert false_claims(rows) <= 0.064  # two standard errors above the nominal rate


def test_seeds_that_vary_less_do_not_make_claims_about_others_bold():
    """Fine-tunings of two published models beside two methods with two pretrainings each."""

    def rows(rng):
        tuned = [Sample(0.3 * rng.normal(size=3), None, whole=False) for _ in range(2)]
        return [Sample(rng.normal(size=2), None), *tuned, Sample(rng.normal(size=2), None)]

    assert false_claims(rows) <= 0.064
    steady = [Sample(np.array(given), None) for given in ([0.1, 0.2], [0.4, 0.5])]
    wild = Sample(np.array([1.0, 5.0, 9.0]), None, whole=False)
    assert Differences([*steady, wild]).freedom == 4  # a larger estimate counts


@pytest.mark.parametrize(("items", "seeds", "freedom"), [(1.0, 0.1, 1), (1.0, 1.0, 2), (0.1, 1.0, 40)])
def test_items_and_seeds_together_have_the_distribution_of_behrens_and_fisher(items, seeds, freedom):
    uncertainty = Uncertainty(items, seeds, freedom=freedom)
    for difference in (0.5, 6.0):
        beyond, _ = integrate.quad(
            lambda t: stats.t.pdf(t, freedom) * stats.norm.sf((difference - t * math.sqrt(seeds)) / math.sqrt(items)),  # noqa: B023
            -np.inf, np.inf, epsabs=1e-10,
        )  # fmt: skip
        assert uncertainty.p_value(difference) == pytest.approx(2 * beyond, rel=1e-5, abs=1e-9)
    assert uncertainty.p_value(uncertainty.reach(0.99)) == pytest.approx(0.01)
    assert Uncertainty(0.0).p_value(0.1) == 0.0
    assert Uncertainty(0.0).p_value(0.0) == 1.0


def test_what_seeds_do_to_single_items_counts_once():
    """Two methods that differ only by noise that each seed draws anew for each item: all of it is between seeds."""
    rng = np.random.default_rng(0)
    common, size = rng.normal(size=4000), 4000
    differences = Differences([sample(*(common + rng.normal(size=size) for _ in range(3))) for _ in range(2)])
    found = differences.uncertainty(0, 1)
    assert found.items < 0.05 * (2 / 3) / size
    assert found.seeds == pytest.approx(differences.seeds * 2 / 3)
    lasting = [rng.normal(size=size) for _ in range(2)]
    differences = Differences([sample(*(own + rng.normal(size=size) for _ in range(3))) for own in lasting])
    assert differences.uncertainty(0, 1).items == pytest.approx(2 / size, rel=0.1)


def test_where_no_seed_is_repeated_seeds_are_assumed_to_vary_and_the_claim_says_how_much_they_may():
    rng = np.random.default_rng(0)
    items = rng.normal(size=500)
    rows = [
        sample(items + rng.normal(1.5, 0.3, 500)),
        sample(items),
        sample(items - rng.normal(0.1, 0.3, 500), varies=False),
    ]
    differences = Differences(rows)
    for other in (1, 2):
        alone = stats.ttest_rel(rows[0].items[0], rows[other].items[0]).confidence_interval(0.95)
        sample_variances = [np.var(rows[n].items[0], ddof=1) / 500 for n in (0, 1) if n in (0, other)]
        assumed = stats.t.ppf(0.975, 499) * ASSUMED * math.sqrt(sum(sample_variances))
        widened = math.hypot((alone.high - alone.low) / 2, assumed)
        assert differences.uncertainty(0, other).reach(0.95) == pytest.approx(widened)
        assert differences.assumed(0, other)
        limit = differences.largest_deviation(0, other, 0.95)
        variance = ((alone.high - alone.low) / 2 / stats.t.ppf(0.975, 499)) ** 2 + (2 if other == 1 else 1) * limit**2
        assert Uncertainty(variance, size=500).reach(0.95) == pytest.approx(differences.difference(0, other))


def test_a_baseline_that_does_not_vary_is_as_sure_as_its_items():
    items = np.random.default_rng(0).random(500)
    several, fixed = sample(items - 0.1, items, items + 0.1), sample(items - 0.3, varies=False)
    reach = t_interval(several.scores)
    expected = (reach[0] - fixed.scores[0], reach[1] - fixed.scores[0])
    assert interval(Differences([several, fixed]), 0, 1) == pytest.approx(expected, rel=1e-3)


def test_holms_correction():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
