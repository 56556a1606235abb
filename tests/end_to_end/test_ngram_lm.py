"""The n-gram language model on the command line: it is trained, resumed, used and compared like every other method."""

import json
from pathlib import Path

import numpy as np
import pytest

from ssl_nlp.corpora import TextFiles
from ssl_nlp.evaluation import get_suite
from ssl_nlp.methods import Method, NGramLM
from ssl_nlp.runs.metrics_csv import read_metrics
from tests.end_to_end.cli import CONFIGS, OF_THE_MACHINE, run, run_process, small, tiny_encoder, write_texts
from tests.end_to_end.suites import write_suites

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A corpus in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_texts(tmp_path)


def fit(texts: str, name: str, *more: str) -> list[str]:
    return ["fit", "--config", str(CONFIGS / "ngram_lm.yaml"), *small(texts), "--run", name, *more]


def counts(name: str) -> list[np.ndarray]:
    method = Method.load_from_checkpoint(f"runs/{name}/checkpoints/last.ckpt")
    assert isinstance(method, NGramLM)
    return [*method.model().keys, *method.model().counts]


def metrics(name: str) -> list[dict[str, str]]:
    """What a run has measured of itself, without what it has measured of the machine."""
    rows = read_metrics(Path("runs") / name / "metrics.csv")
    return [{key: value for key, value in row.items() if key not in OF_THE_MACHINE} for row in rows]


def test_it_is_trained_used_and_compared_with_empty_cells_where_it_cannot_be_asked(texts, capfd):
    assert run(*fit(texts, "ngrams")) == 0
    losses = [float(row["val/loss"]) for row in metrics("ngrams") if row["val/loss"]]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert Path("runs/ngrams/samples.jsonl").read_text().count("\n") >= 8
    assert run("validate", "--run=ngrams") == run("test", "--run=ngrams") == 0
    assert str(losses[-1])[:5] in capfd.readouterr().out
    assert run("score", "--checkpoint=runs/ngrams/checkpoints/best.ckpt", f"--input={texts}") == 0
    assert capfd.readouterr().out.count('"kind": "likelihood"') == 200
    for command in (["predict", "--run=ngrams"], ["embed", "--checkpoint=runs/ngrams/checkpoints/best.ckpt"]):
        more = [f"--input={texts}", "--output=a.npy"] if command[0] == "embed" else []
        assert run(*command, *more) == 2
        assert "no encoder and embeds no text" in capfd.readouterr().err
    refused = {
        "no encoder to start from": [
            "fit",
            "--config=simclr",
            "--config=encoder/trained",
            "--model.encoder.run=ngrams",
        ],
        "holds a model without an encoder": ["export", "ngrams", "--format=onnx"],
    }
    for reason, command in refused.items():
        assert run(*command) == 2
        assert reason in capfd.readouterr().err
    write_suites(Path())
    neural = ["fit", "--config", str(CONFIGS / "causal_lm.yaml"), *small(texts), *tiny_encoder(), "--run=neural"]
    assert run(*neural) == 0
    assert run("compare", "ngrams", "neural", "--config=mine.yaml") == 0
    record = json.loads(Path("runs/ngrams/evaluation.json").read_text())["suites"]["mine"]
    assert {*record["evaluators"]} == {"language_modelling"}
    assert "NGramLM embeds no text" in record["missing"].values()
    out = capfd.readouterr().out
    assert "NGramLM embeds no text" in out and "5-gram" in out


def test_a_5_gram_of_the_same_text_stands_beside_a_language_model(texts, capfd):
    """It counts the training split of the run in the run's tokens, and is missing when the text is."""
    write_suites(Path())
    names = ("causal_lm", "masked_lm")
    for name in names:
        config = ["--config", str(CONFIGS / f"{name}.yaml"), *small(texts, "--trainer.max_steps=2"), *tiny_encoder()]
        assert run("fit", *config, "--trainer.val_check_interval=2", "--run", name) == 0
    assert run("evaluate", *names, "--config=mine.yaml") == 0
    out = capfd.readouterr().out
    assert "5-gram (causal_lm)" in out
    suites = [json.loads(Path(f"runs/{name}/evaluation.json").read_text())["suites"]["mine"] for name in names]
    assert "5-gram" not in suites[1]["baselines"]  # a pseudo-likelihood cannot be compared with it
    found = suites[0]["baselines"]["5-gram"]
    tokenizer = Method.load_from_checkpoint("runs/causal_lm/checkpoints/last.ckpt").tokenizer
    train = [document.text for document in TextFiles(texts, unit="line").documents("train")]
    model = NGramLM(5)
    model.connect(tokenizer)
    model.count(np.array([*ids, tokenizer.end_id]) for ids, _ in tokenizer.encode(train))
    expected = get_suite(config="mine.yaml").evaluators["language_modelling"](model.eval())
    assert found["language_modelling"]["metrics"] == pytest.approx(expected.metrics)
    Path(texts).rename("gone.txt")
    assert run("evaluate", "causal_lm", "--config=mine.yaml") == 0
    assert "causal_lm, 5-gram: its training text cannot be read" in " ".join(capfd.readouterr().out.split())


def test_a_run_that_was_stopped_within_the_pass_ends_like_one_left_alone(texts, monkeypatch):
    stops = ["--import=tests.end_to_end.test_resume", "--trainer.callbacks+=tests.end_to_end.test_resume.Stop"]
    assert run(*fit(texts, "alone", *stops)) == 0
    monkeypatch.setenv("STOP_AT", "12")
    assert run(*fit(texts, "stopped", *stops)) == 143
    monkeypatch.delenv("STOP_AT")
    assert run(*fit(texts, "stopped", *stops)) == 0
    assert metrics("alone") == metrics("stopped")
    for one, other in zip(counts("alone"), counts("stopped"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_processes_count_what_one_does(texts, tmp_path):
    # Among batches of similar lengths, an odd last one would change the order of the others.
    shared = ["--trainer.accelerator=cpu", "--data.similar_lengths=false"]
    for name, settings in {"one": [], "two": ["--trainer.devices=2", "--data.batch_size=2"]}.items():
        done = run_process(*fit(texts, name, *shared, *settings), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "it/s" not in done.stderr and "examples/s" not in done.stderr  # progress bars of libraries
    for one, other in zip(counts("one"), counts("two"), strict=True):
        np.testing.assert_array_equal(one, other)
    one, two = (metrics(name)[-1] for name in ("one", "two"))
    assert one["train/tokens"] == two["train/tokens"]
    assert float(one["train/loss"]) == pytest.approx(float(two["train/loss"]))
