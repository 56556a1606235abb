import numpy as np

from ssl_nlp.commands.task_results import grouped_by_text
from ssl_nlp.corpora import Document
from ssl_nlp.evaluation import Result


def test_hypotheses_about_one_premise_are_a_group():
    documents = [Document(text, pair=pair) for text, pair in (("a", "x"), ("a", "y"), ("b", "x"))]
    found = grouped_by_text(Result("accuracy", {}, items=np.ones(3)), documents)
    assert found.groups.tolist() == [[0, 2], [0, 3], [1, 2]]
    assert (
        grouped_by_text(found, [Document(text) for text in "xxx"]).groups is found.groups
    )  # which the task knows better
    assert (
        grouped_by_text(Result("accuracy", {}, items=np.ones(3)), [Document(text) for text in "xxy"]).groups.ndim == 2
    )
    assert grouped_by_text(Result("accuracy", {}, items=np.ones(2)), documents).groups is None  # of something else
