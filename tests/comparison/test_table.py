"""The table and the CSV file of comparisons of handwritten runs."""

import csv
import json
from dataclasses import replace

import pytest

from ssl_nlp.comparison.report import render_page
from ssl_nlp.comparison.table import write_csv
from ssl_nlp.evaluation.record import SuiteResult, read_record, write_suite
from ssl_nlp.evaluation.result import Result
from tests.comparison.handwritten import comparison, shown, write


def test_the_csv_file_holds_every_number(tmp_path):
    for seed in range(2):
        write(tmp_path, f"masked-{seed}", seed=seed)
    write(tmp_path, "causal", "CausalLM")
    found = comparison(tmp_path)
    write_csv(found, tmp_path / "comparison.csv")
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    [line] = [r for r in rows if (r["row"], r["number"]) == ("MaskedLM", "docs/knn/accuracy")]
    masked = next(row for row in found.rows if row.label == "MaskedLM")
    estimate = masked.scores["docs/knn/accuracy"]
    assert [float(line[name]) for name in ("mean", "low", "high", "n")] == [
        estimate.mean,
        estimate.low,
        estimate.high,
        2,
    ]
    assert line["seeds"] == "0 1"
    assert float(line["level"]) == 0.95
    assert float(line["baseline_level"]) == pytest.approx(1 - 0.05 / 4)  # two methods, two baselines
    assert 0 <= float(line["baseline_corrected_p"]) <= 1
    assert line["verdict"] in ("best", "tie")
    assert {"docs/knn/macro_f1", "cost/tokens"} <= {r["number"] for r in rows if r["row"] == "MaskedLM"}
    assert {r["row"] for r in rows if r["baseline"] == "1"} == {"TF-IDF", "untrained CausalLM, MaskedLM"}


def test_every_interval_of_the_csv_file_names_its_level(tmp_path):
    """That of prompts, too, whose ends are lines of their own, and not other numbers of that name."""
    for seed in range(2):
        write(tmp_path, f"masked-{seed}", seed=seed)
    write(tmp_path, "causal", "CausalLM")
    for name in ("masked-0", "masked-1", "causal"):
        path = tmp_path / "runs" / name / "evaluation.json"
        metrics = {"accuracy": 0.5, "low": 0.4, "high": 0.6}
        details = {"prompts": {"shots": 0, "level": 0.95}}
        answers = {"zero_shot": Result("accuracy", metrics, details), "own": Result("low", {"low": 1.0})}
        write_suite(path, read_record(path), "docs", SuiteResult("same", answers))
    write_csv(comparison(tmp_path), tmp_path / "comparison.csv")
    lines = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    for line in lines:
        of_prompts = line["number"] in ("docs/zero_shot/low", "docs/zero_shot/high")
        assert (line["level"] == "0.95") == (line["low"] != "" or of_prompts)
        for difference in ("best", "baseline"):
            assert line[f"{difference}_level"] or line[f"{difference}_low"] in ("", "0.0")
    assert {"docs/zero_shot/low", "docs/own/low"} <= {line["number"] for line in lines if line["row"] == "CausalLM"}


def test_many_columns_make_several_tables_with_complete_names(tmp_path):
    write(tmp_path, "masked", "MaskedLM")
    write(tmp_path, "causal", "CausalLM")
    found = comparison(tmp_path)
    [knn] = [column for column in found.columns if column.key == "docs/knn/accuracy"]
    many = [replace(knn, title=f"animals: question {number} accuracy") for number in range(9)]
    said = shown(replace(found, columns=many))
    assert said.count("frozen embeddings") == 2
    assert all(name in said for name in ("MaskedLM", "CausalLM", "TF-IDF"))


def test_validation_values_stand_beside_the_test_results_and_are_empty_in_records_without_them(tmp_path):
    for name, method, values in (("a", "SimCLR", (0.25, 0.75)), ("c", "CausalLM", ())):
        for seed in (0, 1):
            write(tmp_path, f"{name}{seed}", method, seed=seed)
            if values:
                path = tmp_path / "runs" / f"{name}{seed}" / "evaluation.json"
                record = json.loads(path.read_text())
                record["suites"]["docs"]["evaluators"]["knn"]["validation"] = values[seed]
                path.write_text(json.dumps(record))
    found = comparison(tmp_path)
    write_csv(found, tmp_path / "c.csv")
    with (tmp_path / "c.csv").open() as file:
        cells = {(row["row"], row["number"]): row["validation"] for row in csv.DictReader(file)}
    assert cells["SimCLR", "docs/knn/accuracy"] == "0.5"
    assert cells["SimCLR", "docs/knn/macro_f1"] == cells["CausalLM", "docs/knn/accuracy"] == ""
    assert render_page(found).count("on validation items 0.5") == 1
