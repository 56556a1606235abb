"""The configurations of tasks, and of data for them, run at a small size on files of their own."""

import json
from pathlib import Path

import pytest

from ssl_nlp.runs.metrics_csv import read_metrics
from tests.corpus import caption_texts
from tests.end_to_end.cli import CONFIGS, run, tiny_encoder

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def task_arguments(folder: Path, name: str, ending: str, lines: dict[str, str]) -> list[str]:
    """The command that runs a task's configuration on small files of its own."""
    files = []
    for split, content in lines.items():
        (folder / f"{split}.{ending}").write_text(content)
        files.append(f"--data.corpus.{split}={folder / split}.{ending}")
    tiny = ["--data.tokenizer.vocab_size=320", "--data.batch_size=4", *tiny_encoder()]
    return ["fit", "--config", f"tasks/{name}", *files, *tiny, "--config", str(CONFIGS / "trainer" / "debug.yaml")]


def test_tagging_config(tmp_path, capsys):
    lines = {split: "Ada\tB-PER\nleft\tO\n\n" * 8 + f"{split}\tO\n" for split in ("train", "valid")}
    lines["train"] = lines["train"].replace("left", "came")
    assert run(*task_arguments(tmp_path, "tagging", "conll", lines), "--run=a") == 0
    assert "val/f1" in read_metrics(tmp_path / "runs" / "a" / "metrics.csv")[-1]
    (tmp_path / "lines.txt").write_text("Ada left\n")
    assert run("predict", "--run=a", f"--input={tmp_path / 'lines.txt'}", f"--output={tmp_path / 'a.jsonl'}") == 0
    assert [word["word"] for word in json.loads((tmp_path / "a.jsonl").read_text())["prediction"]] == ["Ada", "left"]
    assert run("predict", "--run=a") == 2
    said = capsys.readouterr().err
    assert (
        "has no test split to predict: name one with --data.corpus.test, or a file of texts with --input FILE" in said
    )
    (tmp_path / "test.conll").write_text("Ada\tB-PER\nsings\tO\n")
    assert run("test", "--run=a", f"--data.corpus.test={tmp_path / 'test.conll'}") == 0
    assert "test/f1" in capsys.readouterr().out
    assert run("predict", "--run=a", f"--data.corpus.test={tmp_path / 'test.conll'}") == 0
    assert "sings" in (tmp_path / "runs" / "a" / "predictions.jsonl").read_text()


def test_the_config_of_tags_beside_masks_trains_and_predicts_the_tags_of_other_texts(tmp_path, capsys):
    splits = ("train", "valid", "test")
    lines = {split: "".join(f"Ada\tB-PER\n{split}\tO\n{n}\tO\n\n" for n in range(9)) for split in splits}
    command = task_arguments(tmp_path, "masked_lm_tagging", "conll", lines)
    assert run(*command, "--run=a") == 0
    metrics = read_metrics(tmp_path / "runs" / "a" / "metrics.csv")[-1]
    assert {"val/tagging/f1", "val/loss/tagging/tagging", "val/masked_lm/bits_per_byte"} <= metrics.keys()
    assert "Ada/" in (tmp_path / "runs" / "a" / "samples.jsonl").read_text()
    (tmp_path / "lines.txt").write_text("Ada left\n")
    assert run("predict", "--run=a", "--input=lines.txt", "--output=tags.jsonl") == 0
    assert '"word": "Ada"' in (tmp_path / "tags.jsonl").read_text()
    assert run("predict", "--run=a") == 0
    assert (tmp_path / "runs" / "a" / "embeddings.npy").exists()
    capsys.readouterr()
    assert run("predict", "--run=a", "--input=lines.txt", "--output=b.npy") == 2
    assert "or name a .jsonl file with --output" in capsys.readouterr().err
    assert run("predict", "--run=a", "--output=b.txt") == 2
    assert "is not a .jsonl or .npy file" in capsys.readouterr().err


def test_relations_config(tmp_path):
    rows = [f"Part(e1,e2)\tAn <e1>engine {i}</e1> in a <e2>car</e2>.\n" for i in range(40)]
    command = task_arguments(tmp_path, "relations", "tsv", {"train": "label\ttext\n" + "".join(rows)})
    assert run(*command, "--run=a") == 0
    assert "val/macro_f1" in read_metrics(tmp_path / "runs" / "a" / "metrics.csv")[-1]


def test_question_answering_config(tmp_path):
    context = "Ada went to London."
    questions = [{"id": i, "question": f"Who {i}?", "answers": [{"text": "Ada", "answer_start": 0}]} for i in range(12)]
    files = {
        split: json.dumps({"data": [{"paragraphs": [{"context": f"{context} {split}", "qas": part}]}]})
        for split, part in (("train", questions[:8]), ("valid", questions[8:]))
    }
    assert run(*task_arguments(tmp_path, "question_answering", "json", files), "--run=a") == 0
    assert "val/exact_match" in read_metrics(tmp_path / "runs" / "a" / "metrics.csv")[-1]
    [sample, *_] = (tmp_path / "runs" / "a" / "samples.jsonl").read_text().splitlines()
    assert json.loads(sample)["true"] == "Ada"
    (tmp_path / "lines.txt").write_text("Ada went home.\tWho went?\nWho?\n")
    predict = ["predict", "--run=a", f"--input={tmp_path / 'lines.txt'}", f"--output={tmp_path / 'a.jsonl'}"]
    assert run(*predict) == 2
    (tmp_path / "lines.txt").write_text("Ada went home.\tWho went?\n")
    assert run(*predict) == 0
    assert json.loads((tmp_path / "a.jsonl").read_text())["prediction"] in "Ada went home."


