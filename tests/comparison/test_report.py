"""`report.html` is complete, fetches nothing, and can be read in a browser, light and dark, large and small."""

import html
import json
import re
import shutil
import subprocess
import warnings
from collections import Counter
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from ssl_nlp.comparison import Column, ComparedRun, Comparison, Estimate, Row, Verdict
from ssl_nlp.comparison.layout import spread
from ssl_nlp.comparison.numbers import format_number, format_quantity, format_score, truncate
from ssl_nlp.comparison.plots import MARKERS, curve, look
from ssl_nlp.comparison.report import write_report
from ssl_nlp.comparison.summary import summarise
from ssl_nlp.comparison.theme import COLOURS, PALETTE
from ssl_nlp.evaluation.continual import PartRecord
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
  const light = colour => {
    const whole = colour.startsWith("color(") ? 1 : 255;  // of a mixture, or of a plain colour
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(part => part / whole);
    const [r, g, b] = parts.map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const behind = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return /rgba\\(.*, 0\\)/.test(colour) && element.parentElement ? behind(element.parentElement) : colour;
  };
  let texts = 0;
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].filter(node => node.nodeType == 3).map(node => node.data.trim()).join("");
    if (!text || element.closest("script, style") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = light(element.closest("svg") ? style.fill : style.color), paper = light(behind(element));
    texts += 1;
    if (Math.max(ink, paper) / Math.min(ink, paper) < 4.5) found.push(`${text} is too faint`);
  }
  for (const svg of document.querySelectorAll("svg")) {
    const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    const frame = svg.getBoundingClientRect();
    texts.forEach(([a, r], i) => {
      if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 || r.bottom > frame.bottom + 1)
        found.push(`${a} leaves its plot`);
      for (const [b, s] of texts.slice(i + 1))
        if (Math.min(r.right, s.right) - Math.max(r.left, s.left) > 1 &&
            Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top) > 1) found.push(`${a} is over ${b}`);
    });
  }
  const page = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const content = page.scrollWidth;
  const table = document.querySelector(".scroll"), first = table.querySelector("tbody th");
  const scrolls = table.scrollWidth > table.clientWidth;
  table.scrollLeft = 100;
  const kept = Math.abs(first.getBoundingClientRect().left - table.getBoundingClientRect().left) < 1;
  const hint = document.querySelector(".hint").getBoundingClientRect().height > 0;
  const paper = behind(document.body);
  parent.postMessage({width: innerWidth, dark, content, scrolls, kept, hint, paper, texts, found,
    svgs: document.querySelectorAll("svg").length}, "*");
});</script>"""
OUTER = """<body><script>
const seen = [];
addEventListener("message", event => {
  seen.push(event.data);
  document.title = JSON.stringify(seen);
});
</script>"""
SCORES = [[0.911, 0.213], [0.413, 0.814]]
VIEWS = [(width, scheme) for width in (1366, 600, 375) for scheme in ("light", "dark")]


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
    if seed == 0 and number < 2:
        record = PartRecord.of(["sports", EVIL], number == 1, ("accuracy", True), [0.1, 0.2], SCORES[: 2 - number])
        (directory / "continual.json").write_text(json.dumps(asdict(record)))
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
    assert text.index(summarise(comparison)[0]) < text.index(COLUMNS[0].title)
    for said in (
        *summarise(comparison),
        *comparison.differences,
        *comparison.notes,
        "cat at step 40",
        "class 10",
        "seeds",
        "TextFiles",
    ):
        assert said in text
    assert "cat at step 20" not in text  # the last validation only
    assert text.count("≈") >= 4  # four ties, and the legend
    assert "5.00 T FLOPs, 5.0 times as many" in text  # what was not equal
    assert text.count("95 % interval") >= 4 + 3 + 5  # bars, score against cost, differences from the best method
    assert text.count("~</span>") == text.count("‡</span>") == 1  # the legend
    assert "nats per token" in text


def test_scores_of_parts_are_a_heat_map_that_says_what_was_forgotten(page):
    text = html.unescape(page.read_text())
    maps = text[text.index('<section id="parts">') : text.index('<section id="samples">')]
    cells = re.findall(r'<td( class="best")? style="--share: (\d+)%">([\d.]+)</td>', maps)
    shown = [number + "*" * bool(own) for own, _, number in cells]
    assert shown[:6] == ["0.100", "0.200", "0.911*", "0.213", "0.413", "0.814*"]
    assert shown[6:] == ["0.100", "0.200", "0.911", "0.213"]  # all parts at once
    assert [int(share) for _, share, _ in cells[:3]] == [0, 6, 45]  # of one scale
    assert "accuracy: average 0.613, forgetting 0.498, backward transfer -0.498, forward transfer 0.013" in maps
    assert "accuracy: average 0.562" in maps and "all parts" in maps


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
    assert sum("with 95 % intervals over seeds" in plot for plot in plots) == 4
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
    assert f"{name[:7]}…{name[-7:]}" in drawn  # 29 columns of 30, in the bars
    assert truncate(name, 24) == f"{name[:6]}…{name[-5:]}"
    assert truncate("MaskedLM", 8) == "MaskedLM"


def test_a_comparison_of_little(comparison, tmp_path):
    """A published model, one seed: no training, no samples, no map, nothing that differs."""
    run = replace(comparison.rows[0].runs[0], folder=tmp_path, config={}, metrics=[], samples=[], record={}, seed=None)
    row = Row("BERT", (run,), False, {COLUMNS[0].key: Estimate(0.4, None, None, 1)})
    write_report(Comparison("mine", 1, COLUMNS[:1], [row], [], {}), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "One seed per method" in text
    assert text.count("<svg ") == 1
    assert "#maps" not in text and "#loss" not in text and "#against-cost" not in text


def test_in_a_browser_everything_can_be_read(page, tmp_path):
    """On a large screen and on a phone, light and dark: no overlaps, no overflow, enough contrast, tables that scroll."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"there is no browser ({', '.join(BROWSERS)}) on this machine")
    (tmp_path / "report.html").write_text(page.read_text().replace("</body>", f"{LOOK}</body>"))
    # A window may not be narrower than 500 pixels, but a frame may, and it passes its colour scheme on.
    frames = [
        f'<iframe src="report.html" style="width: {width}px; height: 800px; border: 0; color-scheme: {scheme}"></iframe>'
        for width, scheme in VIEWS
    ]
    outer = tmp_path / "outer.html"
    outer.write_text(OUTER + "".join(frames))
    command = [browser, *ALONE.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", outer.as_uri()]
    for _ in range(3):  # the hint appears with the first frame, which a busy browser may not have drawn yet
        dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        [title] = re.findall(r"<title>(.*?)</title>", dumped)
        views = {
            (seen["width"], "dark" if seen["dark"] else "light"): seen for seen in json.loads(html.unescape(title))
        }
        assert set(views) == set(VIEWS)
        if all(seen["scrolls"] == seen["hint"] for seen in views.values()):
            break
    for (width, scheme), seen in views.items():
        assert seen["found"] == []
        assert seen["svgs"] == 22 and seen["texts"] > 300
        assert seen["content"] <= width  # the page does not scroll sideways
        assert seen["paper"] == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 22, 21)"}[scheme]
        assert seen["scrolls"] == seen["hint"] == (width < 1000)
        assert seen["kept"]  # the names of the methods stay when the scores scroll


