"""Runs and checkpoints of version 0.1.0 load, resume and evaluate to the numbers that 0.1.0 found."""

import csv
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_nlp.corpora.base import text_digest
from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.evaluation import get_suite, pooling, suite, validation_items
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.methods import VAE, Method
from ssl_nlp.methods.autoencoding.sentence_decoding import examined, take_rows
from ssl_nlp.methods.scoring import score_rows
from ssl_nlp.objectives.scores import Scores
from tests.end_to_end.cli import run

OLD = Path(__file__).parents[1] / "runs_0_1"
TEXTS = ["the dog sees a cat", "A small bird hears the red house.", "一只小狗看见猫。", ""]
STOPPED = sorted(path.name.removesuffix("_stopped") for path in OLD.glob("*_stopped"))
NAMES = sorted(path.parent.name for path in OLD.glob("*/evaluation.json"))


def validation(output: str) -> dict[str, float]:
    """The metrics in the table that `validate` prints."""
    return {name: float(number) for name, number in re.findall(r"(val/\S+)\s+\S+\s+(-?\d\S*)", output)}


def expected(name: str) -> dict:
    return json.loads((OLD / "expected.json").read_text())[name]


def copy_to(folder: Path) -> None:
    """The old runs in `runs/`, beside the texts that they were trained on."""
    for path in OLD.iterdir():
        if (path / "run.json").exists():
            shutil.copytree(path, folder / "runs" / path.name)
        elif path.is_dir() and path.name != "__pycache__":
            shutil.copytree(path, folder / path.name)
        elif path.is_file():
            shutil.copy(path, folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_it_validates_to_the_same_numbers(name, folder, capsys):
    assert run("validate", "--run", name) == 0
    assert validation(capsys.readouterr().out) == pytest.approx(expected(name)["validation"], rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_its_checkpoint_embeds_texts_as_before(name):
    method = Method.load_from_checkpoint(OLD / name / "checkpoints" / "last.ckpt")
    vectors = torch.tensor(expected(name)["embeddings"])
    torch.testing.assert_close(method.embed(TEXTS), vectors, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", STOPPED)
def test_a_stopped_run_goes_on_and_ends_like_the_one_that_was_left_alone(name, folder, capsys):
    assert run("fit", "--config", f"runs/{name}_stopped/config.yaml") == 0
    assert "resumes at step 6" in capsys.readouterr().out
    with (folder / "runs" / f"{name}_stopped" / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert last["step"] == "8"
    text = json.loads((folder / "runs" / f"{name}_stopped" / "run.json").read_text())["text"]
    assert {split: len(digest) for split, digest in text.items()} == {"train": 64, "valid": 64}
    assert float(last["val/loss"]) == pytest.approx(expected(name)["validation"]["val/loss"], rel=1e-3)


@pytest.fixture(scope="module")
def order_as_then() -> Iterator[None]:
    """Items in the order of the digests by which splits are made, as up to protocol 5."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (suite, pooling, validation_items):
            patch.setattr(module, "order_digest", text_digest)
        yield


def bound_as_then(method: VAE, texts: list[str], batch_size: int = 64) -> Scores:
    """The negative ELBO of one draw for each text, less the mean gain of several draws on some of them."""
    gains: list[torch.Tensor] = []

    def score_batch(batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = method.posterior(batch)
        nats = method._negative_elbo(batch, mean, log_variance)
        rows = examined(len(batch))
        bounds = method.nll_bounds(take_rows(batch, rows), mean[rows], log_variance[rows], method.importance_samples)
        gains.append((bounds[0] - bounds[1]).double())
        return nats, (method.targets(batch) != IGNORE_INDEX).sum(dim=1)

    scores = score_rows(method, texts, batch_size, score_batch)
    return replace(scores, nats=scores.nats - torch.cat(gains).mean())


@pytest.fixture(scope="module")
def scores_as_then() -> Iterator[None]:
    """Scores of a VAE from the draws of then, of which the numbers of then are an estimate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAE, "score", bound_as_then)
        yield


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, order_as_then: None, scores_as_then: None) -> Path:
    """A folder with the old runs, evaluated anew: `evaluation.json` as this version writes it."""
    folder, before = tmp_path_factory.mktemp("evaluated"), Path.cwd()
    copy_to(folder)
    os.chdir(folder)
    try:
        for path in folder.glob("runs/*/evaluation*"):
            path.unlink()
        assert run("evaluate", *NAMES, "--config", "suite.yaml") == 0
    finally:
        os.chdir(before)
    return folder / "runs"


def scores(evaluation: Path) -> dict[str, Any]:
    """The results of each evaluator."""
    return json.loads(evaluation.read_text())["suites"]["mine"]["evaluators"]


def close(evaluator: str, metrics: dict[str, float]) -> Any:
    # A few of the items may be decided otherwise by a processor that rounds otherwise.
    tolerance = {"rel": 1e-3} if "language_modelling" in evaluator else {"rel": 1e-2, "abs": 0.06}
    return pytest.approx(metrics, **tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_it_gets_the_same_scores_with_the_pooling_that_its_method_had(name, folder, order_as_then, scores_as_then):
    method = Method.load_from_checkpoint(OLD / name / "checkpoints" / "last.ckpt")
    evaluators = get_suite(config="suite.yaml").evaluators
    found = run_evaluators(evaluators, method, Poolings({"as then": method})).results
    for evaluator, old in scores(OLD / name / "evaluation.json").items():
        assert {m: found[evaluator].metrics[m] for m in old["metrics"]} == close(evaluator, old["metrics"]), evaluator


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_evaluated_anew_it_gets_the_best_of_the_poolings_that_all_methods_have(name, evaluated):
    method = Method.load_from_checkpoint(OLD / name / "checkpoints" / "last.ckpt")
    then = "own" if "own" in method.embed_all(TEXTS) else method.pooling
    old, new = (scores(runs / name / "evaluation.json") for runs in (OLD, evaluated))
    assert old.keys() <= new.keys()
    for evaluator, result in new.items():
        chosen = result["details"].get("pooling")
        assert (chosen is None) == ("language_modelling" in evaluator)
        if chosen in (None, then):
            assert {m: result["metrics"][m] for m in old[evaluator]["metrics"]} == close(
                evaluator, old[evaluator]["metrics"]
            )


def test_old_evaluations_are_compared_and_said_to_be_of_the_older_protocol(folder, capsys):
    evaluations = [folder / "runs" / name / "evaluation.json" for name in ("simclr", "moco")]
    before = [path.read_bytes() for path in evaluations]
    assert run("compare", "simclr", "moco", "--suite", "mine", "--output", "comparison") == 0
    assert [path.read_bytes() for path in evaluations] == before
    assert "evaluated by protocol 1" in " ".join(capsys.readouterr().out.split())
    with Path("comparison/comparison.csv").open() as file:
        assert {"SimCLR", "MoCo"} <= {row["row"] for row in csv.DictReader(file)}


def test_an_evaluation_of_a_later_version_is_named(folder, capfd):
    path = folder / "runs" / "moco" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": 99}))
    assert run("compare", "simclr", "moco", "--suite", "mine", "--output", "comparison") == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if line]
    assert "was written by protocol 99" in line
