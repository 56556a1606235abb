"""What is promised of every task: it resumes to the bit, its checkpoint is complete, and padding changes nothing."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ssl_nlp.tasks import Task
from ssl_nlp.training.module import Module
from tests.tasks.cases import CASES


def trainer(folder: Path, steps: int, **arguments) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(default_root_dir=folder, accelerator="cpu", max_steps=steps, **(quiet | arguments))


def connected(name: str, dropout: float = 0.0) -> tuple[Task, list]:
    """A task with regularizers, and the first batches of its training."""
    case = CASES[name]
    task, data = case.made(dropout), case.data()
    task.connect_data(data, "fit")
    task.regularizers = list(case.regularizers())
    rows = data.rows("train")
    return task, [rows[range(start, start + 5)] for start in (0, 5)]


@pytest.mark.parametrize("name", CASES)
def test_the_targets_it_counts_are_those_of_its_loss(name):
    """They are asked for where batches are accumulated, before the first of them is trained on."""
    task, batches = connected(name, dropout=0.1)
    task.train()
    for batch in batches:
        counts = []
        for count in (type(task).count_targets, Module.count_targets):
            torch.manual_seed(3)
            counts.append({term: int(number) for term, number in count(task, batch).items()})
        assert counts[0] == counts[1]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("name", CASES)
def test_a_run_resumed_from_a_checkpoint_ends_with_the_same_bits(name, tmp_path):
    """With dropout, and with two batches accumulated into each step."""

    def fit(checkpoint: Path | None = None) -> Task:
        task, data = CASES[name].made(0.1), CASES[name].data()
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=2)
        run = trainer(
            tmp_path, 3, limit_val_batches=0, accumulate_grad_batches=2, max_epochs=-1,
            callbacks=[*CASES[name].regularizers(), *([] if checkpoint else [keep])],
        )  # fmt: skip
        run.fit(task, data, ckpt_path=checkpoint, weights_only=True)
        return task

    whole = fit().state_dict()
    half = torch.load(tmp_path / "step=2.ckpt", weights_only=True)["state_dict"]
    resumed = fit(tmp_path / "step=2.ckpt").state_dict()
    assert whole.keys() == resumed.keys() == half.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert not all(torch.equal(value, half[key]) for key, value in whole.items())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.regularizers()])
def test_a_checkpoint_predicts_the_same_and_so_does_a_batch_of_one(name):
    task, _ = connected(name)
    task.eval()
    documents = list(CASES[name].data().corpus.documents("valid"))[:6]
    records = task.predict_records(documents)
    saved = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(saved)
    loaded = Task.from_saved(saved, "a.ckpt")
    assert type(loaded) is type(task) and loaded.predict_records(documents) == records
    for document, record in zip(documents, records, strict=True):
        [alone] = task.predict_records([document])
        expected = record.get("prediction")
        expected = pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected
        assert alone["text"] == document.text and alone.get("prediction") == expected


@pytest.mark.parametrize("name", CASES)
def test_padding_changes_no_output(name):
    """The loss of a batch is that of its rows one by one, which have no padding."""
    task, [batch, _] = connected(name)
    task.eval()
    rows = CASES[name].data().rows("train")
    together = task.loss(batch).terms
    alone = [task.loss(rows[[number]]).terms for number in range(5)]
    for term, found in together.items():
        assert int(found.targets) == sum(int(one[term].targets) for one in alone)
        torch.testing.assert_close(
            found.total, torch.stack([one[term].total for one in alone]).sum(), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.attacked])
def test_a_validation_and_a_test_report_the_metric_under_attack(name, tmp_path):
    """One batch of each: tasks that generate use the embedding again after the attacked pass."""
    task, data = CASES[name].made(0.0), CASES[name].data()
    run = trainer(tmp_path, 1, limit_val_batches=1, limit_test_batches=1, callbacks=list(CASES[name].regularizers()))
    for split, evaluate in (("val", run.validate), ("test", run.test)):
        [found] = evaluate(task, data, verbose=False)
        assert f"{split}/robust_{task.monitor[0]}" in found
        assert task.last_result.details["robust"]["metrics"].keys() == task.last_result.metrics.keys()