def test_looks_are_told_apart_with_any_colour_vision():
    """Looks of one shape differ in colour, in both modes, as Machado et al. (2009) simulate the lack of one receptor."""
    looks = [look(number) for number in range(len(PALETTE) * len(MARKERS))]
    assert len({(one.colour, one.marker) for one in looks}) == 40
    assert look(40).colour not in PALETTE
    for mode in (0, 1):
        colours = [modes[mode] for name, modes in COLOURS.items() if name.startswith("colour-")]
        paper = COLOURS["paper"][mode]
        for vision in VISIONS.values():
            seen = [lab(vision @ linear(colour)) for colour in [*colours, paper]]
            assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 14


VISIONS = {
    "full": np.eye(3),
    "no long waves": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "no middle waves": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "no short waves": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def linear(colour: str) -> np.ndarray:
    """(3,): the light of a colour `#rrggbb`."""
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """(3,): CIELAB, in which a distance of 2 can just be seen."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(
        light, 0, 1
    )
    xyz /= [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_plots_have_no_colours_but_those_of_the_theme(page):
    plots = "".join(re.findall(r"<svg .*?</svg>", page.read_text(), flags=re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}", plots)
    assert set(re.findall(r"var\(--([\w-]+)\)", plots)) <= set(COLOURS)


def test_names_move_apart_as_little_as_possible():
    assert spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    assert spread([0.1, 0.5, 0.52], 0.1) == pytest.approx([0.1, 0.46, 0.56])


def test_a_row_of_a_curve_without_progress_takes_the_latest():
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
