"""Losses beside their exact limits, in comparisons of handwritten runs."""

import csv
import json
import re

import pytest

from ssl_nlp.comparison import compare_runs, find_runs
from ssl_nlp.comparison.report import render_page
from ssl_nlp.comparison.table import write_csv
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.excess import Excess
from ssl_nlp.evaluation.record import SuiteResult, read_record, write_suite
from ssl_nlp.evaluation.result import Result
from tests.comparison.handwritten import comparison, write


def test_losses_stand_beside_their_limits_with_verdicts_on_the_mean_of_the_seeds(tmp_path):
    key = "limits/limits/pseudo_excess_nats"
    for name, method, losses in (("masked", "MaskedLM", [3.1, 3.3]), ("diffusion", "MaskedDiffusion", [3.01, 3.03])):
        for seed, loss in enumerate(losses):
            write(tmp_path, f"{name}-{seed}", method, seed=seed)
            path = tmp_path / "runs" / f"{name}-{seed}" / "evaluation.json"
            limits = {"pseudo-likelihood": Excess(loss, 3.0, 4.0, standard_error=0.01 + 0.02 * seed, rows=50).to_json()}
            if seed:  # as earlier versions wrote it
                del limits["pseudo-likelihood"]["verdict"], limits["pseudo-likelihood"]["excess"]
            metrics, details = {"pseudo_excess_nats": loss - 3.0}, {"kind": "pseudo-likelihood", "limits": limits}
            result = SuiteResult("same", {"limits": Result("pseudo_excess_nats", metrics, details)})
            write_suite(path, read_record(path), "limits", result)
    found = compare_runs(find_runs([tmp_path / "runs"]), "limits")
    write_csv(found, tmp_path / "comparison.csv")
    lines = {(r["row"], r["number"]): r for r in csv.DictReader((tmp_path / "comparison.csv").open())}
    names = ("mean", "loss", "limit", "excess_standard_error")
    above, reached = lines["MaskedLM", key], lines["MaskedDiffusion", key]
    assert [float(above[name]) for name in names] == pytest.approx([0.2, 3.2, 3.0, 0.02])
    assert (above["excess_verdict"], reached["excess_verdict"]) == ("above it", "reached")
    assert lines["MaskedLM", "cost/tokens"]["excess_verdict"] == ""
    text = render_page(found)
    table = text[text.index('<section id="limits">') : text.index('<section id="setup">')]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table)
    assert cells[:5] == ["pseudo-likelihood", "3.0200", "3.0000", "0.0200 ± 0.0200", "reached"]
    assert cells[5:] == ["pseudo-likelihood", "3.2000", "3.0000", "0.2000 ± 0.0200", "above it"]


def test_a_record_with_broken_limits_is_named(tmp_path):
    write(tmp_path, "a")
    path = tmp_path / "runs" / "a" / "evaluation.json"
    record = json.loads(path.read_text())
    record["suites"]["docs"]["evaluators"]["knn"]["details"]["limits"] = {"likelihood": {"loss": 1.0}}
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"a/evaluation.json is broken .*: move it away and evaluate the run again"):
        comparison(tmp_path)
