"""A task on the command line: fit, validate, test, predict, and what it leaves in its run."""

import json
import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ssl_nlp.runs.metrics_csv import read_numbers
from tests.end_to_end.cli import CONFIGS, run, tiny_encoder
from tests.tasks.corpora import Topics


class FailAt(Callback):
    """Fails after the step that the environment variable FAIL_AT names."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        if trainer.global_step == int(os.environ.get("FAIL_AT", -1)):
            raise RuntimeError("power cut")


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_tables(folder: Path, pairs: bool) -> list[str]:
    """Write labelled texts as TSV files, and return the arguments that read them."""
    corpus = Topics(pairs=pairs)
    for split, documents in (("train", range(16, 120)), ("valid", range(8)), ("test", range(8, 16))):
        rows = [corpus.document(number) for number in documents]
        lines = ["first\tsecond\tlabel", *(f"{row.text}\t{row.pair or '-'}\t{row.label}" for row in rows)]
        (folder / f"{split}.tsv").write_text("".join(f"{line}\n" for line in lines))
    given = {"text": "first", "label": "label", "train": "train.tsv", "valid": "valid.tsv", "test": "test.tsv"}
    given |= {"pair": "second"} if pairs else {}
    arguments = [f"--data.corpus.init_args.{name}={value}" for name, value in given.items()]
    unit = ["--data.unit=pair", "--data.length=48"] if pairs else ["--data.length=24"]
    return ["--data.corpus=ssl_nlp.corpora.TextFiles", *arguments, *unit]


@pytest.mark.parametrize("pairs", [False, True])
def test_a_run_of_a_task_predicts_texts_and_writes_its_numbers(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "--config=tasks/classification", *write_tables(tmp_path, pairs), *tiny_encoder(), "--config",
        str(CONFIGS / "trainer" / "debug.yaml"), "--data.tokenizer.vocab_size=320", "--data.batch_size=8",
    ]  # fmt: skip
    assert run("fit", "--run=a", *arguments) == 0
    assert "val/accuracy 0." in (said := capsys.readouterr().out) or "val/accuracy 1." in said
    directory = tmp_path / "runs" / "a"
    validation = json.loads((directory / "validation.json").read_text())
    assert set(validation["metrics"]) >= {"accuracy", "macro_f1", "micro_recall", "mcc"}
    assert set(validation["details"]["confusion"]) == {"animals", "fruits"}
    samples = records(directory / "samples.jsonl")
    assert samples[-1]["label"] in ("animals", "fruits") and "animals 0." in samples[-1]["probabilities"]

    assert run("test", "--run=a") == 0
    assert "test/accuracy" in capsys.readouterr().out
    tested = json.loads((directory / "test.json").read_text())
    accuracy = tested["metrics"]["accuracy"]
    assert tested["step"] == torch.load(tested["checkpoint"], weights_only=True)["global_step"] > 0
    assert run("predict", "--run=a") == 0
    found = records(directory / "predictions.jsonl")
    corpus = Topics(pairs=pairs)
    assert [row["text"] for row in found] == [corpus.document(number).text for number in range(8, 16)]
    assert sum(row["label"] == row["prediction"] for row in found) / 8 == accuracy
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in found)
    capsys.readouterr()
    assert run("test", "--run=a", "--model.encoder.dropout=0.5") == 2
    assert "the checkpoint of a decides on its encoder: leave out --model.encoder.dropout" in capsys.readouterr().err
    assert run("predict", "--run=a") == 2
    assert "predictions.jsonl already exists: name another file" in capsys.readouterr().err

    (tmp_path / "lines.txt").write_text("a cat\tan apple\na pear\ta dog\n" if pairs else "a cat\n\na pear\n")
    assert run("predict", "--run=a", "--input=lines.txt", "--output=lines.jsonl") == 0
    lines = records(tmp_path / "lines.jsonl")
    assert [row["text"] for row in lines] == (["a cat", "a pear"] if pairs else ["a cat", "", "a pear"])
    if pairs:
        assert lines[0]["pair"] == "an apple"
        (tmp_path / "lines.txt").write_text("a cat\n")
        assert run("predict", "--run=a", "--input=lines.txt", "--output=other.jsonl") == 2
        assert "line 1 is not a pair of texts: write two texts with one tab" in capsys.readouterr().err
    assert run("predict", "--run=a", "--output=other.npy") == 2
    assert "other.npy is not a .jsonl file" in capsys.readouterr().err


def test_early_stopping_on_the_metric_of_the_task_ends_a_run_also_after_a_power_cut(tmp_path, monkeypatch):
    """The rate is so low that nothing improves: it stops at the third validation, at step 6 of 100."""
    monkeypatch.chdir(tmp_path)
    stop = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/accuracy", "mode": "max", "patience": 2}}
    callbacks = [stop, {"class_path": f"{__name__}.FailAt"}, {"class_path": "ssl_nlp.tasks.RDrop"}]
    (tmp_path / "stop.yaml").write_text(json.dumps({"trainer": {"callbacks": callbacks}}))
    arguments = [
        "--config=tasks/classification", *write_tables(tmp_path, False), *tiny_encoder(), "--config=stop.yaml",
        "--data.tokenizer.vocab_size=320", "--data.batch_size=8", "--model.optimization.learning_rate=1e-12",
        "--trainer.max_steps=100", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1", "--import", __name__,
    ]  # fmt: skip
    assert run("fit", "--run=whole", *arguments) == 0
    monkeypatch.setenv("FAIL_AT", "5")
    with pytest.raises(RuntimeError, match="power cut"):
        run("fit", "--run=cut", *arguments)
    monkeypatch.delenv("FAIL_AT")
    assert run("fit", "--run=cut", *arguments) == 0
    rows = {name: read_numbers(tmp_path / "runs" / name / "metrics.csv") for name in ("whole", "cut")}
    compared = [
        [(row["step"], row.get("train/loss"), row.get("val/accuracy"), row.get("val/loss")) for row in rows[name]]
        for name in ("whole", "cut")
    ]
    assert str(compared[0]) == str(compared[1])
    assert rows["whole"][-1]["step"] == 6
    for name in ("whole", "cut"):
        directory = tmp_path / "runs" / name
        assert json.loads((directory / "run.json").read_text())["finished"]
        assert {path.name for path in (directory / "checkpoints").glob("*.ckpt")} >= {"best.ckpt", "last.ckpt"}
        assert torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
