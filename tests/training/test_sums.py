"""What is minimised and reported is a ratio of sums, not a mean of ratios."""

import torch

from ssl_nlp.training.sums import Loss, Sums, Term


def loss(first, count, second=(0.0, 1), vector=(0.0, 0.0)):
    terms = {
        "a": Term(torch.tensor(first), torch.tensor(count)),
        "b": Term(torch.tensor(second[0]), torch.tensor(second[1]), weight=0.5),
    }
    return Loss(terms, {"v": (torch.tensor(vector), torch.tensor(count))})


def test_an_objective_is_the_weighted_sum_of_its_terms_means():
    assert float(loss(6.0, 2, (8.0, 4)).mean()) == 6 / 2 + 0.5 * 8 / 4
    assert float(loss(6.0, 2, (8.0, 4)).over({"a": torch.tensor(3), "b": torch.tensor(16)})) == 6 / 3 + 0.5 * 8 / 16
    assert float(loss(0.0, 0).mean()) == 0  # a batch without any target is no division by zero


def test_sums_are_divided_by_all_targets_and_begin_again():
    sums = Sums()
    assert sums.means_over_ranks() == {}
    sums.add(loss(6.0, 2, (8.0, 4), (2.0, 4.0)))
    sums.add(loss(1.0, 5, (0.0, 4), (5.0, 3.0)))
    means = sums.means_over_ranks()
    assert {name: mean.tolist() for name, mean in means.items()} == {
        "loss/a": 1.0,
        "loss/b": 1.0,
        "loss": 1.5,
        "v": [1.0, 1.0],
    }
    assert means["loss"].dtype == torch.float64
    assert sums.means_over_ranks() == {}


def test_a_metric_that_counted_nothing_is_left_out():
    sums = Sums()
    sums.add(loss(6.0, 0, (8.0, 4)))
    assert sums.means_over_ranks().keys() == {"loss/a", "loss/b", "loss"}
    sums.add(loss(6.0, 0, (8.0, 4)))
    sums.add(loss(6.0, 2, (8.0, 4), (2.0, 4.0)))
    assert sums.means_over_ranks()["v"].tolist() == [1.0, 2.0]


def test_totals_are_added_up_and_survive_a_resume():
    sums, resumed = Sums(), Sums()
    for total in (2.0, 3.0):
        sums.add(Loss({"a": Term(torch.tensor(6.0), torch.tensor(2))}, totals={"t": torch.tensor(total)}))
    resumed.load_state(sums.state_over_ranks())
    for each in (sums, resumed):
        assert {name: float(mean) for name, mean in each.means_over_ranks().items()} == {"loss/a": 3, "loss": 3, "t": 5}


def test_only_some_terms_may_make_up_the_loss():
    sums = Sums()
    sums.add(loss(6.0, 2, (8.0, 4)), ("b",))
    means = sums.means_over_ranks()
    assert (float(means["loss"]), float(means["loss/a"])) == (1.0, 3.0)
    sums.add(loss(float("inf"), 2), ("b",))
    assert not sums.finite()
    without = loss(6.0, 2)
    del without.terms["b"]
    sums = Sums()
    sums.add(without, ("b",))
    assert sums.means_over_ranks().keys() == {"loss/a", "v"}


def test_a_term_without_targets_adds_nothing_to_the_loss(capsys):
    """Training divides such a term by 1: a validation loss of NaN would never be the best again."""
    sums = Sums()
    sums.add(loss(0.0, 0, (8.0, 4)))
    means = sums.means_over_ranks()
    assert float(means["loss"]) == 1.0 and means["loss/a"].isnan()
    sums.add(loss(0.0, 0, (0.0, 0)))
    assert sums.means_over_ranks()["loss"].isnan()
    assert capsys.readouterr().err == ""
    sums.add(loss(0.0, 0, (0.0, 0)))
    sums.means_over_ranks("valid")
    assert "nothing to predict in the valid split, so its loss is not a number" in capsys.readouterr().err
    sums.add(loss(0.0, 0, (8.0, 4)))
    sums.means_over_ranks("valid")
    assert capsys.readouterr().err == ""
