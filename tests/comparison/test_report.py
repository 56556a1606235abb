"""report.html: all of the comparison is in it, nothing is fetched, and in a browser nothing overlaps or overflows."""

import html
import json
import re
import shutil
import subprocess
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssl_nlp.comparison import Column, ComparedRun, Comparison, Estimate, Row, Verdict
from ssl_nlp.comparison.layout import spread
from ssl_nlp.comparison.numbers import format_number, format_quantity, format_score, truncate
from ssl_nlp.comparison.plots import curve
from ssl_nlp.comparison.report import write_report
from ssl_nlp.evaluation.embedding_map import EmbeddingMap
from ssl_nlp.evaluation.record import SuiteResult, write_suite

EVIL = "<script>alert('&\"')</script> $x_1$"
METHODS = ["MaskedLM", "CausalLM", "SimCLR", "Autoencoder", f"VAE {EVIL}"]
COLUMNS = [
    Column("mine/knn/accuracy", "k-NN accuracy", True),
    Column("mine/retrieval/mrr@10", "retrieval MRR@10", True),
    Column("mine/geometry/effective_rank", "effective rank", None, "directions"),
    Column("mine/language_modelling/bits_per_byte", "bits per byte", False, "bits/byte"),
]
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "chromium-headless-shell",
)
ALONE = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
LOOK = """<script>addEventListener("load", () => {
  const found = [];
  for (const svg of document.querySelectorAll("svg")) {
    const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    const frame = svg.getBoundingClientRect();
    texts.forEach(([a, r], i) => {
      if (r.left < frame.left - 1 || r.right > frame.right + 1) found.push(`${a} leaves its plot`);
      for (const [b, s] of texts.slice(i + 1))
        if (Math.min(r.right, s.right) - Math.max(r.left, s.left) > 1 &&
            Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top) > 1) found.push(`${a} is over ${b}`);
    });
  }
  const page = document.documentElement;
  const svgs = document.querySelectorAll("svg").length;
  document.title = JSON.stringify({width: innerWidth, content: page.scrollWidth, svgs, found});
});</script>"""


def a_run(folder: Path, number: int, method: str, seed: int) -> ComparedRun:
    """A run of 40 steps that was evaluated."""
    generator = np.random.default_rng([number, seed])
    labels = np.array([f"class {n % 11} {EVIL if n % 11 == 10 else ''}" for n in range(66)])
    points = generator.normal(size=(66, 2)).astype(np.float32)
    directory = folder / f"{number}-{seed}"
    header = {"loss_unit": "nats per token", "checkpoint": None, "cost": {"tokens": 4e5}}
    write_suite(directory / "evaluation.json", header, "mine", SuiteResult("", {}, {}, EmbeddingMap(points, labels)))
    metrics = []
    for step in range(10, 41, 10):
        row = {"step": step, "train/tokens": 1e4 * step, "train/flops": (1 + number) * 1e11 * step}
        metrics.append(row | {"train/loss": 9.0 - step / 10, "val/loss": 8.5 - step / 10})
    samples = [{"step": step, "text": f"the dog {EVIL}", "filling": f"cat at step {step}"} for step in (20, 40)]
    corpus = {"class_path": "ssl_nlp.corpora.TextFiles", "init_args": {"train": f"a/{'long' * 30}/path.txt"}}
    config = {"data": {"init_args": {"corpus": corpus}}}
    return ComparedRun(directory, directory.name, method, seed, config, metrics, samples, json.loads(
        (directory / "evaluation.json").read_text()), True)  # fmt: skip


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("runs")
    rows = []
    for number, label in enumerate(METHODS):
        mean = 0.5 + 0.003 * number  # nearly equal scores, whose names would be over each other
        scores = {
            c.key: Estimate(mean + 20 * i, mean + 20 * i - 0.02, mean + 20 * i + 0.02, 2) for i, c in enumerate(COLUMNS)
        }
        verdict = Verdict(mean - 0.512, mean - 0.55, mean - 0.47, tie=number != 4, best=number == 4)
        over = Verdict(mean - 0.51, mean - 0.6, mean - 0.4, tie=True)
        cost = {"flops": Estimate(1e12 * (1 + number), None, None, 2), "seconds": Estimate(50.0, None, None, 2)}
        runs = tuple(a_run(folder, number, label, seed) for seed in (0, 1))
        key = COLUMNS[0].key
        rows.append(Row(label, runs, False, scores, {key: verdict}, {key: over}, cost))
    rows.append(Row("TF-IDF", (), True, {COLUMNS[0].key: Estimate(0.511, None, None, 1)}))
    configuration = {f"model.{EVIL}": {METHODS[0]: EVIL, METHODS[1]: "0.3"}}
    return Comparison("mine", 1, COLUMNS, rows, [f"The corpus differs: {EVIL}."], configuration, [f"A note {EVIL}."])


@pytest.fixture(scope="module")
def page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    write_report(comparison, path)
    return path


