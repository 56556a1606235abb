"""`ssl-nlp compare --task`, and comparisons of fine-tuned runs."""

import csv
import json
import os
import random
import shutil
from pathlib import Path

import pytest
import yaml

from ssl_nlp.commands import train_runs
from ssl_nlp.commands.fine_tune import fine_tune
from ssl_nlp.evaluation.record import read_suite
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

TASK = """
model:
  class_path: ssl_nlp.tasks.Classification
  init_args:
    encoder:
      class_path: ssl_nlp.encoders.Transformer
      init_args: {size: tiny}
    optimization: {optimizer: adamw, learning_rate: 0.01, schedule: linear}
data:
  class_path: ssl_nlp.data.TextDataModule
  init_args:
    corpus:
      class_path: ssl_nlp.corpora.TextFiles
      init_args: {train: animals/train.tsv, valid: 0.2, test: 0.3, label: label}
    unit: text
    length: 32
    batch_size: 8
    labels: class
trainer: {max_steps: 6, accelerator: cpu, val_check_interval: 3, log_every_n_steps: 1, check_val_every_n_epoch: null}
"""
COMPARE = ["compare", "--task", "animals.yaml", "--seeds", "2", "--output", "mine"]


def write_task(folder: Path) -> None:
    (folder / "animals.yaml").write_text(TASK)
    (folder / "animals").mkdir()
    generator = random.Random(0)
    rows = [
        f"the {animal} {generator.choice(['sees', 'hears'])} {i} birds\t{generator.choice([animal] * 9 + ['bird'])}"
        for i in range(60)
        for animal in ("dog", "cat")
    ]
    (folder / "animals" / "train.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pretrained runs of one encoder, and what they are fine-tuned on."""
    folder = tmp_path_factory.mktemp("trained")
    texts, before = write_texts(folder), Path.cwd()
    write_task(folder)
    os.chdir(folder)
    try:
        for method in ("masked_lm", "causal_lm"):
            config = ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts), *tiny_encoder()]
            assert run(*config, "--run", method) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def tuned(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder after `compare --task`, and the names of the runs that it has trained, in this order."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("wandb"), dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fits = in_this_process(patch)
        assert run(*COMPARE, "masked_lm", "causal_lm") == 0
    return folder, fits


@pytest.fixture
def folder(tuned: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    shutil.copytree(tuned[0], tmp_path, ignore=shutil.ignore_patterns("wandb"), dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_this_process(patch: pytest.MonkeyPatch) -> list[str]:
    """Let `compare` train here, and note the names of the runs."""
    fits: list[str] = []

    def fit(arguments):
        fits.append(arguments[-1].removeprefix("--run="))
        return run("fit", *arguments)

    patch.setattr(train_runs, "run_fit", fit)
    return fits


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "comparison.csv").open() as file:
        return list(csv.DictReader(file))


def test_runs_are_fine_tuned_beside_the_encoder_untrained_and_counts_of_words(tuned):
    folder, fits = tuned
    stems = [f"animals-{start}{method}" for start in ("", "untrained-") for method in ("masked_lm", "causal_lm")]
    assert fits == [f"mine-{stem}-seed{seed}" for seed in (0, 1) for stem in stems]
    found = {row["row"]: row for row in rows_of(folder / "mine") if row["number"].endswith("/accuracy")}
    assert {name: row["baseline"] for name, row in found.items()} == {
        "MaskedLM": "0", "CausalLM": "0", "untrained encoder": "1", "untrained causal encoder": "1", "TF-IDF": "1",
    }  # fmt: skip
    assert found["MaskedLM"]["number"] == "tasks/animals.classification/accuracy"
    assert (found["MaskedLM"]["seeds"], found["MaskedLM"]["n"]) == ("0 1", "2")
    assert found["MaskedLM"]["verdict"] and found["MaskedLM"]["baseline_difference"]
    report = (folder / "mine" / "report.html").read_text()
    for word in ("animals accuracy", "untrained encoder", "TF-IDF", "MaskedLM"):
        assert word in report


def test_test_items_in_the_text_of_the_pretraining_are_covered(folder):
    run_name, config = "mine-animals-masked_lm-seed1", folder / "runs" / "masked_lm" / "config.yaml"
    settings = yaml.safe_load(config.read_text())
    corpus = settings["data"]["init_args"]["corpus"]["init_args"]
    read = [line.partition("\t")[0] for line in (folder / "animals" / "train.tsv").read_text().splitlines()[1:61]]
    corpus["train"] = str(folder / "read.txt")
    (folder / "read.txt").write_text("\n".join(read * 3) + "\n")
    config.write_text(yaml.safe_dump(settings))
    (folder / "runs" / run_name / "evaluation.json").unlink()
    assert run("compare", run_name, "--output", "again") == 0
    [found] = read_suite(folder / "runs" / run_name / "evaluation.json", "tasks").evaluators.values()
    assert 0.2 < found.covered < 0.8  # half of the texts, of which the pretraining keeps some for validation
    note = "animals accuracy without the "
    assert note in (folder / "again" / "report.html").read_text()


def test_scores_are_those_of_the_test_split_item_by_item(tuned, capsys, monkeypatch):
    folder, _ = tuned
    monkeypatch.chdir(folder)
    name = "mine-animals-masked_lm-seed1"
    result = read_suite(folder / "runs" / name / "evaluation.json", "tasks")
    [(key, found)] = result.evaluators.items()
    assert found.items.mean() == pytest.approx(found.primary) and found.read == 1.0
    assert result.baselines["tfidf"][key].items.shape == found.items.shape
    assert result.baselines["tfidf"][key].primary > 0.75  # nine in ten texts name their class
    for one in (found, result.baselines["tfidf"][key]):  # no text is in two splits, of the task or of its pretraining
        assert one.overlap.shape == (len(found.items),) and one.covered == 0
    capsys.readouterr()
    assert run("test", "--run", name) == 0
    shown = capsys.readouterr().out
    assert f"{found.metrics['accuracy']:.6f}"[:8] in shown
    record = json.loads((folder / "runs" / name / "evaluation.json").read_text())
    text = json.loads((folder / "runs" / name / "run.json").read_text())["text"]
    assert record["text"] == text and text != json.loads((folder / "runs/masked_lm/run.json").read_text())["text"]
    assert record["suites"]["tasks"]["checkpoint"]["file"] == "checkpoints/best.ckpt"
    ancestor = json.loads((folder / "runs" / name / "run.json").read_text())["ancestry"][-1]
    own = record["cost"]["tokens"] - ancestor["tokens"]
    scratch = json.loads((folder / "runs" / "mine-animals-untrained-masked_lm-seed1" / "evaluation.json").read_text())
    assert own == pytest.approx(scratch["cost"]["tokens"])
    assert record["cost"]["flops"] > ancestor["flops"] > 0


def test_the_same_command_trains_nothing_twice_and_compare_takes_the_runs_alone(folder, monkeypatch, capfd):
    fits = in_this_process(monkeypatch)
    shutil.rmtree("runs/mine-animals-causal_lm-seed1")
    assert run(*COMPARE, "masked_lm", "causal_lm") == 0
    assert fits == ["mine-animals-causal_lm-seed1"]
    assert "testing mine-animals-causal_lm-seed1\n" in capfd.readouterr().out
    runs = sorted(path.name for path in Path("runs").glob("mine-*"))
    assert run("compare", *runs, "--output", "again") == 0
    assert "testing" not in capfd.readouterr().out
    numbers = [{(row["row"], row["number"]): row["mean"] for row in rows_of(Path(name))} for name in ("mine", "again")]
    assert numbers[0] == numbers[1]


def test_what_was_fine_tuned_in_another_way_is_a_row_of_its_own_and_said(folder, monkeypatch, capfd):
    name = ["--run", "frozen", "--seed_everything=0"]
    start = ["--model.encoder=ssl_nlp.encoders.Trained", "--model.encoder.run=masked_lm", "--model.encoder.freeze=all"]
    assert run("fit", "--config", "animals.yaml", *start, *name) == 0
    capfd.readouterr()
    runs = [f"mine-animals-{method}-seed{seed}" for method in ("masked_lm", "causal_lm") for seed in (0, 1)]
    assert run("compare", *runs, "frozen", "--output", "again") == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "Not equal: Fine-tuning on animals differs: model.encoder.freeze is" in shown
    labels = {row["row"] for row in rows_of(Path("again")) if row["baseline"] == "0"}
    assert labels == {"MaskedLM freeze=null", "MaskedLM freeze=all", "CausalLM"}


def test_a_task_without_test_split_is_reported_on_the_validation_split(folder, capfd):
    text = TASK.replace("test: 0.3", "test: null")
    Path("valid.yaml").write_text(text)
    assert run("fit", "--config", "valid.yaml", *tiny_encoder(), "--data.tokenizer.vocab_size=320", "--run=alone") == 0
    capfd.readouterr()
    assert run("compare", "alone", "--output", "again") == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "has no test split" in shown
    assert any(row["row"] == "untrained Transformer" for row in rows_of(Path("again")))


def test_published_models_folders_of_runs_and_checkpoints_are_starts_too(folder, monkeypatch):
    fits = []
    monkeypatch.setattr(train_runs, "run_fit", lambda arguments: bool(fits.append(arguments)))
    names = ["pretrained:some/bert", "runs", "runs/causal_lm/checkpoints/best.ckpt"]
    found = fine_tune("animals.yaml", names, 1, "more", ["--trainer.max_steps=1"])
    starts = ["bert", "causal_lm", "masked_lm", "best", *(f"untrained-{n}" for n in ("bert", "causal_lm", "masked_lm"))]
    assert [Path(run).name for run in found] == [
        f"more-animals-{start}-seed0" for start in starts
    ]  # tasks are left out
    assert [arguments[-1] for arguments in fits] == [f"--run={Path(run).name}" for run in found]
    assert "--model.encoder.name=some/bert" in fits[0]
    assert "--model.encoder.run=causal_lm" in fits[1] and "--model.encoder.untrained=true" not in fits[1]
    assert {"--model.encoder.run=masked_lm", "--model.encoder.untrained=true"} <= set(fits[6])
    assert all("--trainer.max_steps=1" in arguments for arguments in fits)


MISTAKES = {
    "a method": (["--task", "masked_lm", "masked_lm"], "configures MaskedLM, which is not a task"),
    "a task as a run": (["--task", "animals.yaml", "mine-animals-masked_lm-seed0"], "was fine-tuned already"),
    "no such run": (["--task", "animals.yaml", "nothing"], "there is no run nothing"),
    "no such task": (["--task", "missing.yaml", "masked_lm"], "missing.yaml"),
    "twice the same": (["--task", "animals.yaml", "masked_lm", "masked_lm"], "masked_lm is named twice"),
    "a suite": (["--task", "animals.yaml", "--suite", "docs", "masked_lm"], "leave one of the two out"),
    "no seed": (["--task", "animals.yaml", "--seeds", "0", "masked_lm"], "--seeds must be 1 or more"),
    "tasks and methods": (["mine-animals-masked_lm-seed0", "causal_lm"], "was fine-tuned on a task, and causal_lm was not"),
    "retrained": (["--task", "animals.yaml", "--output", "mine", "masked_lm"], "has been trained since"),
    "a setting of the trainer": (
        ["--task", "animals.yaml", "masked_lm", "causal_lm", "--", "--trainer.max_steps=0"],
        "max_steps 0: use 1 or more",
    ),
    "a setting of the data": (
        ["--task", "animals.yaml", "masked_lm", "causal_lm", "--", "--data.batch_size=0"],
        "batch_size",
    ),
    "other settings": (
        ["--task", "animals.yaml", "--output", "mine", "causal_lm", "--", "--trainer.max_steps=7"],
        "started with another configuration",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, folder, capfd):
    arguments, culprit = MISTAKES[mistake]
    if mistake == "retrained":
        shutil.copy("runs/causal_lm/checkpoints/last.ckpt", "runs/masked_lm/checkpoints/last.ckpt")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run("compare", *arguments) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if line]
    assert culprit in line
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_an_unfinished_run_is_refused(folder, capfd):
    state = json.loads(Path("runs/causal_lm/run.json").read_text()) | {"finished": False}
    Path("runs/causal_lm/run.json").write_text(json.dumps(state))
    assert run("compare", "--task", "animals.yaml", "causal_lm") == 2
    assert "causal_lm is not finished" in capfd.readouterr().err
    assert yaml.safe_load(Path("animals.yaml").read_text())
