"""The command `export`: model cards, folders that are there already, uploads, and graphs with weights of 8 bits."""

import json
import re
import shutil
from pathlib import Path

import httpx
import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import RepoUrl
from huggingface_hub.errors import HfHubHTTPError

from ssl_nlp.comparison.numbers import format_number
from ssl_nlp.encoders.adapters import LoRA
from ssl_nlp.export import onnx_format, peft_format
from ssl_nlp.export.card import Facts, model_card
from ssl_nlp.export.contents import Contents
from ssl_nlp.runs.checkpoint import digest
from ssl_nlp.tasks import Classification
from tests.end_to_end.cli import run
from tests.export.conftest import OLD
from tests.export.test_task_heads import TEXTS, batch_of, connected, ours, published
from tests.export.test_transformers_format import method_of


@pytest.fixture
def folder(exports, monkeypatch) -> Path:
    monkeypatch.chdir(exports)
    return exports


def card(folder: Path, name: str) -> tuple[dict, str]:
    _, head, text = (folder / "exports" / name / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), text


def test_the_card_says_how_it_was_trained_and_evaluated(folder):
    head, text = card(folder, "masked_lm-transformers")
    assert head == {
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["ssl_nlp", "MaskedLM"],
    }
    for row in (
        "| data | TextFiles: train texts.txt, valid 0.05, test 0.05, unit line, text text |",
        "| tokens | 1.02 k |",
        "| FLOPs | 11.5 M |",
        "| steps | 8 |",
        "| animals.knn | accuracy | 0.575 | 0.415 to 0.735 |  |",
    ):
        assert row in text
    assert "Masked language model over a bidirectional encoder." in text


def test_the_card_describes_the_tokenizer_of_the_model_and_not_that_of_the_settings(folder):
    """A published encoder brings its own, as an earlier run does."""
    assert "kind: bpe" in (folder / "runs" / "masked_lm_pretrained" / "config.yaml").read_text()
    assert "| tokenizer | WordPiece, 20 entries |" in card(folder, "masked_lm_pretrained-transformers")[1]


def test_no_file_can_run_code_or_names_a_folder_of_this_machine(folder):
    for path in (folder / "exports").rglob("*"):
        if path.is_file():
            assert path.suffix in (".json", ".md", ".onnx", ".safetensors")
            assert str(folder).encode() not in path.read_bytes()
            assert str(Path.home()).encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "name", ["masked_lm-transformers", "causal_lm-transformers", "vae-sentence-transformers", "vae-onnx"]
)
def test_the_lines_of_the_card_run(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder / "exports")
    blocks = re.findall(r"```python\n(.*?)```", card(folder, name)[1], flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})


def test_what_is_there_is_not_overwritten(folder, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert run("export", "vae", "--output", str(tmp_path / "there")) == 2
    assert "already exists, and nothing is overwritten: name another folder with --output" in capsys.readouterr().err
    assert run("export", "vae", "--format", "peft", "--output", str(tmp_path / "new")) == 2
    assert "this VAE was trained without an adapter: use --format transformers" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]  # nor does a failure leave anything


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ours", "bert"])
def test_peft_loads_an_adapter_on_its_base(kind, tmp_path):
    from peft import PeftModel
    from transformers import AutoModel

    encoder, tokenizer = ours() if kind == "ours" else published(kind, tmp_path / "published")
    encoder.adapter = LoRA(rank=2)
    task = connected(Classification(encoder, classes=["a", "b"]), tokenizer)
    contents = peft_format.write(task, tmp_path / "out")
    assert "no head" in contents.notes[0]
    model = PeftModel.from_pretrained(
        AutoModel.from_pretrained(tmp_path / "out"), tmp_path / "out", subfolder="adapter"
    )
    batch = batch_of(task, TEXTS)
    states = model.eval()(input_ids=batch.input_ids, attention_mask=batch.segment_ids).last_hidden_state
    torch.testing.assert_close(states[batch.is_text], task.states(batch)[batch.is_text], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_options_of_the_embedding_and_of_the_card(tmp_path, monkeypatch):
    from sentence_transformers import SentenceTransformer

    monkeypatch.chdir(tmp_path)
    shutil.copytree(OLD / "simclr", tmp_path / "runs" / "simclr")
    command = ["export", "simclr", "--format", "sentence-transformers", "--pooling", "last", "--normalize", "true"]
    assert run(*command, "--license", "apache-2.0", "--language", "en") == 0
    head, text = card(tmp_path, "simclr-sentence-transformers")
    assert (head["license"], head["language"]) == ("apache-2.0", "en")
    assert "the last state" in text and "scaled to length 1" in text
    method = method_of("simclr")
    assert method.pooling == "mean"
    method.pooling = "last"
    vectors = torch.from_numpy(SentenceTransformer("exports/simclr-sentence-transformers", device="cpu").encode(TEXTS))
    torch.testing.assert_close(vectors, torch.nn.functional.normalize(method.embed(TEXTS)), rtol=1e-5, atol=1e-5)


class Hub:
    """Takes the place of the hub."""

    def __init__(self, there: bool = False) -> None:
        self.there, self.uploaded = there, []

    def create_repo(self, name: str, private: bool) -> RepoUrl:
        assert private
        if self.there:
            raise HfHubHTTPError("Conflict", response=httpx.Response(409, request=httpx.Request("POST", "https://hub")))
        return RepoUrl(f"https://huggingface.co/{name}")

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.uploaded.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))


