"""Every argument of Lightning's Trainer, with usual, extreme and wrong values, works or is refused in one line."""

import csv
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric.loggers import tensorboard
from lightning.pytorch import Trainer

from ssl_nlp.methods import Method
from ssl_nlp.runs.run import Run
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

LIGHTNING = "lightning.pytorch"
# Values that train, and values that are refused with what the line names. A value of several words is that many options.
TRAINS: dict[str, list[str]] = {
    "accelerator": ["cpu", "auto"],
    "strategy": ["auto", f"{LIGHTNING}.strategies.SingleDeviceStrategy --trainer.strategy.device=cpu"],
    "devices": ["1", "auto"],
    "num_nodes": ["1"],
    "precision": ["32-true", "bf16-mixed", "bf16-true", "64-true", "null"],
    "logger": ["false", f"{LIGHTNING}.loggers.CSVLogger --trainer.logger.save_dir=more"],
    "callbacks": [
        f"{LIGHTNING}.callbacks.TQDMProgressBar",
        f"{LIGHTNING}.callbacks.RichProgressBar",
        f"{LIGHTNING}.callbacks.LearningRateMonitor",
        f"{LIGHTNING}.callbacks.EarlyStopping --trainer.callbacks.monitor=val/loss",
    ],
    "max_epochs": ["2"],
    "min_epochs": ["1"],
    "max_steps": ["1", "-1 --trainer.max_epochs=1"],
    "min_steps": ["2"],
    "max_time": ["00:01:00:00"],
    "limit_train_batches": ["1", "0.5"],
    "limit_val_batches": ["1", "1.0", "0"],
    "limit_test_batches": ["0"],
    "limit_predict_batches": ["0"],
    "overfit_batches": ["1", "1.0"],
    "val_check_interval": ["1", "1.0 --trainer.check_val_every_n_epoch=1", "00:00:01:00", "100"],
    "check_val_every_n_epoch": ["1", "5", "null"],
    "num_sanity_val_steps": ["1", "-1"],
    "log_every_n_steps": ["1", "100"],
    "enable_checkpointing": ["true"],
    "enable_progress_bar": ["false"],
    "enable_model_summary": ["true"],
    "accumulate_grad_batches": ["2"],
    "gradient_clip_val": ["0", "null"],
    "gradient_clip_algorithm": ["value"],
    "deterministic": ["true"],
    "benchmark": ["true"],
    "inference_mode": ["false"],
    "use_distributed_sampler": ["true"],
    "profiler": ["advanced", f"{LIGHTNING}.profilers.SimpleProfiler"],
    "detect_anomaly": ["true"],
    "plugins": [f"{LIGHTNING}.plugins.environments.LightningEnvironment"],
    "sync_batchnorm": ["true"],
    "reload_dataloaders_every_n_epochs": ["1"],
    "enable_autolog_hparams": ["false"],
    "model_registry": ["null"],
}
REFUSED: dict[str, list[tuple[str, str]]] = {
    "accelerator": [("nonsense", "accelerator"), ("tpu", "torch_xla")],
    "strategy": [("nonsense", "strategy"), ("fsdp", "fsdp")],
    "devices": [("0", "devices 0"), ("x", "devices"), ("-1", "devices"), ("[0]", "devices"), ("5000", "devices 5000")],
    "num_nodes": [("0", "num_nodes 0")],
    "precision": [("17", "precision"), ("16-true", "precision 16-true")],
    "logger": [("nonsense", "logger")],
    "callbacks": [
        ("nonsense", "nonsense"),
        (f"{LIGHTNING}.callbacks.LearningRateFinder", "LearningRateFinder"),
        (f"{LIGHTNING}.callbacks.BatchSizeFinder", "BatchSizeFinder"),
        (f"{LIGHTNING}.callbacks.StochasticWeightAveraging --trainer.callbacks.swa_lrs=0.1", "max_epochs"),
    ],
    "fast_dev_run": [("-1", "fast_dev_run")],
    "max_epochs": [("0", "max_epochs 0"), ("-2", "max_epochs -2")],
    "min_epochs": [("-1", "min_epochs -1"), ("5 --trainer.max_epochs=2", "min_epochs 5")],
    "max_steps": [("0", "max_steps 0"), ("-5", "max_steps -5")],
    "min_steps": [("-1", "min_steps -1"), ("5", "min_steps 5")],
    "max_time": [("soon", "soon")],
    "limit_train_batches": [
        ("0", "limit_train_batches 0"),
        ("-1", "-1"),
        ("0.001", "limit_train_batches"),
        ("1.5", "1.5"),
    ],
    "limit_val_batches": [("-1", "limit_val_batches"), ("1.5", "limit_val_batches")],
    "limit_test_batches": [("-1", "limit_test_batches")],
    "limit_predict_batches": [("-1", "limit_predict_batches")],
    "overfit_batches": [("-1", "overfit_batches"), ("0.001", "a larger overfit_batches")],
    "val_check_interval": [
        ("0", "val_check_interval 0"),
        ("-1", "val_check_interval -1"),
        ("1.5", "val_check_interval 1.5"),
        ("0.5", "check_val_every_n_epoch 1"),
        ("100 --trainer.check_val_every_n_epoch=1", "val_check_interval"),
    ],
    "check_val_every_n_epoch": [("0", "check_val_every_n_epoch 0"), ("-1", "check_val_every_n_epoch -1")],
    "num_sanity_val_steps": [("-2", "num_sanity_val_steps -2")],
    "log_every_n_steps": [("0", "log_every_n_steps 0"), ("-1", "log_every_n_steps -1")],
    "enable_checkpointing": [("false", "enable_checkpointing false")],
    "enable_progress_bar": [("3", "enable_progress_bar")],
    "enable_model_summary": [("x", "enable_model_summary")],
    "accumulate_grad_batches": [("0", "accumulate_grad_batches 0")],
    "gradient_clip_val": [("-1", "gradient_clip_val -1"), (".nan", "gradient_clip_val nan")],
    "gradient_clip_algorithm": [("x", "gradient_clip_algorithm")],
    "deterministic": [("x", "deterministic")],
    "benchmark": [("x", "benchmark")],
    "inference_mode": [("x", "inference_mode")],
    "use_distributed_sampler": [("x", "use_distributed_sampler")],
    "profiler": [("nonsense", "profiler")],
    "detect_anomaly": [("x", "detect_anomaly")],
    "barebones": [("true", "barebones")],
    "plugins": [("nonsense", "plugins")],
    "sync_batchnorm": [("x", "sync_batchnorm")],
    "reload_dataloaders_every_n_epochs": [("-1", "reload_dataloaders_every_n_epochs")],
    "default_root_dir": [("elsewhere", "default_root_dir elsewhere")],
    "enable_autolog_hparams": [("x", "enable_autolog_hparams")],
    "model_registry": [("mine", "model_registry mine")],
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_texts(tmp_path_factory.mktemp("texts"), 60)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit(texts: str, *more: str) -> int:
    """A `fit` of two steps in float32 with a validation after each, and the changes of the test."""
    few = {
        "max_steps": 2,
        "val_check_interval": 1,
        "limit_val_batches": 1,
        "precision": "32-true",
        "accelerator": "cpu",
    }
    config = ["fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(texts), *tiny_encoder(), "--run=a"]
    return run(*config, *(f"--trainer.{name}={value}" for name, value in few.items()), *more)


def last_checkpoint() -> dict:
    return torch.load(Run("a").last_checkpoint, weights_only=True)


def metrics(column: str) -> dict[int, float]:
    """The values of a metric by step."""
    with (Run("a").directory / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}


def test_every_argument_of_the_trainer_is_tried():
    """This fails for a new argument in Lightning until it is listed."""
    assert {*TRAINS, *REFUSED} == {*inspect.signature(Trainer).parameters}
    assert {*REFUSED} == {*inspect.signature(Trainer).parameters}, "a wrong value each"


@pytest.mark.parametrize(("argument", "value"), [(name, value) for name in TRAINS for value in TRAINS[name]])
def test_a_value_that_trains(argument, value, texts, capfd):
    assert fit(texts, *f"--trainer.{argument}={value}".split()) == 0, capfd.readouterr().err
    assert Run("a").finished
    saved = last_checkpoint()
    assert saved["global_step"] >= 1
    assert Method.load_from_checkpoint(Run("a").last_checkpoint).embed(["the dog"]).isfinite().all()
    if (argument, value) != ("limit_val_batches", "0"):
        assert saved["global_step"] in metrics("val/loss"), "each run ends with a validation"
        assert (Run("a").checkpoints / "best.ckpt").exists()


@pytest.mark.parametrize(("argument", "value", "named"), [(n, *case) for n in REFUSED for case in REFUSED[n]])
def test_a_value_that_is_refused(argument, value, named, texts, capfd):
    name = "callbacks+" if argument == "callbacks" else argument
    assert fit(texts, *f"--trainer.{name}={value}".split()) == 2
    error = capfd.readouterr().err
    [line] = [line for line in error.splitlines() if line.startswith("ssl-nlp: ")]
    assert named in line
    assert "Traceback" not in error


def test_a_missing_gpu_is_one_line(texts, capfd, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.accelerators.CUDAAccelerator.is_available", lambda: False)
    monkeypatch.setattr("lightning.pytorch.accelerators.MPSAccelerator.is_available", lambda: False)
    assert fit(texts, "--trainer.accelerator=gpu") == 2
    assert "ssl-nlp: trainer: No supported gpu backend found!" in capfd.readouterr().err


def test_tensorboard_that_is_not_installed_is_named_with_its_extra(texts, capfd, monkeypatch):
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(tensorboard, name, False)
    assert fit(texts, f"--trainer.logger={LIGHTNING}.loggers.TensorBoardLogger", "--trainer.logger.save_dir=more") == 2
    assert "pip install 'ssl_nlp[tensorboard]'" in capfd.readouterr().err


def test_an_early_stopping_monitor_that_nobody_logs_is_named(texts, capfd):
    stopping = f"--trainer.callbacks={LIGHTNING}.callbacks.EarlyStopping"
    assert fit(texts, stopping, "--trainer.callbacks.monitor=val/nothing") == 2
    assert "val/nothing" in capfd.readouterr().err


def test_a_run_of_less_than_an_interval_ends_with_a_validation(texts):
    assert fit(texts, "--trainer.max_steps=-1", "--trainer.max_epochs=1", "--trainer.val_check_interval=100") == 0
    [(step, loss)] = metrics("val/loss").items()
    assert step == last_checkpoint()["global_step"]
    best = torch.load(Run("a").checkpoints / "best.ckpt", weights_only=True)
    assert best["global_step"] == step and np.isfinite(loss)


def test_without_validation_the_run_says_so(texts, capfd):
    assert fit(texts, "--trainer.limit_val_batches=0") == 0
    assert "limit_val_batches 0 turns validation off" in capfd.readouterr().err


def test_another_checkpoint_callback_keeps_its_files_apart(texts):
    assert (
        fit(texts, f"--trainer.callbacks={LIGHTNING}.callbacks.ModelCheckpoint", "--trainer.callbacks.save_last=true")
        == 0
    )
    assert {"epoch=0-step=2.ckpt", "last.ckpt"} <= {path.name for path in Run("a").checkpoints.glob("extra/*.ckpt")}


def test_a_profiler_writes_its_report_into_the_run(texts):
    assert fit(texts, "--trainer.profiler=simple") == 0
    assert "run_training_batch" in (Run("a").directory / "fit-profile.txt").read_text()


def test_lines_are_printed_with_any_bar_and_without(texts, capfd):
    for number, more in enumerate((["--trainer.enable_progress_bar=false"], [])):
        assert fit(texts, *more) == 0
        assert capfd.readouterr().out.count("val/loss") == 2
        Run("a").directory.rename(f"kept{number}")


def test_the_average_of_the_weights_is_what_a_run_keeps(texts):
    """The callback copies the parameters in its `setup`, so they must exist by then."""
    assert (
        fit(texts, f"--trainer.callbacks={LIGHTNING}.callbacks.EMAWeightAveraging", "--trainer.callbacks.decay=0.5")
        == 0
    )
    saved = last_checkpoint()
    assert saved["state_dict"].keys() == saved["current_model_state"].keys()
    name = "encoder.layers.0.attn.Wo.weight"
    assert not torch.equal(saved["state_dict"][name], saved["current_model_state"][name])
    assert torch.equal(
        Method.load_from_checkpoint(Run("a").last_checkpoint).state_dict()[name], saved["state_dict"][name]
    )


def test_stochastic_weight_averaging_has_an_effect(texts):
    epochs = ["--trainer.max_steps=-1", "--trainer.max_epochs=3", "--trainer.limit_train_batches=2"]
    averaging = f"--trainer.callbacks={LIGHTNING}.callbacks.StochasticWeightAveraging"
    assert (
        fit(texts, *epochs, averaging, "--trainer.callbacks.swa_lrs=0.01", "--trainer.callbacks.swa_epoch_start=1") == 0
    )
    averaged, stepped = (
        last_checkpoint()["state_dict"],
        torch.load(Run("a").checkpoints / "best.ckpt", weights_only=True),
    )
    name = "encoder.layers.0.attn.Wo.weight"
    assert averaged.keys() == stepped["state_dict"].keys()
    assert not torch.equal(averaged[name], stepped["state_dict"][name])


def test_pruned_weights_are_zeros_in_the_checkpoint(texts):
    pruning = f"--trainer.callbacks={LIGHTNING}.callbacks.ModelPruning"
    assert fit(texts, pruning, "--trainer.callbacks.pruning_fn=l1_unstructured", "--trainer.callbacks.amount=0.5") == 0
    weights = [value for name, value in last_checkpoint()["state_dict"].items() if name.endswith("weight")]
    zeros, number = (
        sum(int(part) for part in parts) for parts in ([(w == 0).sum() for w in weights], map(torch.numel, weights))
    )
    assert 0.4 < zeros / number < 0.6
    Method.load_from_checkpoint(Run("a").last_checkpoint)


def test_overfitting_sees_the_same_batch_in_every_step(texts, monkeypatch):
    seen = []
    loss = Method.training_step

    def step(method, batch, index):
        seen.append(batch.input_ids.clone())
        return loss(method, batch, index)

    monkeypatch.setattr(Method, "training_step", step)
    assert fit(texts, "--trainer.overfit_batches=1", "--trainer.max_steps=3") == 0
    assert len(seen) == 3 and all(torch.equal(batch, seen[0]) for batch in seen)


def test_predict_writes_embeddings_in_the_order_of_the_test_split(texts, capfd):
    assert fit(texts, "--data.unit=sentence") == 0
    capfd.readouterr()
    assert run("predict", "--run=a") == 0
    path = Run("a").directory / "embeddings.npy"
    embeddings = np.load(path)
    assert f"{path}: {len(embeddings)} embeddings of width 16" in capfd.readouterr().out
    method = Method.load_from_checkpoint(Run("a").best_checkpoint())
    assert embeddings.dtype == np.float32 and embeddings.shape[1] == 16
    from ssl_nlp.corpora import TextFiles
    from ssl_nlp.data.sentences import split_sentences

    documents = TextFiles(texts, unit="line").documents("test")
    sentences = [sentence.strip() for document in documents for sentence in split_sentences(document.text)]
    np.testing.assert_allclose(embeddings, method.embed(sentences).numpy(), atol=1e-5)
    assert run("predict", "--run=a") == 2
    assert "embeddings.npy already exists: name another file" in capfd.readouterr().err
    assert run("predict", "--run", "a", "--output", "other.npy") == 0
    assert np.array_equal(np.load("other.npy"), embeddings)


def test_two_runs_at_once_are_refused(texts, capfd):
    assert fit(texts, "--run=b") == 2
    assert "--run is given 2 times (a, b): give it once" in capfd.readouterr().err
