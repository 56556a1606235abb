"""`compare --task`: published models beside their architecture with random weights."""

import shutil
from pathlib import Path

import pytest

from ssl_nlp.commands import train_runs
from ssl_nlp.commands.fine_tune import fine_tune
from ssl_nlp.methods import Method
from ssl_nlp.runs.run import Run
from ssl_nlp.tasks import Classification
from tests.end_to_end.cli import run
from tests.end_to_end.test_fine_tuned import in_this_process, rows_of, write_task
from tests.export.conftest import OLD
from tests.export.test_task_heads import published


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a task and a published BERT."""
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path)
    published("bert", tmp_path / "tiny-bert")
    for file in (OLD / "bert").glob("*token*"):
        shutil.copy(file, tmp_path / "tiny-bert")
    return tmp_path


@pytest.mark.slow
def test_a_published_model_is_compared_with_its_architecture_untrained(folder, monkeypatch):
    fits = in_this_process(monkeypatch)
    length = "--data.length=16"
    assert run("compare", "--task", "animals.yaml", "--seeds", "1", "pretrained:tiny-bert", "--", length) == 0
    assert fits == ["comparison-animals-tiny-bert-seed0", "comparison-animals-untrained-tiny-bert-seed0"]
    rows = {row["row"]: row["baseline"] for row in rows_of(folder / "comparison")}
    assert rows == {"tiny-bert": "0", "untrained tiny-bert": "1", "TF-IDF": "1"}
    loaded = Classification.load_from_checkpoint(Run(fits[1]).best_checkpoint())
    assert loaded.encoder.ancestry == () and loaded.encoder.name == "tiny-bert"  # also where its class knows a name


def test_a_run_from_a_published_model_shares_its_untrained_baseline(folder, monkeypatch):
    monkeypatch.setattr(train_runs, "run_fit", lambda arguments: 0)
    shutil.copytree(OLD / "masked_lm_pretrained", "runs/ours")
    name = Method.load_from_checkpoint("runs/ours/checkpoints/last.ckpt").encoder.name
    found = fine_tune("animals.yaml", [f"pretrained:{name}", "ours", "pretrained:tiny-bert"], 1, "mine", [])
    untrained = [Path(one).name for one in found if "untrained" in one]
    assert untrained == ["mine-animals-untrained-ours-seed0", "mine-animals-untrained-tiny-bert-seed0"]
