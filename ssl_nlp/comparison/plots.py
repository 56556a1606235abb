"""Plots of a comparison: small figures with titles and units, which the report lays out side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl_nlp.comparison.expected_best import expected_best
from ssl_nlp.comparison.layout import make_room, spread, without_glyph_warnings
from ssl_nlp.comparison.numbers import format_score, scale_of, truncate
from ssl_nlp.comparison.theme import LIGHT, PALETTE
from ssl_nlp.comparison.tuning import Tuning
from ssl_nlp.comparison.types import Column, Comparison, Row
from ssl_nlp.evaluation.cost import FLOPS, TOKENS
from ssl_nlp.evaluation.embedding_map import EmbeddingMap

P = ParamSpec("P")

MARKERS = ("o", "^", "s", "D", "P")
"""Shapes of points, which tell equal colours apart; the style sheet draws the same shapes."""
BASELINE, INK, SOFT, FAINT, AXIS, PAPER = (
    LIGHT[name] for name in ("baseline", "ink", "soft", "faint", "axis", "paper")
)
WIDTH, HEIGHT = 4.0, 2.6  # inches
POINTS = 72  # of an inch
LINE = 13.0  # points of a line of text
STYLE = {
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": AXIS,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "lines.solid_capstyle": "round",
    "text.parse_math": False,  # labels may contain dollar signs
}
TRAINING = {"flops": ("training compute", "FLOPs"), "seconds": ("training time", "processor seconds")}
PROGRESS = {"tokens": (TOKENS, "tokens seen"), "flops": (FLOPS, "FLOPs spent")}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw a figure in the style of the report."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE), without_glyph_warnings():  # type: ignore[arg-type]  # its keys are settings
            return make_room(draw(*args, **kwargs))

    return drawn


@dataclass(frozen=True)
class Look:
    """Colour and shape for the points of one method or class.

    Attributes:
        colour: in the light mode.
        marker: index of the shape in `MARKERS`.
    """

    colour: str
    marker: int = 0

    @property
    def shape(self) -> str:
        """Matplotlib's name of the shape."""
        return MARKERS[self.marker]


def look(number: int) -> Look:
    """Look of a method or class: forty different ones, of which neighbours differ in colour and shape."""
    if number >= len(PALETTE) * len(MARKERS):
        return Look(FAINT)
    return Look(PALETTE[number % len(PALETTE)], number % len(MARKERS))


def looks(comparison: Comparison) -> dict[str, Look]:
    """Look of each row by its label, the same in every plot; grey for baselines."""
    methods = [row.label for row in comparison.rows if not row.baseline]
    chosen = {label: look(number) for number, label in enumerate(methods)}
    return {row.label: chosen.get(row.label, Look(BASELINE)) for row in comparison.rows}


@styled
def loss_curves(row: Row, against: str, colour: str, limit: float) -> Figure:
    """Plot the loss of one method, one line per seed; losses of different objectives have no common scale.

    Args:
        row: the method.
        against: `tokens` or `flops`.
        colour: of the lines, in the light mode; validation is thick, training thin.
        limit: where the horizontal axis ends, the same for all methods.
    """
    figure, axes = panel(f"{truncate(row.label, 24)}: loss against {against.replace('flops', 'FLOPs')}")
    column, title = PROGRESS[against]
    for run in row.runs:
        x, train = curve(run.metrics, column, "train/loss")
        axes.plot(x, train, color=colour, alpha=0.45, linewidth=0.9)
        x, valid = curve(run.metrics, column, "val/loss")
        axes.plot(x, valid, color=colour, linewidth=1.8, marker="o", markersize=3.5)
    scale, _, word = scale_of(limit)
    axes.set_xlim(0, limit * 1.02)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / scale:g}")
    axes.set_xlabel(f"{title} ({word})" if word else title)
    axes.set_ylabel(f"loss ({loss_unit(row)})")
    return figure


def loss_unit(row: Row) -> str:
    """Unit of a method's loss, from its evaluation."""
    return str(next((run.record["loss_unit"] for run in row.runs if "loss_unit" in run.record), "its own unit"))


def curve(metrics: Sequence[Mapping[str, float]], x: str, y: str) -> tuple[list[float], list[float]]:
    """Points of one logged number against another; a row without `x` takes the latest one."""
    points, seen = [], 0.0
    for logged in metrics:
        seen = logged.get(x, seen)
        if y in logged:
            points.append((seen, logged[y]))
    return [x for x, _ in points], [y for _, y in points]


