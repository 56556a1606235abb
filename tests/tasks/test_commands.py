"""A task on the command line: fit, validate, test, predict, and what it leaves in its run."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.cli import CONFIGS, run, tiny_encoder
from tests.tasks.corpora import Topics


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
    directory = tmp_path / "runs" / "a"
    validation = json.loads((directory / "validation.json").read_text())
    assert set(validation["metrics"]) >= {"accuracy", "macro_f1", "micro_recall", "mcc"}
    assert set(validation["details"]["confusion"]) == {"animals", "fruits"}
    samples = records(directory / "samples.jsonl")
    assert samples[-1]["label"] in ("animals", "fruits") and "animals 0." in samples[-1]["probabilities"]

    assert run("test", "--run=a") == 0
    assert "test/accuracy" in capsys.readouterr().out
    accuracy = json.loads((directory / "test.json").read_text())["metrics"]["accuracy"]
    assert run("predict", "--run=a") == 0
    found = records(directory / "predictions.jsonl")
    corpus = Topics(pairs=pairs)
    assert [row["text"] for row in found] == [corpus.document(number).text for number in range(8, 16)]
    assert sum(row["label"] == row["prediction"] for row in found) / 8 == accuracy
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in found)
    capsys.readouterr()
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
