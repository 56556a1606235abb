"""The examples work from an empty folder, from YAML and in a comparison, and stay short."""

import html
import json
import re
import shutil
from pathlib import Path

import markdown
import pytest

from ssl_nlp.evaluation.record import read_suite
from ssl_nlp.runs.metrics_csv import read_metrics
from tests.end_to_end.cli import run, small, tiny_encoder, write_texts
from tests.end_to_end.suites import write_suites

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, a small corpus and a suite of a few lines."""
    path = tmp_path_factory.mktemp("own")
    shutil.copytree(EXAMPLES, path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    write_texts(path)
    write_suites(path)
    return path


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def fit(name: str, *arguments: str, run_name: str) -> int:
    overlay = ["--config", f"examples/{name}.yaml"]
    return run("fit", "--import", f"examples/{name}.py", *arguments, *overlay, *tiny_encoder(), "--run", run_name)


@pytest.mark.slow
def test_a_method_of_ones_own_is_trained_and_compared_with_another(folder, capsys):
    texts = small("texts.txt")
    overlay = ["--config", "examples/own_method.yaml"]
    own = ["--import", "examples/own_method.py"]
    assert run("fit", *own, *overlay, *texts, *tiny_encoder(), "--run", "twins") == 0
    pair = ["--data.unit", "sentence"]
    assert run("fit", "--config", "masked_lm", *texts, *pair, *tiny_encoder(), "--run", "bert") == 0
    assert run("compare", *own, "twins", "bert", "--config", "mine.yaml") == 0
    shown = capsys.readouterr().out
    assert "BarlowTwins" in shown
    assert "MaskedLM" in shown
    assert (folder / "comparison" / "report.html").is_file()


def test_a_task_of_ones_own_is_trained_on_ones_own_files(folder):
    rows = [f"{'very ' * number}good\t{1 + number} stars" for number in range(5)] * 12
    lines = [row.replace("good", f"good {place}") for place, row in enumerate(rows)]
    (folder / "reviews.tsv").write_text("review\tstars\n" + "\n".join(lines) + "\n")
    own = ["--import", "examples/own_task.py", "--config", "examples/own_task.yaml", *tiny_encoder()]
    short = ["--data.tokenizer.vocab_size=320", "--trainer.max_steps=20", "--trainer.val_check_interval=10"]
    assert run("fit", *own, *short, "--data.corpus.valid=0.3", "--run=stars") == 0
    logged = read_metrics(folder / "runs" / "stars" / "metrics.csv")[-1]
    assert 0 <= float(logged["val/mean_error"]) <= 4


@pytest.mark.slow
def test_a_corpus_of_ones_own_is_read(folder):
    size = ["--data.tokenizer.vocab_size=320", "--data.batch_size=4", "--data.length=32", "--config", "trainer/debug"]
    assert fit("own_corpus", "--config", "masked_lm", *size, run_name="comments") == 0
    assert "own_corpus.Comments" in (folder / "runs" / "comments" / "config.yaml").read_text()


def test_batches_of_ones_own_are_trained_on(folder):
    assert fit("own_batches", "--config", "masked_lm", *small("texts.txt"), run_name="paragraphs") == 0
    assert "own_batches.Paragraphs" in (folder / "runs" / "paragraphs" / "config.yaml").read_text()


def test_a_view_of_ones_own_is_seen(folder):
    assert fit("own_view", "--config", "simclr", *small("texts.txt"), run_name="swapped") == 0
    assert "own_view.SwapNeighbours" in (folder / "runs" / "swapped" / "config.yaml").read_text()


def test_an_evaluator_of_ones_own_is_run_by_evaluate_compare_and_while_training(folder):
    own = ["--import", "examples/own_evaluator.py"]
    suite = ["--config", "examples/own_evaluator.yaml"]
    callback = {
        "class_path": "ssl_nlp.training.callbacks.OnlineProbe",
        "init_args": {"config": suite[1], "evaluators": ["order"]},
    }
    Path("probe.yaml").write_text(json.dumps({"trainer": {"callbacks": [callback]}}))
    method = ["--config", "causal_lm", *small("texts.txt"), *tiny_encoder(), "--trainer.max_steps=10"]
    assert run("fit", *own, *method, "--config", "probe.yaml", "--run", "probed") == 0
    logged = read_metrics(folder / "runs" / "probed" / "metrics.csv")[-1]
    assert run("evaluate", *own, "probed", *suite) == 0
    result = read_suite(folder / "runs" / "probed" / "evaluation.json", "word-order").evaluators["order"]
    assert result.details["pooling"] in ("mean", "last", "first")
    assert float(logged["eval_valid/word-order/order/accuracy"]) == pytest.approx(result.validation, abs=0.02)
    assert run("compare", *own, "probed", *suite, "--output", "order") == 0
    assert "word-order/order/accuracy" in Path("order/comparison.csv").read_text()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_under_40_lines(path):
    assert len(path.read_text().splitlines()) < 40


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("own_*.py")), ids=lambda path: path.stem)
def test_an_example_is_shown_in_the_documentation(path):
    page = (EXAMPLES.parent / "docs" / "extend.md").read_text()
    settings = {"pymdownx.snippets": {"base_path": [EXAMPLES.parent], "check_paths": True}}
    shown = markdown.markdown(page, extensions=["pymdownx.superfences", *settings], extension_configs=settings)
    assert path.read_text().strip() in html.unescape(re.sub("<[^>]*>", "", shown))
