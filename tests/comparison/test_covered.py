"""Notes on test items that stand in training text, in comparisons of handwritten runs."""

import csv

import numpy as np
import pytest

from ssl_nlp.comparison.table import signs, write_csv
from ssl_nlp.evaluation.record import SuiteResult, read_record, write_suite
from ssl_nlp.evaluation.result import Result
from tests.comparison.handwritten import comparison, write


def test_scores_without_items_that_stand_in_training_text_are_named(tmp_path):
    right, shares = np.array([1, 1, 0, 1], dtype=np.uint8), np.array([1.0, 0.9, 0.0, 0.2], dtype=np.float32)
    for seed in range(2):
        write(tmp_path, f"masked-{seed}", seed=seed)
        details = {"overlap_with": "first 7 texts"} if seed else {}
        result = Result("accuracy", {"accuracy": 0.75}, details, right, overlap=shares)
        counted = Result("accuracy", {"accuracy": 0.5}, {}, np.array([1, 1, 0, 0], dtype=np.uint8), overlap=shares)
        path = tmp_path / "runs" / f"masked-{seed}" / "evaluation.json"
        write_suite(path, read_record(path), "docs", SuiteResult("same", {"knn": result}, {"tfidf": {"knn": counted}}))
    written = read_record(path)["suites"]["docs"]
    for plain, rest in (
        (written["evaluators"]["knn"], 2 / 3),
        (written["baselines"]["tfidf"]["knn"], 1 / 3),
    ):
        assert (plain["covered"], plain["uncovered"]) == (0.25, pytest.approx(rest))
    found = comparison(tmp_path)
    said = (
        "k-NN accuracy without the 25.0% of its items that training text covers completely: MaskedLM 0.667 instead of "
        "0.750, TF-IDF 0.333 instead of 0.500. Of the training text of MaskedLM, only the first 7 texts were read."
    )
    assert said in found.notes
    write_csv(found, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        lines = {line["row"]: line for line in csv.DictReader(file) if line["number"] == "docs/knn/accuracy"}
    for row, rest in (("MaskedLM", 2 / 3), ("TF-IDF", 1 / 3)):
        assert (float(lines[row]["covered"]), float(lines[row]["uncovered"])) == (0.25, pytest.approx(rest))


def test_a_dagger_that_covered_items_decide_is_named(tmp_path):
    """A model that is right on what it has read, and no better than counts on the rest."""
    shares = (np.arange(400) < 200).astype(np.float32)
    learned, counted = ((np.arange(400) % 2 == 0) | (shares == 1) * seen for seen in (True, False))
    for seed in range(3):
        write(tmp_path, f"masked-{seed}", seed=seed)
        results = [
            Result("accuracy", {"accuracy": float(right.mean())}, {}, right.astype(np.uint8), overlap=shares)
            for right in (learned, counted)
        ]
        path = tmp_path / "runs" / f"masked-{seed}" / "evaluation.json"
        record = SuiteResult("same", {"knn": results[0]}, {"tfidf": {"knn": results[1]}})
        write_suite(path, read_record(path), "docs", record)
    found = comparison(tmp_path)
    [row] = [row for row in found.rows if not row.baseline]
    assert "†" not in signs(row, found.columns[0])
    assert any(note.endswith("Marks that change: MaskedLM † instead of none.") for note in found.notes)
