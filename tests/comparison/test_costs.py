"""The kinds of cost that tables show."""

from ssl_nlp.comparison.costs import shown_costs

ALL = {"parameters": 5e6, "trained_parameters": 5e6, "tokens": 1e6}


def test_trained_parameters_are_shown_where_some_parameters_are_not_trained():
    older = {"parameters": 5e6}  # recorded before trained parameters were counted
    assert "trained_parameters" not in shown_costs([ALL, older])
    assert shown_costs([ALL, ALL | {"trained_parameters": 1e5}])["trained_parameters"].title == "M trained"