@styled
def bars(column: Column, rows: Sequence[Row], looks: Mapping[str, Look]) -> Figure:
    """Plot the scores of one column with their 95 % intervals over seeds."""
    rows = [row for row in rows if column.key in row.scores]
    said = _measured(column) + _interval_named(column, rows, "\nwhisker: 95 % interval over seeds")
    height = 0.34 * len(rows) + 0.8 + 0.15 * len(said.splitlines())
    figure, axes = panel(column.title, height, left=0.04, right=0.97, bottom=(0.31 + 0.15 * len(said.splitlines())))
    for y, row in enumerate(rows):
        score = row.scores[column.key]
        axes.barh(y + 0.2, score.mean, 0.28, color=looks[row.label].colour, alpha=0.55 if row.baseline else 1.0)
        if score.low is not None and score.high is not None:
            error = [[score.mean - score.low], [score.high - score.mean]]
            axes.errorbar(score.mean, y + 0.2, xerr=error, color=INK, linewidth=1.0, capsize=2.5)
        at = axes.get_yaxis_transform()
        text: dict[str, Any] = {"transform": at, "va": "center", "color": SOFT if row.baseline else INK}
        axes.text(0.0, y - 0.19, truncate(row.label, 30), ha="left", **text)
        axes.text(1.0, y - 0.19, format_score(score), ha="right", **text)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.axvline(0, color=AXIS, linewidth=0.7)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel(said)
    return figure


@styled
def score_against_cost(column: Column, rows: Sequence[Row], cost: str, looks: Mapping[str, Look]) -> Figure:
    """Plot a score against the cost of training: methods as points, the best baseline as a line.

    Args:
        column: the score.
        rows: methods and baselines.
        cost: `flops` or `seconds`.
        looks: by the label of a row.
    """
    methods = [row for row in rows if column.key in row.scores and cost in row.cost]
    name, unit = TRAINING[cost]
    height = max(HEIGHT, LINE * (len(methods) + 1) / POINTS + 0.85)
    figure, axes = panel(f"{truncate(column.title, 24)} against {unit}", height, right=0.66)
    labels: list[tuple[float, str, str, float | None]] = []
    for row in methods:
        score, spent = row.scores[column.key], row.cost[cost].mean
        drawn = looks[row.label]
        if score.low is not None and score.high is not None:
            axes.plot([spent, spent], [score.low, score.high], color=drawn.colour, linewidth=1.0)
        axes.plot(spent, score.mean, drawn.shape, color=drawn.colour, markersize=6, markeredgecolor=PAPER)
        labels.append((score.mean, truncate(row.label, 15), drawn.colour, spent))
    baselines = [row for row in rows if row.baseline and column.key in row.scores]
    if baselines and column.higher_is_better is not None:
        choose = max if column.higher_is_better else min
        best = choose(baselines, key=lambda row: row.scores[column.key].mean)
        level = best.scores[column.key].mean
        axes.axhline(level, color=BASELINE, linewidth=1.0, linestyle=(0, (4, 3)))
        labels.append((level, truncate(best.label, 15), BASELINE, None))
    axes.set_xscale("log")
    spent_by = [row.cost[cost].mean for row in methods]
    axes.set_xlim(min(spent_by) / 1.6, max(spent_by) * 1.6)
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 2.0, 3.0, 5.0), numticks=6))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / scale_of(value)[0]:g} {scale_of(value)[1]}")
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.margins(y=0.12)
    axes.set_xlabel(f"{name} ({unit}, log scale)")
    axes.set_ylabel(unit_of(column) + _interval_named(column, methods, "\nline: 95 % interval"))
    label_right(axes, height, labels)
    return figure


def label_right(axes: Axes, height: float, labels: Sequence[tuple[float, str, str, float | None]]) -> None:
    """Write names at the right of the axes, near the heights of their points, without overlaps, with lines to them."""
    low, high = axes.get_ylim()
    labels = sorted(labels, key=lambda label: label[0])
    gap = LINE / (axes.get_position().height * height * POINTS)
    for place, (value, name, colour, x) in zip(
        spread([(label[0] - low) / (high - low) for label in labels], gap), labels, strict=True
    ):
        point = (1.0 if x is None else x, (value - low) / (high - low) if x is None else value)
        axes.annotate(
            name,
            point,
            xycoords="axes fraction" if x is None else "data",
            xytext=(1.05, place),
            textcoords="axes fraction",
            color=INK,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 1, "shrinkB": 3},
        )


