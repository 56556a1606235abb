import pytest

from ssl_nlp.errors import UserError, refuse


def test_all_problems_that_hold_are_refused_in_one_line():
    refuse({})
    refuse({"one": False, "two": []}, "place")
    with pytest.raises(UserError, match="^place: two; three$"):
        refuse({"one": False, "two": ["reason"], "three": True}, "place")
    with pytest.raises(UserError, match="^three$"):
        refuse({"three": True})
