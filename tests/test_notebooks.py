"""The notebooks, run in a kernel at a small size: what they tell the reader is true.

Of each notebook one cell is replaced, the one that is tagged `parameters` and that a reader would change, too.
"""

import ast
import json
import math
import random
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.end_to_end.cli import CONFIGS, run, tiny_encoder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TOPICS = {
    "animals": "dog cat bird horse fish",
    "plants": "tree flower grass fern moss",
    "weather": "rain wind snow storm fog",
}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def parameters(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    return cell


def names(source: str) -> set[str]:
    """Names that a cell assigns or imports."""
    tree = ast.walk(ast.parse(source))
    return {node.id for node in tree if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def execute(name: str, replacement: str, folder: Path, report: str) -> tuple[nbformat.NotebookNode, Any]:
    """Run a notebook in `folder`. Returns it with its outputs, and the value of the expression `report` at its end."""
    notebook = read(ROOT / "notebooks" / name)
    cell = parameters(notebook)
    assert names(cell.source) == names(replacement)
    cell.source = replacement
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({report}))"))
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook, json.loads(notebook.cells[-1].outputs[0].text)


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", ()) for cell in notebook.cells for output in cell.get("outputs", ()))


def complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """Standard error without progress bars, which readers should find empty."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    texts = [output.text for output in outputs if output.get("name") == "stderr"]
    return [text for text in texts if text.strip() and not text.startswith("\r")]


AXES = "[[a.get_title(), a.get_xlabel(), a.get_ylabel()] for a in {}.axes]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences about three topics, and a suite of two tasks: find the topic, and match beginnings with ends."""
    folder = tmp_path_factory.mktemp("notebooks")
    draw = random.Random(0)
    with (folder / "texts.jsonl").open("w") as texts, (folder / "pairs.jsonl").open("w") as pairs:
        for number in range(600):
            topic = draw.choice(list(TOPICS))
            words = draw.choices([*TOPICS[topic].split(), "the", "a", "sees", "near"], k=draw.randint(6, 12))
            texts.write(json.dumps({"text": " ".join(words).capitalize() + ".", "topic": topic}) + "\n")
            if number < 40:
                pairs.write(
                    json.dumps({"text": " ".join(words[:4]), "pair": " ".join([*words[4:], str(number)])}) + "\n"
                )
    (folder / "suite.yaml").write_text(
        "name: mine\n"
        "data:\n"
        "  topics: {task: classification, train: texts.jsonl, valid: 0.1, test: 0.2, label: topic}\n"
        "  ends: {task: retrieval, test: pairs.jsonl}\n"
    )
    return folder


CORPUS = """
from ssl_nlp.corpora import TextFiles

corpus = TextFiles("texts.jsonl", valid=0.1, test=0.2, label="topic")
"""
SUITE = """
from ssl_nlp.evaluation import get_suite

suite = get_suite(config="suite.yaml")
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs_and_valid(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert parameters(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    assert notebook.metadata.kernelspec.name == "python3"


def test_the_quickstart_learns_to_fill_gaps_and_draws_what_it_learned(folder):
    report = (
        "{'loss': metrics['val/loss'].dropna().tolist(), 'shape': list(embeddings.shape), 'guesses': len(guesses),"
        f" 'loss_axes': {AXES.format('loss_figure')}, 'map_axes': {AXES.format('map_figure')},"
        " 'legend': [text.get_text() for text in map_figure.axes[0].get_legend().get_texts()],"
        " 'points': sum(len(dots.get_offsets()) for dots in map_figure.axes[0].collections)}"
    )
    notebook, found = execute("01_quickstart.ipynb", CORPUS + "STEPS = 60", folder, report)
    assert len(found["loss"]) == 10
    assert found["loss"][-1] < found["loss"][0] - 0.5
    assert found["guesses"] == 5
    assert found["shape"][0] == found["points"] > 60
    assert found["shape"][1] == 128
    assert sorted(found["legend"]) == sorted(TOPICS)
    [[title, x, y]] = found["loss_axes"]
    assert title and "steps" in x and "nats" in y
    assert "t-SNE" in found["map_axes"][0][0]
    assert pictures(notebook) == 2
    assert complaints(notebook) == []
    assert (folder / "runs" / "quickstart.ckpt").is_file()


def test_an_own_method_is_short_trains_and_is_compared_with_the_others(folder):
    [source] = [c.source for c in read(ROOT / "notebooks" / "02_your_own_method.ipynb").cells if "(Method)" in c.source]
    [kind] = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert kind.end_lineno - kind.lineno < 40

    report = (
        "{'losses': {name: loss['train/loss'].tolist() for name, loss in losses.items()},"
        " 'table': table.T.to_dict(), 'loaded': type(loaded).__name__,"
        " 'same': all(a.equal(b) for a, b in zip(loaded.parameters(), methods['BarlowTwins'].parameters())),"
        f" 'loss_axes': {AXES.format('loss_figure')}, 'bar_axes': {AXES.format('bar_figure')}}}"
    )
    notebook, found = execute("02_your_own_method.ipynb", CORPUS + SUITE + "STEPS = 20", folder, report)
    assert found["losses"].keys() == {"BarlowTwins", "SimCLR", "MaskedLM"}
    for losses in found["losses"].values():
        assert losses[-1] < losses[0]
    assert found["loaded"] == "BarlowTwins" and found["same"]
    baselines = {"TF-IDF", "random words", "untrained encoder"}
    assert found["table"].keys() == found["losses"].keys() | baselines
    for scores in found["table"].values():
        assert len(scores) == 3 and all(0 <= score <= 1 for score in scores.values())
    assert found["table"]["TF-IDF"]["topics.linear_probe (accuracy)"] > 0.9
    assert found["table"]["BarlowTwins"]["topics.linear_probe (accuracy)"] > 0.6
    assert [axes[0] for axes in found["loss_axes"]] == list(found["losses"])
    assert all("steps" in x and "(" in y for _, x, y in found["loss_axes"])
    assert found["bar_axes"][0][0] and found["bar_axes"][0][2]
    assert pictures(notebook) == 2
    assert complaints(notebook) == []


def test_runs_are_compared_in_a_table_and_pictures(folder, monkeypatch):
    monkeypatch.chdir(folder)
    data = ["--data.corpus=ssl_nlp.corpora.TextFiles", "--data.corpus.train=texts.jsonl", "--data.corpus.label=topic"]
    data += ["--data.corpus.valid=0.1", "--data.corpus.test=0.2", "--data.tokenizer.vocab_size=320"]
    for name in ("masked_lm", "simclr", "autoencoder"):
        overlays = [
            "--config",
            str(CONFIGS / "trainer" / "demo.yaml"),
            "--config",
            str(CONFIGS / "trainer" / "debug.yaml"),
        ]
        size = [*data, "--data.batch_size=16", "--data.length=32", *tiny_encoder()]
        fit = ["fit", "--config", str(CONFIGS / f"{name}.yaml"), *overlays, *size, "--run", f"notebook-{name}"]
        assert run(*fit) == 0
    replacement = (
        "from pathlib import Path\n" + SUITE + "FOLDER = Path.cwd()\n"
        'COMMAND = "compare runs/ --config suite.yaml --output runs/notebook"'
    )
    report = (
        "{'rows': [[row.label, row.baseline] for row in comparison.rows], 'names': [run.name for run in runs],"
        f" 'loss_axes': {AXES.format('loss_figure')}, 'bar_axes': {AXES.format('bar_figure')},"
        f" 'cost_axes': {AXES.format('cost_figure')}, 'map_axes': {AXES.format('map_figure')},"
        " 'curves': [line.get_ydata().tolist() for axes in loss_figure.axes for line in axes.lines],"
        " 'bars': [bar.get_width() for bar in bar_figure.axes[0].patches]}"
    )
    notebook, found = execute("03_compare_methods.ipynb", replacement, folder, report)
    methods = ["Autoencoder", "MaskedLM", "SimCLR"]
    assert sorted(label for label, baseline in found["rows"] if not baseline) == methods
    assert {"TF-IDF", "random words", "majority class"} <= {label for label, baseline in found["rows"] if baseline}
    shown = "".join(
        output.get("data", {}).get("text/plain", "") for c in notebook.cells for output in c.get("outputs", ())
    )
    assert all(label.split()[0] in shown for label, _ in found["rows"]), shown
    assert found["names"] == ["notebook-autoencoder", "notebook-masked_lm", "notebook-simclr"]
    assert [axes[0] for axes in found["loss_axes"]] == [axes[0] for axes in found["map_axes"]] == methods
    assert all("steps" in x and "nats" in y for _, x, y in found["loss_axes"])
    assert len(found["curves"]) == 2 * len(methods)
    assert all(len(curve) >= 2 and curve[-1] < curve[0] for curve in found["curves"][::2])
    assert len(found["bars"]) >= len(methods) + 3 and all(0 <= bar <= 1 for bar in found["bars"])
    assert found["bar_axes"][0][0] and "(0 to 1)" in found["bar_axes"][0][1]
    assert "seconds" in found["cost_axes"][0][1]
    assert pictures(notebook) == 4
    assert not any("\x1b[2K" in output.get("text", "") for c in notebook.cells for output in c.get("outputs", ()))
    assert complaints(notebook) == []


def test_the_excess_over_exact_limits_is_fitted_along_width_depth_and_tokens(tmp_path):
    report = (
        "{'curves': {name: curve[['val/limit', 'val/excess_nats', 'val/gap_closed']].T.values.tolist()"
        " for name, curve in curves.items()}, 'runs': runs.to_dict('list'),"
        " 'fitted': product_of_powers(product.x, sizes).tolist(), 'of_product': of_product,"
        " 'exponents': exponents.T.to_dict('list'),"
        f" 'loss_axes': {AXES.format('loss_figure')}, 'scaling_axes': {AXES.format('scaling_figure')}}}"
    )
    replacement = (
        "from ssl_nlp.corpora import HiddenMarkovLanguage\n"
        "corpus = HiddenMarkovLanguage(words=16, longest=20, documents=2000, valid=0.1)\nSTEPS = 16"
    )
    notebook, found = execute("04_exact_limits.ipynb", replacement, tmp_path, report)
    assert found["curves"].keys() == {"CausalLM", "MaskedLM", "MaskedDiffusion"}
    for limits, excess, closed in found["curves"].values():
        assert len(limits) == 8 and min(limits) == pytest.approx(max(limits), abs=1e-6)
        assert 0 < excess[-1] < excess[0] and closed[-1] < 1
    assert [axes[0] for axes in found["loss_axes"]] == list(found["curves"])
    assert all("steps" in x and "nats" in y for _, x, y in found["loss_axes"])

    runs = found["runs"]
    sizes = list(zip(runs["width"], runs["depth"], runs["tokens"], strict=True))
    middle = sizes[0]
    assert all(sum(a != b for a, b in zip(size, middle, strict=True)) == 1 for size in sizes[1:])  # one at a time
    for axis in ("width", "depth", "tokens"):
        assert len(set(runs[axis])) >= 4
    assert all(error > 0 for error in runs["standard error"])
    differences = [loss - limit for loss, limit in zip(runs["loss"], runs["limit"], strict=True)]
    assert runs["excess"] == pytest.approx(differences)
    deviations = [math.log(excess) - log for excess, log in zip(runs["excess"], found["fitted"], strict=True)]
    freedom = len(sizes) - 4
    assert sum(deviation**2 for deviation in deviations) / freedom == pytest.approx(found["of_product"] ** 2)
    for exponent, low, high, zero in found["exponents"].values():
        assert low < exponent < high
        assert zero == ("inside: not determined" if low < 0 < high else "outside")
    assert found["exponents"]["tokens"][0] > 0
    assert [axes[1].partition(" ")[0] for axes in found["scaling_axes"][3:]] == ["width", "depth", "training"]
    assert all("95 % interval" in title for title, _, _ in found["scaling_axes"][3:])
    assert pictures(notebook) == 2
    assert complaints(notebook) == []
