"""Bad input to all commands ends with exit status 2 and one line that names the culprit and the fix.

The flags of Lightning's Trainer have a sweep of their own, and so have names that come from elsewhere.
"""

import shutil
from pathlib import Path

import pytest
import torch

from ssl_nlp.data import TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import VAE, CausalLM, MaskedLM
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.bad_settings import fit_cases
from tests.end_to_end.cli import CONFIGS, run, save_untrained, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

MASKED, CAUSAL, DRAWN = "masked.ckpt", "causal.ckpt", "vae.ckpt"
OTHER: list[tuple[list[str], str]] = [
    (["fti"], "'fti'"),
    (["--fit"], "'--fit'"),
    (["embed"], "embed needs --checkpoint, --output"),
    (["embed", "--checkpoint", MASKED], "embed needs --output"),
    (["embed", "--checkpoint", MASKED, "--output=a.npy", "--inptu=a"], "did you mean --input? ssl-nlp embed --help"),
    (["embed", "--checkpoint", MASKED, "--output=a.npy", "stray"], "unexpected argument stray"),
    (["predict", "--run=done", "--outp=a.npy"], "did you mean --output?"),
    (["evaluate"], "evaluate needs MODEL"),
    (["evaluate", MASKED, "--suit=docs"], "did you mean --suite? ssl-nlp evaluate --help"),  # no abbreviations
    (["compare", "somewhere", "--outp=a"], "did you mean --output? ssl-nlp compare --help"),
    (["fit"], "fit needs a configuration"),
    (["fill-mask", "--checkpoint", CAUSAL, "--text=a"], "CausalLM fills no masks"),
    *(
        (["embed", "--checkpoint", bad, "--input", "texts.txt", "--output", "a.npy"], bad)
        for bad in ("nowhere.ckpt", "folder", "binary.txt", "texts.txt", "empty.txt", "other.ckpt", "half.ckpt")
    ),
    *(
        (["embed", "--checkpoint", MASKED, "--input", bad, "--output", "a.npy"], bad)
        for bad in ("nowhere.txt", "folder", "empty.txt", "binary.txt", "utf16.txt", "blank.txt")
    ),
    (["embed", "--checkpoint", MASKED, "--input", "a\0b", "--output", "a.npy"], "embedded null byte"),
    *(
        (["embed", "--checkpoint", MASKED, "--input", "texts.txt", "--output", bad], bad)
        for bad in ("there.npy", "a.txt", "folder", "texts.txt/a.npy", "/proc/a/b.npy", ".npy", "")
    ),
    *(
        (
            ["embed", "--checkpoint", MASKED, "--input", "texts.txt", "--output", "a.npy", f"--batch_size={bad}"],
            "batch_size",
        )
        for bad in ("0", "-1", "1.5", "x", "nan", "null")
    ),
    (["embed", "--checkpoint", MASKED, "--output", "a.npy", "--inputs", "texts.txt"], "--inputs"),
    (["embed", "--checkpoint", MASKED, "--output", "a.npy", "texts.txt"], "texts.txt"),
    (["generate"], "needs --checkpoint"),
    (["generate", "--checkpoint", "nowhere.ckpt"], "nowhere.ckpt"),
    (["generate", "--checkpoint", MASKED, "--prompt", "a"], "MaskedLM"),
    (["generate", "--checkpoint", CAUSAL, "--prompt", "a", "--number", "2"], "--number"),
    (["generate", "--checkpoint", CAUSAL, "--prompt", "a", "--input", "texts.txt"], "--input"),
    (["generate", "--checkpoint", CAUSAL, "--prompt", "the dog " * 100], "max_length"),
    (["generate", "--checkpoint", CAUSAL, "--input", "nowhere.txt"], "nowhere.txt"),
    (["generate", "--checkpoint", CAUSAL, "--prompt", "a", "--max_new_tokens=1000000"], "max_new_tokens"),
    (["generate", "--checkpoint", DRAWN, "--prompt", "a"], "--prompt"),
    *((["generate", "--checkpoint", DRAWN, "--number", bad], "number") for bad in ("-1", "1.5", "x")),
    *(
        (["generate", "--checkpoint", checkpoint, *prompt, f"--{option}={bad}"], option)
        for checkpoint, prompt in ((CAUSAL, ["--prompt", "a"]), (DRAWN, []))
        for option, values in {
            "temperature": ["-1", "nan", "inf", "x"],
            "top_k": ["-1", "0", "1.5", "x"],
            "top_p": ["-1", "0", "1.5", "nan", "x"],
            "max_new_tokens": ["-1", "0", "1.5", "x"],
            "seed": ["-1", "99999999999999999999999", "1.5", "x"],
        }.items()
        for bad in values
    ),
    (["score"], "needs --checkpoint"),
    (["score", "--checkpoint", "nowhere.ckpt", "--input", "texts.txt"], "nowhere.ckpt"),
    (["score", "--checkpoint", CAUSAL, "--input", "nowhere.txt"], "nowhere.txt"),
    (["score", "--checkpoint", CAUSAL, "--inptu", "texts.txt"], "did you mean --input?"),
    (["fill-mask"], "needs --checkpoint"),
    (["fill-mask", "--checkpoint", CAUSAL, "--text", "[MASK]"], "CausalLM"),
    (["fill-mask", "--checkpoint", MASKED, "--text", "no mask"], "[MASK]"),
    (["fill-mask", "--checkpoint", MASKED, "--text", ""], "[MASK]"),
    (["fill-mask", "--checkpoint", MASKED, "--text", "[MASK]", "--input", "texts.txt"], "--input"),
    (["fill-mask", "--checkpoint", MASKED, "--text", "the dog " * 100 + "[MASK]"], "max_length"),
    (["fill-mask", "--checkpoint", MASKED, "--input", "empty.txt"], "empty.txt"),
    *(
        (["fill-mask", "--checkpoint", MASKED, "--text", "[MASK]", f"--top_k={bad}"], "top_k")
        for bad in ("0", "-1", "x")
    ),
    *(([command], "--run") for command in ("validate", "test", "predict")),
    *(([command, "--run", "gone"], "gone") for command in ("validate", "test", "predict")),
    *(([command, "--run", "folder"], "folder") for command in ("validate", "test", "predict")),
    (["validate", "--run", "done", "--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt"),
    (["validate", "--run", "done", "--ckpt_path", "binary.txt"], "binary.txt"),
    (["validate", "--run", "done", "--data.corpus.train", "nowhere.txt"], "nowhere.txt"),
    (["validate", "--run", "done", "--data.batch_sizes", "3"], "batch_size"),
    (["validate", "--run"], "--run"),
    (["evaluate"], "evaluate needs MODEL"),
    (["evaluate", "gone"], "there is no run gone"),
    (["evaluate", "folder/gone"], "folder/gone is neither"),
    (["evaluate", "nowhere.ckpt"], "no checkpoint at nowhere.ckpt"),
    (["evaluate", "half.ckpt"], "half.ckpt is not a complete checkpoint"),
    (["evaluate", "pretrained:nowhere/at/all"], "no tokenizer at 'nowhere/at/all'"),
    (["evaluate", "pretrained:"], "no tokenizer at ''"),
    (["evaluate", MASKED, "--suite", "everything"], "there is no suite 'everything'"),
    (["evaluate", MASKED, "--suite", "docs", "--config", "suite.yaml"], "two suites"),
    (["evaluate", MASKED, "--suite", "files"], "--config"),
    (["evaluate", MASKED, "--suite", "files", "--config", "suite.yaml"], "suite.yaml: unknown ending"),
    (["evaluate", MASKED, "--wandb", "sometimes"], "wandb"),
    *(
        (["evaluate", MASKED, "--config", bad], bad)
        for bad in (
            "nowhere.yaml",
            "folder",
            "binary.txt",
            "list.yaml",
            "broken.yaml",
            "unknown.yaml",
            "text.yaml",
            "suite.yaml",
        )
    ),
    (["compare"], "compare needs RUN"),
    (["compare", "gone"], "gone"),
    (["compare", "folder"], "folder"),
    (["compare", "texts.txt"], "texts.txt"),
    (["compare", "done", "--suite", "everything"], "everything"),
    (["compare", "done", "--suite", "files"], "--config"),
    (["compare", "done", "--config", "nowhere.yaml"], "nowhere.yaml"),
    *((["compare", "done", "--output", bad], bad) for bad in ("texts.txt", "folder", "texts.txt/a", "/proc/a/b")),
    (["compare", "done", "--", "--data.length=3"], "--seeds"),
    *(
        (["compare", "--seeds", bad, str(CONFIGS / "masked_lm.yaml"), "--output", "new"], "seeds")
        for bad in ("0", "-1", "1.5", "x", "")
    ),
    (["compare", "--seeds", "1", "nowhere.yaml", "--output", "new"], "nowhere.yaml"),
    (["compare", "--seeds", "1", "list.yaml", "--output", "new"], "list.yaml"),
    (["compare", "--seeds", "1", "binary.txt", "--output", "new"], "binary.txt"),
    (["compare", "--seeds", "1", "masked_lm", "masked_lm", "--output", "new"], "masked_lm"),
    (["compare", "--seeds", "1", "masked_lm", "--output", "new", "--", "--data.batch=3"], "--data.batch_size"),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bad files of every kind, three checkpoints and a finished run."""
    folder = tmp_path_factory.mktemp("bad")
    write_texts(folder)
    (folder / "folder").mkdir()
    (folder / "folder" / "other.dat").touch()
    (folder / "empty.txt").touch()
    (folder / "blank.txt").write_text("\n \n")
    (folder / "one.txt").write_text("one document\n")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 4)
    (folder / "utf16.txt").write_bytes("data: text\n".encode("utf-16"))
    (folder / "list.yaml").write_text("[1, 2]\n")
    (folder / "text.yaml").write_text("only text\n")
    (folder / "broken.yaml").write_text("data: [1\n")
    (folder / "unknown.yaml").write_text("nonsense: {unknown.yaml: 1}\n")
    (folder / "suite.yaml").write_text("name: mine\ndata: {a: {task: classification, train: suite.yaml, label: x}}\n")
    (folder / "a.csv").write_text("text,label\none,1\nI ate pie, ice cream,2\n")
    (folder / "a.xml").write_text("<a/>")
    (folder / "a.parquet").write_text("no parquet")
    (folder / "a.txt.gz").write_text("no gzip")
    (folder / "a.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    (folder / "there.npy").write_bytes(b"mine")
    (folder / "half.ckpt").write_bytes(b"PK\x03\x04half")
    torch.save({}, folder / "other.ckpt")
    torch.manual_seed(0)
    tokenizer = get_tokenizer(TokenizerSettings(vocab_size=300), ListCorpus(random_texts(60)))
    for name, kind in ((MASKED, MaskedLM), (CAUSAL, CausalLM), (DRAWN, VAE)):
        encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=128)
        save_untrained(kind(encoder), tokenizer, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(*fit("masked_lm"), "--run=done") == 0
        (folder / "runs" / "folder").mkdir()
    return folder


def fit(method: str) -> list[str]:
    """Arguments of a `fit` that would take a single step."""
    short = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"]
    return ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small("texts.txt"), *tiny_encoder(method), *short]


CASES = [
    ([*fit(method), *arguments], culprit, " ".join([method, *arguments])) for method, arguments, culprit in fit_cases()
]
CASES += [(arguments, culprit, " ".join(arguments)) for arguments, culprit in OTHER]


def files_of(folder: Path) -> dict[Path, int]:
    """The files in a folder, each with the time of its last change, except locks, which belong to no run."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_there_are_many():
    assert len(CASES) > 300


@pytest.mark.parametrize(
    ("arguments", "culprit"), [case[:2] for case in CASES], ids=[ascii(case[2])[1:60] for case in CASES]
)
def test_bad_input_is_refused_in_one_line(arguments, culprit, prepared, monkeypatch, capfd):
    monkeypatch.chdir(prepared)
    before = files_of(prepared)
    status = run(*arguments)
    shown = capfd.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("ssl-nlp: ")]
    after = files_of(prepared)
    for path in after.keys() - before.keys():  # what one case leaves must not decide over another
        path.unlink()
    for folder in [path for path in (prepared / "runs").glob("[!.]*") if path.name not in ("done", "folder")]:
        shutil.rmtree(folder)
    assert (status, len(lines)) == (2, 1), shown
    assert culprit in lines[0]
    assert "Traceback" not in shown
    assert len(lines[0]) < 600
    assert after == before
