import pytest

from ssl_nlp.evaluation.cost import cost


def test_seconds_follow_from_tokens_and_their_rates():
    rows = [
        {"step": 10, "train/tokens": 1000, "train/tokens_per_second": 500, "train/flops": 1e6},
        {"step": 15, "val/loss": 3},
        {
            "step": 20,
            "train/tokens": 4000,
            "train/tokens_per_second": 1000,
            "train/flops": 4e6,
            "train/peak_memory": 7e8,
        },
    ]
    assert cost(12, 3, rows) == {
        "parameters": 12,
        "trained_parameters": 3,
        "tokens": 4000,
        "seconds": pytest.approx(2 + 3),
        "tokens_per_second": pytest.approx(800),
        "flops": 4e6,
        "peak_memory": 7e8,
    }


def test_seconds_are_those_of_processors_where_they_were_logged():
    rows = [
        {"step": 10, "train/tokens": 1000, "train/tokens_per_second": 500, "train/processor_seconds": 3.5},
        {"step": 20, "train/tokens": 2000, "train/processor_seconds": 7.5, "val/loss": 3},
    ]
    found = cost(12, 12, rows)
    assert (found["seconds"], found["tokens_per_second"]) == (7.5, 500)


def test_tokens_after_the_last_rate_count_too():
    """Validations log tokens and FLOPs, also of a training that is shorter than the interval between rates."""
    rows = [{"step": 20, "train/tokens": 2000, "train/flops": 4e6, "val/loss": 3}]
    assert cost(12, 12, rows) == {"parameters": 12, "trained_parameters": 12, "tokens": 2000, "flops": 4e6}
    found = cost(12, 12, [{"step": 10, "train/tokens": 1000, "train/tokens_per_second": 500}, *rows])
    assert (found["tokens"], found["seconds"], found["tokens_per_second"]) == (2000, 2, 500)


def test_what_was_not_logged_is_left_out():
    assert cost(12, 12, []) == {"parameters": 12, "trained_parameters": 12}


def test_what_the_ancestors_saw_and_computed_is_counted_as_far_as_it_is_known():
    rows = [{"step": 10, "train/tokens": 1000, "train/tokens_per_second": 500, "train/flops": 1e6}]
    ancestry = [{"tokens": None, "flops": None}, {"tokens": 400, "flops": 2e6}, {"tokens": 100, "flops": None}]
    found = cost(12, 12, rows, ancestry)
    assert (found["tokens"], found["ancestor_tokens"]) == (1500, 500)
    assert (found["flops"], found["ancestor_flops"]) == (3e6, 2e6)
    assert (found["seconds"], found["tokens_per_second"]) == (2, 500)
    assert "ancestor_tokens" not in cost(12, 12, rows, ancestry[:1])
    timed = [row | {"train/processor_seconds": 7.5} for row in rows]
    found = cost(12, 12, timed, [*ancestry, {"tokens": 100, "flops": None, "seconds": 30.0}])
    assert (found["seconds"], found["ancestor_seconds"], found["tokens_per_second"]) == (37.5, 30, 500)


def test_tokens_that_ancestors_read_count_and_once_where_that_was_not_recorded():
    rows = [{"step": 10, "train/tokens": 1000, "train/tokens_read": 2000.0}]
    ancestry = [{"tokens": 400, "tokens_read": 800.0, "flops": None}, {"tokens": 100, "flops": None}]
    found = cost(12, 12, rows, ancestry)
    assert (found["tokens"], found["tokens_read"], found["ancestor_tokens_read"]) == (1500, 2900, 900)
    older = [{"step": 10, "train/tokens": 1000}]
    assert "tokens_read" not in cost(12, 12, older, ancestry)
