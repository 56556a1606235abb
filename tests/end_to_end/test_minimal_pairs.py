"""`ssl-nlp evaluate` and `compare` on minimal pairs, beside the baselines."""

import json
from pathlib import Path

import pytest

from ssl_nlp.evaluation.record import read_suite
from ssl_nlp.evaluation.result import statistic_of
from tests.corpus import random_texts
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

SUITE = """
name: minimal_pairs
data:
  order: {task: minimal_pairs, test: pairs.jsonl}
"""


def write_pairs(path):
    """Sentences of the corpus beside their words in reverse, one of them twice."""
    good = [text.capitalize() + "." for text in random_texts(12, longest=10)]
    rows = [
        {"good": text, "bad": " ".join(reversed(text.split())), "paradigm": f"p{n % 3}", "field": f"f{n % 3 // 2}"}
        for n, text in enumerate(good)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, rows[0] | {"bad": "Of of of."}]))


def test_a_run_beside_shorter_sentences_and_the_n_gram_of_its_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = ["fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(write_texts(tmp_path)), *tiny_encoder()]
    assert run(*config, "--run", "masked", "--wandb.mode=disabled", "--trainer.max_steps=4") == 0
    Path("pairs.yaml").write_text(SUITE)
    write_pairs(tmp_path / "pairs.jsonl")
    capsys.readouterr()
    assert run("evaluate", "masked", "--suite", "minimal_pairs", "--config", "pairs.yaml") == 0
    shown = capsys.readouterr().out
    for words in (
        "minimal pairs, means over paradigms",
        "pseudo-likelihood",
        "5-gram",
        "shorter",
        "per token",
        "f0",
        "f1",
    ):
        assert words in shown
    assert "frozen embeddings" not in shown and "language modelling" not in shown
    found = read_suite(tmp_path / "runs" / "masked" / "evaluation.json", "minimal_pairs")
    assert {name for name, results in found.baselines.items() if results} == {"random_init", "5-gram", "shorter"}
    for results in (found.evaluators, *filter(None, found.baselines.values())):
        [(name, result)] = results.items()
        assert (name, result.primary_metric) == ("order.minimal_pairs", "accuracy")
        assert statistic_of(result.items, result.statistic) == pytest.approx(result.primary)
    # It has seen every word order of the good sentences.
    assert found.baselines["5-gram"]["order.minimal_pairs"].primary > 0.9
    assert run("compare", "masked", "--suite", "minimal_pairs", "--output", "compared") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("minimal_pairs: minimal pairs", "shorter sentence", "5-gram", "untrained"):
        assert words in shown
    assert "minimal_pairs/order.minimal_pairs/accuracy_per_token" in Path("compared/comparison.csv").read_text()