@pytest.mark.parametrize(
    ("config", "form"),
    [
        ("tasks/sequence_to_sequence", "encoder_decoder"),
        ("tasks/sequence_to_sequence", "decoder_only"),
        (str(CONFIGS / "benchmarks" / "translate_multi30k.yaml"), "encoder_decoder"),
    ],
)
def test_sequence_to_sequence_configs_with_files_of_two_languages(config, form, tmp_path, capfd):
    pairs = caption_texts(60)
    for language, texts in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
        (tmp_path / f"train.{language}").write_text("".join(f"{text}\n" for text in texts))
    files = ["--config", "data/parallel", f"--data.corpus.train={tmp_path / 'train.en'}"]
    files += [
        "--data.corpus.valid=0.2",
        "--data.corpus.test=0.2",
        "--data.tokenizer.vocab_size=320",
        "--data.batch_size=4",
    ]
    model = [*tiny_encoder(), "--model.encoder.max_length=128", f"--model.form={form}"]
    debug = ["--config", str(CONFIGS / "trainer" / "debug.yaml")]
    assert run("fit", "--config", config, *files, *model, *debug, "--run=a") == 0
    metrics = read_metrics(tmp_path / "runs" / "a" / "metrics.csv")[-1]
    assert {"val/bleu", "val/chrf", "val/rougel", "val/perplexity", "val/bits_per_byte"} <= metrics.keys()
    samples = [json.loads(line) for line in (tmp_path / "runs" / "a" / "samples.jsonl").read_text().splitlines()]
    assert {(sample["source"], sample["reference"]) for sample in samples} <= set(pairs)
    generate = ["generate", "--checkpoint", "runs/a/checkpoints/last.ckpt"]
    capfd.readouterr()
    assert run(*generate, "--input", str(tmp_path / "train.en"), "--beams=2", "--max_new_tokens=8") == 0
    assert capfd.readouterr().out.count("\n") >= len(pairs)  # an output may hold a line break
    assert run(*generate, "--prompt=the dog", "--temperature=0.5") == 2
    assert "draws nothing: leave out --number, --temperature" in capfd.readouterr().err
    (tmp_path / "fresh.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs[:4]))
    described = "{task: generation, test: fresh.tsv, text: 0, pair: 1}"
    (tmp_path / "mine.yaml").write_text(f"name: mine\ndata: {{captions: {described}}}")
    assert run("evaluate", "a", "--config", "mine.yaml") == 0
    assert "4 texts written from those of captions" in capfd.readouterr().out
    suite = json.loads((tmp_path / "runs" / "a" / "evaluation.json").read_text())["suites"]["mine"]
    assert {"bleu", "chrf", "rougel"} <= suite["evaluators"]["captions.generation"]["metrics"].keys()
    assert not any(suite["baselines"].values())


def test_regression_config_with_scored_pairs(tmp_path):
    rows = [f"{one}\t{other}\t{number % 5}.5" for number, (one, other) in enumerate(caption_texts(60))]
    (tmp_path / "train.tsv").write_text("sentence1\tsentence2\tscore\n" + "\n".join(rows) + "\n")
    small = ["--data.tokenizer.vocab_size=320", "--data.batch_size=4", *tiny_encoder()]
    debug = ["--config", str(CONFIGS / "trainer" / "debug.yaml")]
    assert run("fit", "--config", "tasks/regression", *small, *debug, "--run=a") == 0
    metrics = read_metrics(tmp_path / "runs" / "a" / "metrics.csv")[-1]
    assert {"val/spearman", "val/pearson", "val/loss"} <= metrics.keys()


def test_continual_config(tmp_path):
    """The parts of `continual.yaml` are groups of classes, which the files need not name."""
    classes = [f"class{number}" for number in range(8)]
    lines = [f"text {number} of {name} here\t{name}\n" for number in range(30) for name in classes]
    (tmp_path / "texts.tsv").write_text("text\tlabel\n" + "".join(lines))
    files = ["--config", "data/files", "--data.corpus.train=texts.tsv", "--data.corpus.label=label"]
    small = ["--data.tokenizer.vocab_size=320", "--data.batch_size=4", "--data.steps_per_part=3"]
    quick = ["--data.corpus.valid=0.3", "--wandb.mode=disabled", "--run=a", *tiny_encoder()]
    assert run("fit", "--config", "tasks/continual", *files, *small, *quick) == 0
    assert json.loads((tmp_path / "runs" / "a" / "continual.json").read_text())["parts"] == ["1", "2", "3", "4"]
