"""`ssl-nlp evaluate`: what it writes, where, and what it refuses."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_nlp.commands.models import find_target
from ssl_nlp.evaluation import PROTOCOL
from ssl_nlp.evaluation.record import read_items, read_suite
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.methods import Method
from ssl_nlp.runs.checkpoint import digest
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts
from tests.end_to_end.suites import SUITE, write_suites
from tests.test_tracking import records

pytestmark = pytest.mark.slow

BASELINES = {"majority", "tfidf", "lsa", "random_words", "random_init"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, one of them on W&B."""
    folder = tmp_path_factory.mktemp("trained")
    texts, before = write_texts(folder), Path.cwd()
    os.chdir(folder)
    try:
        for method, mode in (("masked_lm", "offline"), ("causal_lm", "disabled")):
            config = ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts), *tiny_encoder()]
            assert run(*config, "--run", method, f"--wandb.mode={mode}", "--trainer.max_steps=10") == 0
    finally:
        os.chdir(before)
    write_suites(folder)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which `evaluate` refuses; it writes nothing."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert run("evaluate", *arguments) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert before == {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    return lines[0]


PROMPTS = """
name: asked
data:
  animals: {task: prompts, train: labelled.tsv, valid: 0.2, test: 0.3, label: label, template: "{text} says the {label}",
            words: {dog: dog, cat: cat}, shots: [0, 2], draws: 2, calibration: nothing}
"""


def test_prompts_ask_language_models_without_training(folder, capsys):
    (folder / "prompts.yaml").write_text(PROMPTS)
    assert run("evaluate", "masked_lm", "causal_lm", "--config", "prompts.yaml") == 0
    shown, progress = capsys.readouterr()
    assert "[1/2] masked_lm\n[2/2] causal_lm\n" in progress
    assert "prompts, without training" in shown
    assert "frozen" not in shown
    for name, kind in (("masked_lm", "pseudo-likelihood"), ("causal_lm", "likelihood")):
        result = read_suite(folder / "runs" / name / "evaluation.json", "asked")
        assert result.evaluators.keys() == {"animals.zero_shot", "animals.few_shot_2"}
        for evaluator, found in result.evaluators.items():
            assert (found.primary_metric, found.details["prompts"]["kind"]) == ("calibrated_accuracy", kind)
            assert found.metrics.keys() >= {"accuracy", "accuracy_per_token", "accuracy_per_byte", "low", "high"}
            assert statistic_of(found.items, found.statistic) == pytest.approx(found.primary, abs=1e-6)
            assert result.baselines["majority"][evaluator].primary_metric == found.primary_metric
            assert evaluator in result.baselines["random_init"]
    assert run("compare", "masked_lm", "causal_lm", "--config", "prompts.yaml", "--output", "asked") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "asked: prompts, without training" in shown
    assert "majority class" in shown


def test_runs_and_their_baselines(folder, capsys):
    assert run("evaluate", "masked_lm", "runs/causal_lm", "--config", "mine.yaml") == 0
    shown = capsys.readouterr().out
    for word in ("masked_lm", "causal_lm", "tfidf", "random_init", "pseudo-likelihood", "likelihood", "tokens/s"):
        assert word in shown
    for name, method in (("masked_lm", "MaskedLM"), ("causal_lm", "CausalLM")):
        path = folder / "runs" / name / "evaluation.json"
        record = json.loads(path.read_text())
        assert (record["protocol"], record["method"]) == (PROTOCOL, method)
        assert record["checkpoint"]["file"] == "checkpoints/last.ckpt"
        assert record["cost"]["tokens"] > 0
        assert record["cost"]["seconds"] > 0
        assert record["cost"]["flops"] > 0
        assert record["cost"]["peak_memory"] > 1e6
        suite = record["suites"]["mine"]
        assert suite["baselines"].keys() == BASELINES | {"word_vectors"} | (
            {"5-gram"} if method == "CausalLM" else set()
        )
        assert (suite["protocol"], suite["missing"]) == (PROTOCOL, {})
        assert {result["read"] for result in suite["evaluators"].values()} == {1.0}
        assert suite["items"].keys() == suite["evaluators"].keys()
        text = json.loads((path.parent / "run.json").read_text())["text"]
        assert record["text"] == text and text.keys() == {"train", "valid"}
        items, train = suite["data"][:12], text["train"][:12]
        assert f"{name}, digests: evaluation items {items}, train text {train}" in " ".join(shown.split())
        for key, result in suite["evaluators"].items():
            poolings = set(result["details"].get("pooling", "").split("/"))
            assert poolings == {""} if key == "language_modelling" else poolings <= {"mean", "last", "first"}, key
        language = suite["evaluators"]["language_modelling"]
        kind = {"MaskedLM": "pseudo-likelihood", "CausalLM": "likelihood"}[method]
        assert language["details"]["kind"] == kind
        assert suite["baselines"]["random_init"]["language_modelling"]["details"]["kind"] == kind
        probe = suite["evaluators"]["animals.linear_probe"]
        assert probe["primary_metric"] == "accuracy"
        assert np.shape(probe["details"]["confusion_matrix"]) == (2, 2)
        # What each item contributed makes up the number.
        items = read_items(path)
        result = read_suite(path, "mine")
        everything = {"": result.evaluators} | result.baselines
        for baseline, answers in everything.items():
            for evaluator, answer in answers.items():
                key = "/".join(filter(None, ("mine", evaluator, baseline)))
                assert (key in items) == (not evaluator.endswith("geometry"))
                if key in items:
                    assert statistic_of(items[key], answer.statistic) == pytest.approx(answer.primary, abs=1e-6)
        loaded = Method.load_from_checkpoint(folder / "runs" / name / "checkpoints" / "last.ckpt")
        parameters = sum(parameter.numel() for parameter in loaded.parameters())
        assert record["cost"]["parameters"] == parameters