@pytest.fixture
def logged_in(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)


def test_a_folder_is_pushed_where_somebody_is_logged_in(folder, tmp_path, capsys, monkeypatch, logged_in):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    assert run("export", "vae", "--output", str(tmp_path / "vae"), "--push", "me/vae") == 0
    assert "pushed to https://huggingface.co/me/vae" in capsys.readouterr().out
    [(name, files)] = hub.uploaded
    assert name == "me/vae"
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    text = (tmp_path / "vae" / "README.md").read_text()
    assert 'from_pretrained("me/vae")' in text and "log in to the hub first" in text
    contents = Contents("onnx", "feature-extraction", "A graph.", onnx_format.USE)
    text = model_card(method_of("vae"), Facts("vae", "0"), contents, "me/vae")
    assert "`hf download me/vae --local-dir vae`" in text and '"vae/model.onnx"' in text  # opened as a file
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: Hub(there=True))
    assert run("export", "vae", "--output", str(tmp_path / "again"), "--push", "me/vae") == 2
    assert "is written, but not pushed: the hub has me/vae already" in capsys.readouterr().err


def test_a_push_that_cannot_be_is_refused_before_anything_is_written(folder, tmp_path, capsys, monkeypatch):
    def refused(name: str = "me/vae") -> str:
        assert run("export", "vae", "--output", str(tmp_path / "vae"), "--push", name) == 2
        assert not list(tmp_path.iterdir())
        return capsys.readouterr().err

    assert "HF_HUB_OFFLINE switches it off" in refused()
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "needs somebody who is logged in to the hub: run hf auth login" in refused()
    for name in ("me//vae", "vae"):
        assert f"--push {name!r} is not a name on the hub: use USER/MODEL" in refused(name)


@pytest.mark.slow
def test_a_quantized_graph_is_measured_on_a_suite(folder, tmp_path, capsys):
    for name in ("suite.yaml", "labelled.tsv", "scored.tsv"):
        shutil.copy(OLD / name, folder)
    command = ["export", "simclr", "--format", "onnx", "--output", str(tmp_path / "graph"), "--config", "suite.yaml"]
    assert run(*command, "--quantize", "true") == 0
    shown = capsys.readouterr().out
    for name in ("mine: animals.knn (accuracy)", "mine: pairs.similarity (spearman)", "size (MB)", "texts a second"):
        assert f"| {name}" in shown
    assert (tmp_path / "graph" / "model_int8.onnx").exists()
    assert "| mine: animals.knn (accuracy) |" in (tmp_path / "graph" / "README.md").read_text()
    assert run("export", "vae", "--quantize", "true", "--output", str(tmp_path / "no")) == 2
    assert "--quantize makes a second graph: use it with --format onnx" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fine_tuned_run_is_exported_and_its_quantized_graph_measured_on_its_validation_split(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(OLD / "labelled.tsv", "labelled.tsv")
    corpus = [
        "--data.corpus=TextFiles",
        "--data.corpus.train=labelled.tsv",
        "--data.corpus.label=label",
        "--data.corpus.valid=0.2",
        "--data.corpus.test=0.2",
    ]
    size = ["--data.tokenizer.vocab_size=320", "--data.length=24", "--data.batch_size=8", "--wandb.mode=disabled"]
    encoder = ["--model.encoder=Transformer", "--model.encoder.size=null", "--model.encoder.dim=16"]
    encoder += ["--model.encoder.layers=1", "--model.encoder.heads=2"]
    short = ["--trainer.max_steps=4", "--trainer.val_check_interval=2", "--trainer.accelerator=cpu"]
    fit = ["fit", "--config", "tasks/classification", *corpus, *size, *encoder, *short, "--run", "animals"]
    assert run(*fit) == 0, capsys.readouterr().err
    best = tmp_path / "runs" / "animals" / "checkpoints" / "best.ckpt"
    torch.save(torch.load(best, weights_only=True) | {"global_step": 2}, best)  # another one than the last
    assert run("export", "animals") == 0
    remedy = "ssl-nlp test --run animals, or ssl-nlp compare animals, adds it to the next export"
    assert f"the card has no evaluation of this checkpoint: {remedy}" in capsys.readouterr().out
    head, text = card(tmp_path, "animals-transformers")
    assert head["pipeline_tag"] == "text-classification"
    for row in ("| accuracy on the validation split |", "| tokens |", "| FLOPs |"):  # also where no rate was logged
        assert row in text
    assert digest(best) in text and "95 % interval" not in text
    assert run("test", "--run", "animals") == run("validate", "--run", "animals") == 0
    capsys.readouterr()
    assert run("export", "runs/animals/checkpoints/best.ckpt", "--format", "onnx", "--quantize", "true") == 2
    assert "--quantize measures a task on the data of its run" in capsys.readouterr().err
    assert run("export", "animals", "--format", "onnx", "--quantize", "true") == 0
    assert "the card has no evaluation" not in capsys.readouterr().out
    text = card(tmp_path, "animals-onnx")[1]
    assert "| validation: accuracy |" in text
    found = json.loads(Path("runs/animals/test.json").read_text())
    assert found["level"] == 0.95
    low, high = map(format_number, found["interval"])
    assert re.search(rf"## Evaluation: test split.*\| accuracy \| \S+ \| {low} to {high} \|", text, re.DOTALL)
    assert re.search(r"\| accuracy on the validation split \| \S+ \(95 % interval .* to .*\) \|", text)
