"""Every mistake ends with exit status 2 and one line that names the culprit; nothing is written."""

from pathlib import Path

import pytest

from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit(method: str, *more: str, texts: str = "texts.txt") -> list[str]:
    return ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts), *tiny_encoder(), *more]


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line with which a command refuses."""
    assert run(*arguments) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ssl-nlp: ")]
    assert len(lines) == 1
    assert not list(Path().glob("runs/*"))
    return lines[0]


FIT_MISTAKES = {
    "unknown key": (["--model.encodr=3"], "encodr"),
    "unknown class": (["--model.encoder=Transformr"], "ssl-nlp: model.encoder: there is no class Transformr: "),
    "wrong type": (["--data.batch_size=many"], "ssl-nlp: data.batch_size must be of type int, not many"),
    "unknown word": (
        ["--model.optimization.schedule=x"],
        "ssl-nlp: optimization: schedule 'x' is unknown: use cosine, ",
    ),
    "a value with a dash": (
        ["--data.batch_size=3 - 4"],
        "ssl-nlp: data.batch_size must be of type int, not 3 - 4",
    ),
    "an option of a number": (
        ["--data.tokenizer.vocab_size.x=3"],
        "vocab_size is a single value, without an option x",
    ),
    "an option of a name": (["--run.name=mine"], "ssl-nlp: run is a single value, without an option name"),
    "one of several types": (
        ["--seed_everything=x"],
        "must be of type bool or of type int, not x",
    ),
    "a number or nothing": (
        ["--model.optimization.muon_learning_rate=x"],
        "muon_learning_rate must be of type float",
    ),
    "a word for a number that may change": (
        ["--config=causal_masked_lm", "--model.causal_share=x"],
        "ssl-nlp: model.causal_share must be of type float or of type Ramp, not x",
    ),
    "a flag for a number of two types": (
        ["--config=causal_masked_lm", "--model.masking_rate.steps=true"],
        "ssl-nlp: model.masking_rate.steps must be of type int or of type float, not True",
    ),
    "a list for a number that may change": (
        ["--config=causal_masked_lm", "--model.causal_share=[0.3, 1]"],
        "ssl-nlp: model.causal_share must be of type float or of type Ramp, not [0.3, 1]",
    ),
    "half of a change": (
        ["--config=causal_masked_lm", "--model.causal_share.start=0.2"],
        "ssl-nlp: model.causal_share.end is missing: ",
    ),
    "less than half of a change": (
        ["--config=causal_masked_lm", "--model.causal_share.steps=7"],
        "ssl-nlp: model.causal_share.start and end are missing: ",
    ),
    "unknown part of a change": (
        ["--config=causal_masked_lm", "--model.masking_rate.stop=7"],
        "ssl-nlp: there is no option --model.masking_rate.stop: ",
    ),
    "an option of no class yet": (
        ["--model.encoder.adapter.rank=3"],
        "ssl-nlp: model.encoder.adapter: choose a class first: ssl-nlp fit --help lists them",
    ),
    "unknown option": (
        ["--data.corpus.trian=x"],
        "ssl-nlp: there is no option --data.corpus.trian: did you mean --data.corpus.train? ",
    ),
    "no such config": (["--config=nowhere.yaml"], "nowhere.yaml"),
    "no such file": (["--data.corpus.init_args.train=nowhere/*.txt"], "nowhere/*.txt"),
    "row longer than the model": (["--data.length=2000"], "data.length 2000"),
    "heads": (["--model.encoder.heads=3"], "not divisible by 3 heads"),
    "dropout": (["--model.encoder.dropout=1.5"], "dropout"),
    "learning rate": (["--model.optimization.learning_rate=-1"], "learning_rate must be positive, not -1"),
    "vocabulary": (["--data.tokenizer.vocab_size=10"], "vocab_size 10"),
    "tokenizer": (["--data.tokenizer.name=nowhere/at/all"], "nowhere/at/all"),
    "pretrained encoder": (
        ["--model.encoder=ssl_nlp.encoders.PretrainedEncoder", "--model.encoder.name=nowhere/at/all"],
        "nowhere/at/all",
    ),
    "unit": (
        ["--data.unit=chapter"],
        "ssl-nlp: data.unit must be one of 'block', 'sentence', 'text', 'pair', 'cooccurrence' or a "
        "known class, not chapter",
    ),
    "optimizer of nowhere": (  # before any data are read
        ["--model.optimization.optimizer=torch.optm.Adam", "--data.corpus.init_args.train=nowhere/*.txt"],
        "ssl-nlp: optimization: optimizer torch.optm.Adam is not the path of a known Optimizer: write it like torch.opt",
    ),
    "abstract class": (
        ["--data.unit=ssl_nlp.data.BatchMaker"],
        "ssl-nlp: data.unit: ssl_nlp.data.BatchMaker is an abstract class: define each of its abstract methods",
    ),
    "run name": (["--run=a/b"], "a/b"),
    "checkpoint": (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
}


@pytest.mark.parametrize("mistake", FIT_MISTAKES)
def test_mistakes_of_fit(mistake, tmp_path, capfd):
    write_texts(tmp_path)
    arguments, culprit = FIT_MISTAKES[mistake]
    assert culprit in refused(capfd, *fit("masked_lm", *arguments))


MISSPELT = {  # settings, and what the message must say of them
    "trainer: {max_step: 3}": "trainer.max_step: did you mean trainer.max_steps? ",
    "trainer.max_step: 3": "trainer.max_step: did you mean trainer.max_steps? ",
    "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: val/loss, max_step: 3}}]}": (
        "trainer.callbacks.max_step: ssl-nlp fit --help lists"
    ),
    "modell: {class_path: MaskedLM}": "modell: did you mean model? ",
    "model: {init_arg: {masking_rate: 0.2}}": "model.init_arg: did you mean model.init_args? ",
    "model: {init_args: {encoder: {init_args: {sise: tiny}}}}": "model.encoder.sise: did you mean model.encoder.size? ",
    "data: {init_args: {lenght: 8}}": "data.lenght: did you mean data.length? ",
    "data: {init_args: {corpus: {init_args: {tran: a.txt}}}}": "data.corpus.tran: did you mean data.corpus.train? ",
}


@pytest.mark.parametrize("setting", MISSPELT)
def test_a_misspelt_setting_is_named_with_its_file(setting, tmp_path, capfd):
    write_texts(tmp_path)
    Path("mine.yaml").write_text(f"{setting}\n")
    line = refused(capfd, *fit("masked_lm", "--config=mine.yaml"))
    assert line.startswith(f"ssl-nlp: --config mine.yaml: there is no setting {MISSPELT[setting]}")


def test_a_setting_in_the_wrong_place_is_not_blamed_on_an_option_of_the_same_name(tmp_path, capfd):
    write_texts(tmp_path)
    Path("mine.yaml").write_text("model: {init_args: {dim: 32}}\n")
    line = refused(capfd, *fit("masked_lm", "--config=mine.yaml", "--model.encoder.init_args.dim=32"))
    assert line.startswith(
        "ssl-nlp: --config mine.yaml: there is no setting model.dim: did you mean model.encoder.dim? "
    )


def test_texts_that_cannot_be_read(tmp_path, capfd):
    Path("empty.txt").touch()
    assert "empty.txt" in refused(capfd, *fit("causal_lm", texts="empty.txt"))
    Path("latin.txt").write_bytes("caf\xe9\n".encode("latin-1") * 50)
    assert "latin.txt is not UTF-8" in refused(capfd, *fit("causal_lm", texts="latin.txt"))
    Path("a.jsonl").write_text('{"body": "some text"}\n' * 50)
    assert "body" in refused(capfd, *fit("causal_lm", texts="a.jsonl"))
    Path("one.txt").write_text("one document\n")
    assert "empty" in refused(capfd, *fit("causal_lm", texts="one.txt"))
