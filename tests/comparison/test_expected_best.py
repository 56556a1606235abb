"""The expected best of n trials, against all draws of n trials one by one."""

from itertools import product

import numpy as np
import pytest

from ssl_nlp.comparison.expected_best import expected_best
from ssl_nlp.comparison.plots import best_of_trials
from ssl_nlp.comparison.tuning import MethodTrials, Tuning, read_tuning, write_tuning
from ssl_nlp.errors import UserError


@pytest.mark.parametrize(
    "values", [[0.3], [0.2, 0.7], [0.5, 0.1, 0.9, 0.4], [0.5, 0.5, 0.1, 0.5], [-2.0, 3.0, 3.0, 0.0, 1.0]]
)
def test_it_is_the_mean_and_variance_over_all_draws_with_replacement(values):
    means, variances = expected_best(values, trials=5)
    for n in range(1, 6):
        best = [max(draw) for draw in product(values, repeat=n)]
        assert means[n - 1] == pytest.approx(np.mean(best), abs=1e-12)
        assert variances[n - 1] == pytest.approx(np.var(best), abs=1e-12)


def test_of_one_trial_it_is_the_mean_of_all_and_of_many_the_best():
    means, variances = expected_best([3.0, 1.0, 2.0], trials=200)
    assert means[0] == 2 and variances[0] == pytest.approx(2 / 3)
    assert means[-1] == pytest.approx(3) and variances[-1] == pytest.approx(0)
    assert (np.diff(means) >= 0).all()


def test_by_default_there_are_as_many_as_trials_were_made():
    assert [len(array) for array in expected_best([0.1, 0.4, 0.2])] == [3, 3]


TRIALS = [("complete", 3.0), ("pruned", 1.0), ("failed", None), ("complete", 2.0)]
METHOD = MethodTrials("MaskedLM", ["model.masking_rate"], [], 900, TRIALS)


def test_every_trial_counts_and_a_failed_one_as_the_worst():
    assert METHOD.scores(higher_is_better=True) == [3.0, 1.0, 2.0, 1.0]
    assert METHOD.scores(higher_is_better=False) == [-3.0, -1.0, -2.0, -3.0]
    assert MethodTrials("VAE", [], [], 900, [("failed", None)]).scores(True) == []


def test_the_record_is_read_as_it_was_written_and_plotted_with_a_line_for_each_method(tmp_path):
    failed = MethodTrials("VAE", [], [], 900, [("failed", None)] * 4)
    tuning = Tuning("mine", "docs", "knn", False, "900steps", 4, {"masked_lm": METHOD, "vae": failed})
    write_tuning(tuning, tmp_path / "tuning.json")
    found = read_tuning(tmp_path / "tuning.json")
    assert found.described == tuning.described
    assert "masked_lm searched masking_rate, and 1 of its trials failed." in found.described
    [axes] = best_of_trials(found, {}).axes
    [line] = axes.lines  # nothing is drawn of a method without a score
    assert line.get_ydata() == pytest.approx(-expected_best([-3.0, -1.0, -2.0, -3.0])[0])
    (tmp_path / "tuning.json").write_text("{}")
    with pytest.raises(UserError, match="is broken"):
        read_tuning(tmp_path / "tuning.json")
    with pytest.raises(UserError, match="there is no record"):
        read_tuning(tmp_path / "nothing.json")
