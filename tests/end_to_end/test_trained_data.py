"""A run keeps its tokenizer and insists on the data that it was trained on, whatever is in the cache."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from lightning.pytorch import Callback, Trainer

from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TextDataModule, TokenizerSettings, tokenizer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Method
from ssl_nlp.runs.metrics_csv import read_metrics
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

CHANGED = (
    r"ssl-nlp: the (train|valid) split of TextFiles has changed since the run was trained on it: .* tokens then, .* now"
)


class FailAt(Callback):
    """Raises an error after the step that the environment variable FAIL_AT names."""

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        if trainer.global_step == int(os.environ.get("FAIL_AT", -1)):
            raise RuntimeError("as asked")


def fit(name: str, texts: str) -> list[str]:
    config = ["fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(texts), *tiny_encoder()]
    settings = ["--trainer.precision=32-true", "--data.tokenizer.kind=wordpiece", "--checkpoint_every=4"]
    return [*config, *settings, f"--trainer.callbacks+={__name__}.FailAt", "--run", name]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A corpus in one file, in a working directory with a separate cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path / "cache"))
    return write_texts(tmp_path)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete the cache, and make every tokenizer trained from now on differ from before."""
    shutil.rmtree("cache")
    train = tokenizer.train

    def other(settings: TokenizerSettings, texts: Callable[[], Iterator[str]]) -> str:
        return train(settings, lambda: (text[::-1] for text in texts()))

    monkeypatch.setattr(tokenizer, "train", other)


def test_without_its_cache_a_run_goes_on_with_its_own_tokenizer_to_the_same_bits(texts, monkeypatch, capsys):
    assert run(*fit("alone", texts)) == 0
    monkeypatch.setenv("FAIL_AT", "14")
    with pytest.raises(RuntimeError, match="as asked"):
        run(*fit("stopped", texts))
    monkeypatch.delenv("FAIL_AT")
    forget(monkeypatch)
    os.utime(texts)  # a file that was only copied or touched is the same text
    assert run(*fit("stopped", texts)) == 0
    last = [read_metrics(Path("runs", name, "metrics.csv"))[-1] for name in ("alone", "stopped")]
    assert last[0]["val/loss"] == last[1]["val/loss"]
    kept = [json.loads(Path("runs", name, "run.json").read_text())["tokenizer"] for name in ("alone", "stopped")]
    assert kept[0] == kept[1] == Method.load_from_checkpoint("runs/alone/checkpoints/last.ckpt").tokenizer.fingerprint()


def test_a_run_is_measured_on_what_it_was_trained_on_or_on_what_is_named(texts, monkeypatch, capsys):
    """The contents of the cache and of the files no longer matter."""
    assert run(*fit("one", texts)) == 0

    def loss(*more: str) -> str:
        assert run("validate", "--run", "one", *more) == 0
        return re.search(r"val/loss\s+\S+\s+([\d.]+)", capsys.readouterr().out)[1]

    before = loss()
    forget(monkeypatch)
    assert loss() == before
    shutil.copy(texts, "other.txt")
    with open(texts, "a") as file:
        file.write("".join(f"Another cat {i} likes the house. It is red.\n" for i in range(200)))
    for command in (["validate", "--run", "one"], ["test", "--run", "one"], ["predict", "--run", "one"]):
        capsys.readouterr()
        assert run(*command) == 2
        assert re.match(CHANGED, last_line(capsys))
    assert loss("--data.corpus.train=other.txt") == before
    assert loss("--data.corpus.train", texts) != before


def test_the_digests_of_a_run_do_not_hold_for_a_corpus_that_is_named(texts, capsys):
    assert run(*fit("one", texts)) == 0
    path, text = Path("runs/one/config.yaml"), json.loads(Path("runs/one/run.json").read_text())["text"]
    config = yaml.safe_load(path.read_text())
    config["data"]["init_args"]["digests"] = text
    path.write_text(yaml.safe_dump(config))
    Path("other.txt").write_text("".join(f"Another cat {i} likes the house. It is red.\n" for i in range(200)))
    Path("other.yaml").write_text("data: {init_args: {corpus: {init_args: {train: other.txt}}}}")
    assert run("validate", "--run", "one") == 0
    for other in (["--data.corpus.train=other.txt"], ["--config", "other.yaml"]):
        assert run("validate", "--run", "one", *other) == 0
        assert run("validate", "--run", "one", *other, f"--data.digests={json.dumps(text)}") == 2
        assert "is not the text that data.digests expects" in last_line(capsys)
    Path(texts).write_text(Path("other.txt").read_text())
    assert run("validate", "--run", "one", "--data.batch_size=2") == 2
    assert "is not the text that data.digests expects" in last_line(capsys)


def test_a_run_does_not_go_on_with_other_text_or_the_checkpoint_of_another_run(texts, monkeypatch, capsys):
    monkeypatch.setenv("FAIL_AT", "14")
    for name in ("one", "two"):
        with pytest.raises(RuntimeError, match="as asked"):
            run(*fit(name, texts))
        with open(texts, "a") as file:
            file.write("Zwei Hunde sehen fern. Sie bellen.\n" * (name == "one"))
    monkeypatch.delenv("FAIL_AT")
    before = Path("runs/one/checkpoints/last.ckpt").read_bytes()
    assert run(*fit("one", texts)) == 2
    assert re.match(CHANGED, last_line(capsys))
    assert Path("runs/one/checkpoints/last.ckpt").read_bytes() == before
    shutil.copy("runs/two/checkpoints/last.ckpt", "runs/one/checkpoints/last.ckpt")
    assert run(*fit("one", texts)) == 2
    assert "last.ckpt has another tokenizer than runs/one was begun with" in last_line(capsys)


def test_in_python_too_the_tokenizer_is_that_of_the_checkpoint_or_the_data_are_refused(texts, monkeypatch):
    assert run(*fit("one", texts)) == 0
    path = "runs/one/checkpoints/last.ckpt"

    def validate(method: Method) -> None:
        settings = TokenizerSettings("wordpiece", vocab_size=320)
        data = TextDataModule(TextFiles(texts, unit="line"), settings, length=32, batch_size=4)
        quiet = {"logger": False, "enable_progress_bar": False}
        Trainer(**quiet).validate(method, data, ckpt_path=path, weights_only=True, verbose=False)

    validate(Method.load_from_checkpoint(path))
    forget(monkeypatch)
    method = Method.load_from_checkpoint(path)
    validate(method)
    fresh = type(method)(type(method.encoder)(size=None, dim=16, layers=2, heads=2))
    with pytest.raises(UserError, match="checkpoint was trained with another tokenizer.*Method.load_from_checkpoint"):
        validate(fresh)