def test_what_runs_draw_is_measured_beside_held_out_text(folder, capsys):
    assert run("evaluate", "masked_lm", "causal_lm", "--suite", "generation") == 0
    shown = capsys.readouterr().out
    assert "drawn sentences" in shown and "held_out" in shown and "frozen" not in shown
    result = read_suite(folder / "runs" / "causal_lm" / "evaluation.json", "generation")
    [drawn], [real] = result.evaluators.values(), result.baselines["held_out"].values()
    assert drawn.primary_metric == "reverse_perplexity"
    assert drawn.metrics.keys() == real.metrics.keys()
    assert drawn.primary > real.primary > 1
    assert len(drawn.details["drawn"]) == 5
    assert not result.baselines["random_init"]
    masked = read_suite(folder / "runs" / "masked_lm" / "evaluation.json", "generation")
    assert (masked.evaluators, masked.missing) == ({}, {"free_generation": "MaskedLM draws no texts"})
    assert masked.data == result.data  # the same corpus, so that all sentences are the same
    assert run("compare", "masked_lm", "causal_lm", "--suite", "generation") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "generation: free generation",
        "held-out text",
        "self-BLEU",
        "MaskedLM, free generation: MaskedLM draws",
    ):
        assert words in shown, words
    page = (folder / "comparison" / "report.html").read_text()
    assert "drawn" in page and "distinct-2" in page


def test_what_a_run_draws_is_measured_beside_the_users_own_files(folder, capsys):
    for name in ("one", "other"):
        (folder / f"{name}.txt").write_text("".join(f"the {name} dog {i} sees the cat\n" for i in range(30)))
    given = "{task: generation, train: NAME.txt, test: 0.3}"
    data = ", ".join(f"{name}: {given.replace('NAME', name)}" for name in ("one", "other"))
    (folder / "drawn.yaml").write_text(f"name: drawn\ndata: {{{data}}}")
    assert run("evaluate", "causal_lm", "--config", "drawn.yaml") == 0
    shown = capsys.readouterr().out
    assert "drawn sentences, beside one" in shown and "drawn sentences, beside other" in shown
    found = read_suite(folder / "runs" / "causal_lm" / "evaluation.json", "drawn")
    assert [*found.evaluators] == [*found.baselines["held_out"]] == ["one.free_generation", "other.free_generation"]


def test_free_generation_needs_the_training_text_of_a_run(folder, capfd):
    shutil.copy(folder / "runs" / "causal_lm" / "checkpoints" / "last.ckpt", folder / "mine.ckpt")
    assert "the training text of mine.ckpt is not known" in refused(capfd, "mine.ckpt", "--suite", "generation")