def test_nothing_is_fetched(page):
    text = page.read_text()
    addresses = set(re.findall(r"\bhttps?://[^\s\"'<>)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<script|<link|<iframe|<img|@import|\bsrc=|url\((?!#)", text)
    assert page.stat().st_size < 4e6
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


def test_everything_is_in_it(page, comparison):
    text = html.unescape(page.read_text())
    for row in comparison.rows:
        assert row.label in text
        for column in comparison.columns:
            assert column.title in text
            if column.key in row.scores:
                assert format_score(row.scores[column.key]) in text
        for cost in row.cost.values():
            assert format_quantity(cost.mean) in text
    for said in (*comparison.differences, *comparison.notes, "cat at step 40", "class 10", "seeds", "TextFiles"):
        assert said in text
    assert "cat at step 20" not in text  # the last validation only
    assert text.count("≈") >= 4  # four ties, and the legend
    assert "nats per token" in text


def test_text_stays_text(page):
    text = page.read_text()
    assert "<script" not in text
    assert text.count(html.escape(EVIL, quote=False).split("alert")[0]) > 10


def test_ids_are_unique_and_plots_are_described(page):
    text = page.read_text()
    assert max(Counter(re.findall(r'\bid="([^"]+)"', text)).values()) == 1
    for target in re.findall(r'(?:href="|url\()#([^")]+)', text):
        assert f'id="{target}"' in text
    plots = re.findall(r"<svg [^>]*>", text)
    assert len(plots) == 4 + 5 + 5 + 3 + 5  # bars, loss against tokens and FLOPs, score against cost, maps
    assert all('role="img"' in plot and re.search(r'aria-label="[^"]{20}', plot) for plot in plots)


def test_names_in_other_scripts_are_text_of_the_page_and_matplotlib_does_not_look_for_their_glyphs(
    comparison, tmp_path
):
    name = "中文掩码语言模型" * 4
    rows = [replace(comparison.rows[0], label=name), *comparison.rows[1:]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(replace(comparison, rows=rows), tmp_path / "report.html")
    drawn = re.findall(r"<text[^>]*>(中[^<]*)</text>", (tmp_path / "report.html").read_text())
    assert f"{name[:14]}…" in drawn  # 29 columns of 30, in the bars
    assert truncate(name, 24) == f"{name[:11]}…"
    assert truncate("MaskedLM", 8) == "MaskedLM"


def test_a_comparison_of_little(comparison, tmp_path):
    """A published model, one seed: no training, no samples, no map, nothing that differs."""
    run = replace(comparison.rows[0].runs[0], folder=tmp_path, config={}, metrics=[], samples=[], record={}, seed=None)
    row = Row("BERT", (run,), False, {COLUMNS[0].key: Estimate(0.4, None, None, 1)})
    write_report(Comparison("mine", 1, COLUMNS[:1], [row], [], {}), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "One seed a method" in text
    assert text.count("<svg ") == 1
    assert "#maps" not in text and "#loss" not in text and "#against-cost" not in text


@pytest.mark.parametrize("width", [1366, 390])
def test_in_a_browser_nothing_overlaps_or_overflows(width, page, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"there is no browser ({', '.join(BROWSERS)}) on this machine")
    copy = tmp_path / "report.html"
    copy.write_text(page.read_text().replace("</body>", f"{LOOK}</body>"))
    # A frame has the width that is asked for, which a window below 500 pixels may not have.
    command = [
        browser,
        *ALONE.split(),
        "--disable-component-update",
        "--disable-sync",
        "--allow-file-access-from-files",
    ]
    outer = tmp_path / "outer.html"
    outer.write_text(
        f'<body style="margin: 0"><iframe src="report.html" style="width: {width}px; height: 800px; border: 0" onload="'
        'setTimeout(() => { document.title = this.contentDocument.title }, 0)"></iframe>'
    )
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1600,900", "--dump-dom", outer.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    [title] = re.findall(r"<title>(.*?)</title>", dumped)
    seen = json.loads(html.unescape(title))
    assert seen["width"] == width and seen["svgs"] == 22
    assert seen["content"] <= width
    assert seen["found"] == []


def test_names_move_apart_by_as_little_as_it_takes():
    assert spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    assert spread([0.1, 0.5, 0.52], 0.1) == pytest.approx([0.1, 0.46, 0.56])


def test_a_curve_has_the_progress_of_its_row_or_of_the_last_one_that_said():
    rows = [
        {"step": 1, "train/tokens": 10.0},
        {"step": 2, "val/loss": 3.0},
        {"step": 3, "train/tokens": 20.0, "val/loss": 2.0},
    ]
    assert curve(rows, "train/tokens", "val/loss") == ([10.0, 20.0], [3.0, 2.0])


def test_numbers():
    assert [format_number(x) for x in (0.1234, -2.5, 98.405, 4166.1)] == ["0.123", "−2.500", "98.4", "4,166"]
    assert [format_quantity(x) for x in (0.0, 52.98, 397_410, 4.234e12)] == ["0.00", "53.0", "397 k", "4.23 T"]
    assert format_score(Estimate(0.4, 0.35, 0.45, 3)) == "0.400 ± 0.050"
