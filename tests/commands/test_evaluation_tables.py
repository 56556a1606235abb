"""The tables of `evaluate`, and the keys under which it keeps embeddings."""

import inspect
import io
import sys

import pytest
from rich.console import Console

from ssl_nlp.commands.evaluation_tables import _scores, pairs_tables, remarks
from ssl_nlp.commands.models import Target
from ssl_nlp.evaluation import Result
from ssl_nlp.evaluation.minimal_pairs import MinimalPairs
from ssl_nlp.evaluation.record import SuiteResult
from ssl_nlp.methods import MaskedLM, Method


def test_many_data_sets_make_several_tables_and_numbers_stay_whole():
    answers = {f"data{number}.linear_probe": Result("accuracy", {"accuracy": 0.8123}) for number in range(12)}
    rows = [("a run with a long name", answers), ("tfidf", answers)]
    for width in (60, 80, 140):
        console = Console(width=width, record=True, file=io.StringIO())
        for table in _scores("mine", rows, 1, width):
            console.print(table)
        shown = console.export_text()
        assert shown.count("0.812") == 24
        assert "…" not in shown
        assert all(f"data{number}" in shown for number in range(12))


def test_a_probe_whose_regularisation_may_be_better_elsewhere_or_that_has_not_converged_is_named():
    inside, edge = {"C": 0.5, "C_at_edge": False, "gradient": 2e-6}, {"C": 1234567.0, "C_at_edge": True}
    draws = {"C": [0.5, 1e-5, 2.0], "C_at_edge": [False, True, False], "gradient": [1e-9, 1e-9, 1e-8]}
    answers = {"linear_probe": inside, "few_labels_8": draws}
    results = {name: Result("accuracy", {"accuracy": 0.5}, details) for name, details in answers.items()}
    baselines = {"tfidf": {"linear_probe": Result("accuracy", {"accuracy": 0.5}, edge)}, "lsa": {}}
    targets = [type("Named", (), {"name": name, "text": {}})() for name in ("one", "two")]
    said = list(remarks(targets, [SuiteResult("data", results, baselines)] * 2))
    assert [line for line in said if "digests" not in line] == [
        "one, linear_probe: the fit has not converged, the gradient is above 1e-08 (2e-06)",
        "one, few_labels_8: C is at the edge of the values tried (1e-05)",
        "tfidf, linear_probe: C is at the edge of the values tried (1.23e+06)",
        "two, linear_probe: the fit has not converged, the gradient is above 1e-08 (2e-06)",
        "two, few_labels_8: C is at the edge of the values tried (1e-05)",
    ]


class Own(MaskedLM):
    pass


def test_a_changed_class_of_ones_own_does_not_meet_its_old_embeddings(tmp_path, monkeypatch):
    """Neither those of its weights, nor those at random initialisation."""

    def keys(kind: type[Method]) -> list[str]:
        target = Target("a", kind(), tmp_path / "evaluation.json", "a.ckpt", "0" * 64, {}, kind)
        return [target.key, target.random_key]

    before, ours = keys(Own), keys(MaskedLM)
    source = inspect.getsource(sys.modules[__name__])
    monkeypatch.setattr(inspect, "getsource", lambda module: source + "# changed")
    assert not {*before} & {*keys(Own)}
    assert keys(MaskedLM) == ours


@pytest.mark.parametrize("number", [4, 14])
def test_fields_of_grammar_stand_beside_the_accuracies_or_many_of_them_in_a_table_of_their_own(number):
    names = [f"field_{n}" for n in range(number)]
    pairs = MinimalPairs([f"good {name}" for name in names], [f"bad {name}" for name in names], names, names)
    rows = [("mine", "zho.minimal_pairs", pairs.shorter()), ("other", "zho.minimal_pairs", pairs.shorter())]
    console = Console(width=100, file=io.StringIO())
    tables = pairs_tables("grammar", rows)
    console.print(*tables)
    shown = console.file.getvalue()
    assert len(tables) == (1 if number == 4 else 2) and "…" not in shown
    assert all(f"field {n}" in shown for n in range(number)) or number == 4
    assert shown.count(" 0.0%") == 2 * (2 + number)  # the accuracy, the end of its interval, and those of the fields