def test_a_suite_of_language_modelling_alone_needs_no_embeddings(folder, monkeypatch, capsys):
    (folder / "letters.txt").write_text("the dog sees the cat\na bird\n")
    (folder / "letters.yaml").write_text("name: letters\ndata: {a: {task: language_modelling, test: letters.txt}}")
    monkeypatch.setattr(Method, "embed_all", None)
    assert run("evaluate", "causal_lm", "--config", "letters.yaml") == 0
    result = read_suite(folder / "runs" / "causal_lm" / "evaluation.json", "letters")
    assert list(result.evaluators) == ["a.language_modelling"]
    assert result.evaluators["a.language_modelling"].details == {"kind": "likelihood", "texts": 2}
    assert list(result.baselines["random_init"]) == ["a.language_modelling"]
    assert "bits per byte" in capsys.readouterr().out


def test_another_suite_is_added_and_the_same_one_replaced(folder):
    path = folder / "runs" / "causal_lm" / "evaluation.json"
    for config in ("mine.yaml", "other.yaml"):
        assert run("evaluate", "causal_lm", "--config", config) == 0
    first, items = json.loads(path.read_text()), read_items(path)
    assert first["suites"].keys() == {"mine", "other"}
    assert {"mine/animals.knn", "other/beasts.knn", "other/beasts.knn/tfidf"} <= items.keys()
    assert run("evaluate", "causal_lm", "--config", "other.yaml") == 0
    assert json.loads(path.read_text()) == first  # it is deterministic, too
    assert read_items(path).keys() == items.keys()


def test_a_bare_checkpoint_has_its_numbers_beside_it(folder):
    shutil.copy(folder / "runs" / "causal_lm" / "checkpoints" / "last.ckpt", folder / "mine.ckpt")
    assert run("evaluate", "mine.ckpt", "--config", "other.yaml") == 0
    record = json.loads((folder / "mine.evaluation.json").read_text())
    assert (folder / "mine.evaluation_items.npz").exists()
    assert record["cost"].keys() == {"parameters", "trained_parameters"}
    assert run("evaluate", "causal_lm", "--config", "other.yaml") == 0
    of_run = json.loads((folder / "runs" / "causal_lm" / "evaluation.json").read_text())
    found = of_run["suites"]["other"]["evaluators"]
    measured = {name for name, one in found.items() if "covered" in one}
    for several in of_run["suites"]["other"]["baselines"].values():
        assert {name for name, one in several.items() if "covered" in one} == measured & several.keys()
    overlaps = [one.pop("covered") for one in found.values() if one.pop("uncovered", None) is not None]
    assert len(overlaps) >= 5  # only of a run is the training text known
    assert found == record["suites"]["other"]["evaluators"]
    assert of_run["checkpoint"]["digest"] == record["checkpoint"]["digest"]


def test_a_published_model(folder):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "cat", "sees", "birds"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(folder / "bert")
    assert run("evaluate", "pretrained:bert", "--config", "other.yaml") == 0
    record = json.loads((folder / "runs" / "pretrained-bert" / "evaluation.json").read_text())
    assert record["method"] == "PretrainedEncoder"
    suite = record["suites"]["other"]
    assert suite["baselines"].keys() == BASELINES
    assert suite["evaluators"]["beasts.geometry"] != suite["baselines"]["random_init"]["beasts.geometry"]
    assert "language_modelling" not in suite["evaluators"]
    assert suite["missing"] == {
        "language_modelling": "PretrainedEncoder gives no likelihood of a text",
        "word_vectors": "its training text is not known",
    }
    for results in (suite["evaluators"], suite["baselines"]["random_init"]):
        assert {result["details"]["pooling"] for result in results.values()} <= {"mean", "last", "first"}


def test_the_wandb_run_gets_the_numbers_in_its_summary(folder):
    assert run("evaluate", "masked_lm", "causal_lm", "--config", "mine.yaml", "--wandb", "offline") == 0
    state = json.loads((folder / "runs" / "masked_lm" / "run.json").read_text())
    summary, ids = {}, set()
    for path in (folder / "runs" / "masked_lm" / "wandb").glob("offline-run-*/*.wandb"):
        for record in records(path):
            if record.HasField("run"):
                ids.add(record.run.run_id)
            for item in record.summary.update:
                summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    assert ids == {state["wandb_id"]}
    # The later of the two parts is complete: it says what the training was and where it ended.
    later = max((folder / "runs" / "masked_lm" / "wandb").glob("offline-run-*/*.wandb"))
    config, last = {}, {}
    for record in records(later):
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        last |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update}
        assert not record.history.item
    assert (config["method"], config["model"]["class_path"]) == ("MaskedLM", "ssl_nlp.methods.MaskedLM")
    assert "seed" in config
    assert last["train/loss"] > 0 and last["val/loss"] > 0
    assert last["eval/mine/table"]["_type"] == "table-file"
    table = json.loads((later.parent / "files" / last["eval/mine/table"]["path"]).read_text())
    assert table["columns"] == ["embedder", "evaluator", "metric", "value"]
    assert {row[0] for row in table["data"]} == {"masked_lm", "word_vectors", *BASELINES}
    suite = json.loads((folder / "runs" / "masked_lm" / "evaluation.json").read_text())["suites"]["mine"]
    for evaluator, result in suite["evaluators"].items():
        for metric, value in result["metrics"].items():
            assert summary[f"eval/mine/{evaluator}/{metric}"] == pytest.approx(value)
    assert not (folder / "runs" / "causal_lm" / "wandb").exists()  # its training was not on W&B


