"""Everything that the README tells people to type works, in the order of the README, at a small size."""

import re
import shlex
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from ssl_nlp.commands import demo
from tests.corpus import random_texts
from tests.end_to_end.cli import run, small, tiny_encoder
from tests.end_to_end.suites import write_suites

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BASH = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for block in BASH for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: a checkout, texts of their own, and the runs of a (small) `make demo`."""
    path = tmp_path_factory.mktemp("readme")
    (path / "configs").symlink_to(ROOT / "configs")
    (path / "README.md").write_text(README)
    (path / "my_method.py").write_text(next(source for source in PYTHON if "class LastToken" in source))
    (path / "texts").mkdir()
    for number, text in enumerate(random_texts(200)):
        (path / "texts" / f"{number}.txt").write_text(f"{text}\n{text[::-1]}")  # two lines, for pairs
    reviews = [f"{text}\t{1 + 4 * (number % 2)}" for number, text in enumerate(random_texts(80, seed=1))]
    (path / "reviews.tsv").write_text("\n".join(["text\tstars", *reviews]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        demo.train([*small(str(path / "texts" / "*.txt")), *tiny_encoder()])
    return path


@pytest.mark.parametrize("kind", ["data", "encoder", "trainer"])
def test_the_table_of_overlays_names_all_of_them(kind):
    [row] = [line for line in README.splitlines() if line.startswith(f"| `{kind}/` |")]
    assert {*re.findall(r"`([\w-]+)`", row)} >= {path.stem for path in (ROOT / "configs" / kind).glob("*.yaml")}


def test_the_demo_shows_what_each_method_has_learned(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    demo.show()
    shown = capsys.readouterr().out
    for kind in demo.METHODS.values():
        assert kind.__name__ in shown
    assert "bits per byte" in shown
    assert all(question in shown for question in demo.QUESTIONS)
    assert all(f"{prompt} |" in shown for prompt in demo.PROMPTS)


def test_the_demo_compares_all_methods(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    write_suites(folder)
    demo.compare_methods(["--config", "mine.yaml"])
    shown = capsys.readouterr().out
    assert all(kind.__name__ in shown for kind in demo.METHODS.values())
    assert all(baseline in shown for baseline in ("TF-IDF", "random words"))
    assert str(folder / "runs" / "demo-masked_lm") in shown
    *_, summary = shown.partition("In short\n")
    assert re.search(r"best|cannot be told apart", " ".join(summary.split()))
    assert summary.rstrip().endswith(".")  # nothing follows
    assert (folder / "demo-comparison" / "report.html").stat().st_size > 10_000


def test_every_command_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for command in COMMANDS:
        program, *arguments = shlex.split(command, comments=True)
        if program == "make":  # its recipe exists; the demo has run above, and the tests are running
            subprocess.run(["make", "--dry-run", arguments[0]], cwd=ROOT, check=True, capture_output=True)
            continue
        assert program == "ssl-nlp"
        if arguments[0] == "compare" and "--task" not in arguments:  # on a suite of a few lines
            write_suites(folder)
            arguments[1:1] = ["--config", "mine.yaml"]
        if "--seeds" in arguments:  # each is a process of its own
            arguments[arguments.index("--seeds") + 1] = "1"
        if arguments[0] == "fit" or "--" in arguments:
            texts = [] if "--data.corpus.train" in arguments else small("texts/*.txt")
            size = ["--data.tokenizer.vocab_size=320", "--data.batch_size=4", "--data.length=32"]
            debug = ["--config", "configs/trainer/debug.yaml"]
            starts = "encoder/trained" in arguments or "--task" in arguments  # from a run, which has an encoder already
            arguments += [*texts, *size, *debug, *([] if starts else tiny_encoder())]
        assert run(*arguments) == 0, f"{command}\n{capsys.readouterr().err}"


def test_the_python_runs_in_a_notebook_and_its_checkpoint_on_the_command_line(folder, monkeypatch, capsys):
    """The first block reads a checkpoint that the command line wrote; the second writes one that the command line reads."""
    monkeypatch.chdir(folder)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in PYTHON])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    [output] = [output for output in notebook.cells[0].outputs if output.output_type == "execute_result"]
    assert "tensor" in output.data["text/plain"]
    assert run("fill-mask", "--checkpoint", "mine.ckpt", "--text", "a [MASK] of a") == 0
    assert "a [MASK] of a" in capsys.readouterr().out
