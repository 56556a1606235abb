"""The kinds of cost that tables show."""

from ssl_nlp.comparison.costs import shown_costs

ALL = {"parameters": 5e6, "trained_parameters": 5e6, "tokens": 1e6}


def test_trained_parameters_are_shown_where_some_parameters_are_not_trained():
    older = {"parameters": 5e6}  # recorded before trained parameters were counted
    assert "trained_parameters" not in shown_costs([ALL, older])
    assert shown_costs([ALL, ALL | {"trained_parameters": 1e5}])["trained_parameters"].title == "M trained"


def test_tokens_read_are_shown_where_some_are_read_more_than_once():
    assert "tokens_read" not in shown_costs([ALL, ALL | {"tokens_read": 1e6}])  # one recorded before they were counted
    assert shown_costs([ALL, ALL | {"tokens_read": 2e6}])["tokens_read"].title == "M tokens read"
