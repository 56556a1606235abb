"""Runs that train an adapter: what they say, keep and leave as it was, killed or not."""

from pathlib import Path

import pytest
import torch

from ssl_nlp.commands.models import find_target
from ssl_nlp.encoders.adapters import LoRA
from ssl_nlp.methods import CausalLM, MaskedLM
from ssl_nlp.runs.metrics_csv import read_metrics
from ssl_nlp.tasks import Classification
from tests.end_to_end.cli import CONFIGS, run, run_process, small, tiny_encoder, write_texts
from tests.end_to_end.test_resume import Stop

pytestmark = pytest.mark.slow

STOPS = f"--trainer.callbacks+={Stop.__module__}.Stop"
ADAPTERS = "--model.encoder.adapter=ssl_nlp.encoders.adapters."


def fit(method: str, texts: str, *more: str) -> list[str]:
    return ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts), *more]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A corpus in the working directory, and a run to start from."""
    monkeypatch.chdir(tmp_path)
    texts = write_texts(tmp_path)
    assert run(*fit("causal_lm", texts, *tiny_encoder(), "--run=old", "--trainer.max_steps=4")) == 0
    return texts


def start(adapter: str, *more: str) -> list[str]:
    return ["--model.encoder=Trained", "--model.encoder.run=old", f"{ADAPTERS}{adapter}", *more]


def test_a_stopped_run_ends_as_one_left_alone_with_its_base_unchanged(texts, monkeypatch, capfd):
    rank = ("--model.encoder.adapter.rank=1", "--model.encoder.adapter.initial_rank=3")
    command = fit("masked_lm", texts, *start("AdaLoRA", *rank), STOPS, "--checkpoint_every=5")
    assert run(*command, "--run=alone") == 0
    printed = capfd.readouterr().out
    model = MaskedLM.load_from_checkpoint("runs/alone/checkpoints/last.ckpt")
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad or every) / 1e6 for every in (False, True)]
    assert f"MaskedLM: {counts[0]:.2f} M of {counts[1]:.2f} M parameters are trained\n" in printed
    monkeypatch.setenv("STOP_AT", "12")
    assert run(*command, "--run=new") == 143
    monkeypatch.delenv("STOP_AT")
    assert run(*command, "--run=new") == 0
    assert "runs/new resumes at step 13\n" in capfd.readouterr().out
    rows = [read_metrics(Path(f"runs/{name}/metrics.csv")) for name in ("alone", "new")]
    assert [row["val/loss"] for row in rows[0]] == [row["val/loss"] for row in rows[1]]
    contents = [torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True) for name in ("alone", "new")]
    for name, weight in contents[0]["state_dict"].items():
        assert torch.equal(weight, contents[1]["state_dict"][name]), name

    ranks = [weight for name, weight in contents[0]["state_dict"].items() if ".lora_E." in name]
    assert sum(int((weight != 0).sum()) for weight in ranks) == len(ranks)  # one on average
    old = CausalLM.load_from_checkpoint("runs/old/checkpoints/last.ckpt").encoder.state_dict()
    for name in model.encoder.base_names:
        assert torch.equal(model.encoder.state_dict()[name], old[name.replace(".base_layer.", ".")]), name


def test_an_adapted_language_model_writes_and_tells_its_trained_parameters(texts, capsys):
    assert run(*fit("causal_lm", texts, *start("LoRA"), "--run=new", "--trainer.max_steps=4")) == 0
    checkpoint = "runs/new/checkpoints/last.ckpt"
    capsys.readouterr()
    assert run("generate", "--checkpoint", checkpoint, "--prompt", "the", "--max_new_tokens", "5") == 0
    assert capsys.readouterr().out.startswith("the")
    target = find_target("new")
    cost = target.header["cost"]
    assert cost["parameters"] == sum(weight.numel() for weight in target.method.parameters())
    assert 0 < cost["trained_parameters"] < cost["parameters"]
    assert Path(checkpoint).stat().st_size < Path("runs/old/checkpoints/last.ckpt").stat().st_size


def test_overlays_adapt_what_a_task_starts_from(texts):
    labelled = Path("labelled.tsv")
    lines = Path(texts).read_text().splitlines()[:60]
    labelled.write_text("".join(f"{line}\t{'ab'[number % 2]}\n" for number, line in enumerate(lines)))
    overlays = [f"--config={CONFIGS}/encoder/{name}.yaml" for name in ("trained", "lora")]
    corpus = [
        "--data.corpus=TextFiles",
        f"--data.corpus.train={labelled}",
        "--data.corpus.text=0",
        "--data.corpus.label=1",
    ]
    command = ["fit", f"--config={CONFIGS}/tasks/classification.yaml", *overlays, *corpus, "--model.encoder.run=old"]
    short = ["--trainer.max_steps=4", "--trainer.val_check_interval=4", "--data.batch_size=4", "--data.length=32"]
    assert run(*command, *short, "--run=task") == 0
    task = Classification.load_from_checkpoint("runs/task/checkpoints/last.ckpt")
    assert task.encoder.adapter == LoRA(rank=8, alpha=16.0)
    held = torch.load("runs/task/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all("lora_" in name or not name.startswith("encoder.") for name in held)
    assert {name.partition(".")[0] for name in held} > {"encoder"}  # and the head


@pytest.mark.parametrize(("strategy", "adapter"), [("ddp", "AdaLoRA"), ("fsdp", "LoRA")])
def test_two_processes_train_an_adapter_as_one_does(strategy, adapter, texts, tmp_path):
    settings = ["--data.unit=sentence", "--trainer.precision=32-true", "--model.optimization.optimizer=adamw"]
    settings += ["--trainer.gradient_clip_val=null", "--trainer.max_steps=10", "--trainer.val_check_interval=10"]
    command = [*fit("causal_lm", texts, *start(adapter)), *settings]
    two = [f"--config={CONFIGS}/trainer/{strategy}.yaml", "--trainer.accelerator=cpu", "--trainer.devices=2"]
    more = ["--trainer.max_steps=10", "--data.batch_size=2", "--trainer.limit_val_batches=4", "--run=two"]
    result = run_process(*command, *two, *more, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert run(*command, "--run=one") == 0
    models = [CausalLM.load_from_checkpoint(f"runs/{name}/checkpoints/last.ckpt") for name in ("one", "two")]
    for (name, one), two_ in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, two_, atol=1e-6, rtol=1e-4, msg=name)
    saved = torch.load("runs/two/checkpoints/last.ckpt", weights_only=True)
    assert ("base" in saved["ssl_nlp"]) == (strategy == "ddp")  # FSDP reads all weights from the file


def test_a_resumed_run_whose_base_has_changed_is_refused(texts, monkeypatch, capfd):
    command = fit("masked_lm", texts, *start("LoRA"), STOPS, "--checkpoint_every=5", "--run=new")
    monkeypatch.setenv("STOP_AT", "7")
    assert run(*command) == 143
    monkeypatch.delenv("STOP_AT")
    path = Path("runs/old/checkpoints/last.ckpt")
    content = torch.load(path, weights_only=True)
    torch.save(content | {"global_step": 1}, path)
    path.with_name("best.ckpt").unlink()
    capfd.readouterr()
    assert run(*command) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ssl-nlp:")]
    assert "holds only the adapter of" in line and "(runs/old), which has other weights now" in line
