"""The kinds of cost that tables show."""

from ssl_nlp.comparison.costs import shown_costs, token_differences
from ssl_nlp.comparison.types import Estimate, Row

ALL = {"parameters": 5e6, "trained_parameters": 5e6, "tokens": 1e6}


def test_trained_parameters_are_shown_where_some_parameters_are_not_trained():
    older = {"parameters": 5e6}  # recorded before trained parameters were counted
    assert "trained_parameters" not in shown_costs([ALL, older])
    assert shown_costs([ALL, ALL | {"trained_parameters": 1e5}])["trained_parameters"].title == "M trained"


def test_tokens_read_are_shown_where_some_are_read_more_than_once():
    assert "tokens_read" not in shown_costs([ALL, ALL | {"tokens_read": 1e6}])  # one recorded before they were counted
    assert shown_costs([ALL, ALL | {"tokens_read": 2e6}])["tokens_read"].title == "M tokens read"


def test_a_sentence_names_tokens_that_were_read_more_often():
    rows = []
    for label, read in (("MaskedLM", 1e6), ("SimCLR", 2e6)):
        cost = {key: Estimate(number, None, None, 1) for key, number in (("tokens", 1e6), ("tokens_read", read))}
        rows.append(Row(label, (), False, {}, cost=cost))
    assert [*token_differences(rows, ", those of ancestors included,")] == [
        "The tokens read, those of ancestors included, differ (each counts as often as a network reads it): "
        "1,000,000 for MaskedLM and 2,000,000 for SimCLR."
    ]