def test_a_text_meets_a_checkpoint_once(folder, monkeypatch):
    assert run("evaluate", "causal_lm", "--config", "mine.yaml") == 0
    monkeypatch.setattr(Method, "embed_all", None)
    assert run("evaluate", "causal_lm", "--config", "mine.yaml") == 0


def test_a_checkpoint_file_is_read_once(folder, monkeypatch):
    path = folder / "runs" / "causal_lm" / "checkpoints" / "last.ckpt"
    loaded, opened = [], []
    load, start = torch.load, Path.open
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: (loaded.append(1), load(*args, **kwargs))[1])
    monkeypatch.setattr(
        Path, "open", lambda self, *args, **kwargs: (opened.append(self), start(self, *args, **kwargs))[1]
    )
    target = find_target("causal_lm")
    assert (len(loaded), [file.name for file in opened].count("last.ckpt")) == (1, 1)
    monkeypatch.undo()
    assert target.digest == digest(path)
    weights = Method.load_from_checkpoint(path).state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in target.method.state_dict().items())


def test_a_diverged_run_is_named_and_loses_no_other_answers(folder, capfd):
    path = folder / "runs" / "causal_lm" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    for tensor in content["state_dict"].values():
        if tensor.is_floating_point():
            tensor.fill_(torch.nan)
    torch.save(content, path)
    assert run("evaluate", "masked_lm", "causal_lm", "--config", "mine.yaml") == 2
    assert "causal_lm: the embeddings are not all finite" in capfd.readouterr().err
    assert read_suite(folder / "runs" / "masked_lm" / "evaluation.json", "mine").evaluators
    assert not (folder / "runs" / "causal_lm" / "evaluation.json").exists()


def test_names_with_brackets_are_printed_whole(folder, capsys):
    shutil.copy(folder / "runs" / "causal_lm" / "checkpoints" / "last.ckpt", folder / "a[b].ckpt")
    assert run("evaluate", "a[b].ckpt", "--config", "other.yaml") == 0
    assert capsys.readouterr().out.count("a[b]") >= 4  # three tables and the file


def test_mistakes_in_a_suite_and_a_run_without_a_checkpoint(folder, capfd):
    (folder / "runs" / "empty").mkdir()
    (folder / "runs" / "empty" / "config.yaml").write_text("seed_everything: 0\n")
    assert "has no checkpoint" in refused(capfd, "empty")
    (folder / "one.tsv").write_text("text\tlabel\n" + "".join(f"text {i}\tsame\n" for i in range(40)))
    (folder / "empty.tsv").touch()
    for old, new, complaint in (
        ("labelled.tsv", "one.tsv", "only one class"),
        ("label: label", "label: mark", "no field `mark`"),
        ("score: 2", "score: 1", "is not a number"),
        ("labelled.tsv", "empty.tsv", "empty.tsv is empty"),
    ):
        (folder / "bad.yaml").write_text(SUITE.replace(old, new))
        assert complaint in refused(capfd, "causal_lm", "--config", "bad.yaml")


def test_what_is_no_evaluation_is_left_alone(folder, capfd):
    path = folder / "runs" / "causal_lm" / "evaluation.json"
    path.write_text("mine")
    assert "is not an evaluation" in refused(capfd, "causal_lm", "--config", "mine.yaml")
    path.write_text('{"protocol": 99, "suites": {}}')
    assert "protocol 99" in refused(capfd, "causal_lm", "--config", "mine.yaml")
    path.write_text('{"protocol": 1, "suites": {}}')
    path.with_name("evaluation_items.npz").write_bytes(b"no")
    assert "evaluation_items.npz is broken" in refused(capfd, "causal_lm", "--config", "mine.yaml")