@styled
def best_of_trials(tuning: Tuning, looks: Mapping[str, Look]) -> Figure:
    """Plot the expected best validation score of n trials for each method, and its standard deviation as a band.

    Args:
        tuning: the search of settings.
        looks: by the label of a row; a method that is no row has the look of its place.
    """
    height = max(HEIGHT, LINE * (len(tuning.methods) + 1) / POINTS + 0.85)
    figure, axes = panel("Best validation score of n trials", height, right=0.66)
    labels: list[tuple[float, str, str, float | None]] = []
    for place, (name, method) in enumerate(tuning.methods.items()):
        if not (scores := method.scores(tuning.higher_is_better)):
            continue
        drawn = looks.get(method.method, look(place))
        mean, variance = expected_best(scores)
        deviation, n = np.sqrt(variance), range(1, len(scores) + 1)
        sign = 1 if tuning.higher_is_better else -1
        low, high = sign * (mean - deviation), sign * np.minimum(mean + deviation, max(scores))
        axes.fill_between(n, low, high, color=drawn.colour, alpha=0.15, linewidth=0)
        axes.plot(n, sign * mean, color=drawn.colour, linewidth=1.8)
        labels.append((sign * float(mean[-1]), truncate(name, 15), drawn.colour, None))
    axes.set_xlim(1, max(tuning.trials, 2))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
    axes.margins(y=0.12)
    axes.set_xlabel("trials")
    axes.set_ylabel(f"expected best {truncate(tuning.evaluator.replace('_', ' '), 24)}\nband: standard deviation")
    label_right(axes, height, labels)
    return figure


@styled
def embedding_map(title: str, shown: EmbeddingMap, classes: Sequence[str]) -> Figure:
    """Plot the test texts as a method places them, each class with a colour and a shape; classes beyond forty are grey.

    Args:
        title: the name of the method.
        shown: the points and their classes.
        classes: of all methods, in the order of their looks; points of class n form the group `class-n` in the SVG.
    """
    figure, axes = panel(
        f"{truncate(title, 20)}: {len(shown.points)} embedded texts", 3.4, left=0.09, bottom=0.37, top=0.31
    )
    for number, name in reversed(list(enumerate(classes))):
        x, y = shown.points[shown.labels == name].T
        drawn = look(number)
        points: dict[str, Any] = {"s": 20, "linewidths": 0.4, "edgecolors": PAPER, "alpha": 0.9}
        axes.scatter(x, y, color=drawn.colour, marker=drawn.shape, gid=f"class-{number}", **points)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("t-SNE axis 1 (no unit)")
    axes.set_ylabel("t-SNE axis 2 (no unit)")
    axes.margins(0.04)
    return figure


def panel(
    title: str,
    height: float = HEIGHT,
    left: float = 0.15,
    right: float = 0.97,
    bottom: float = 0.46,
    top: float = 0.32,
) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes.

    Args:
        title: at the top left.
        height: of the figure in inches.
        left, right: edges of the axes, as shares of the width.
        bottom, top: margins in inches.
    """
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_subplot()
    figure.subplots_adjust(left, bottom / height, right, 1 - top / height)
    heading = figure.suptitle(title, x=0.01, y=1 - 0.05 / height, ha="left", va="top", fontsize=10.0, fontweight="bold")
    width = heading.get_window_extent().width / figure.dpi
    heading.set_fontsize(10.0 * min(1.0, 0.97 * WIDTH / width))
    return figure, axes


def _measured(column: Column) -> str:
    better = {True: "; higher is better", False: "; lower is better", None: ""}[column.higher_is_better]
    return unit_of(column) + better


def unit_of(column: Column) -> str:
    """The unit of a score, in words."""
    return column.unit or "score, no unit"


def _interval_named(column: Column, rows: Sequence[Row], said: str) -> str:
    """Explanation of the intervals, if any are drawn."""
    return said if any(row.scores[column.key].low is not None for row in rows) else ""
