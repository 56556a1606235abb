"""How scores grow in training: those of the checkpoints that runs have kept and `evaluate --every` has evaluated."""

from collections.abc import Mapping, Sequence

import matplotlib.ticker
from matplotlib.figure import Figure

from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.items import without_items
from ssl_nlp.comparison.numbers import scale_of, truncate
from ssl_nlp.comparison.plots import HEIGHT, LINE, POINTS, Look, label_right, panel, styled, unit_of
from ssl_nlp.comparison.types import Column, Row
from ssl_nlp.evaluation.record import read_record

AGAINST = {"tokens": "tokens seen", "flops": "FLOPs spent", "seconds": "processor seconds"}
NAMES = {"flops": "FLOPs", "seconds": "processor seconds"}

Curve = Sequence[tuple[float, float]]
"""Points in order of cost: what the training had spent so far, and the score."""


def score_curve(run: ComparedRun, key: str, against: str) -> Curve:
    """The score of each kept checkpoint of a run, and of its last one, against what they had cost.

    Args:
        run: whose checkpoints were kept.
        key: of the score, SUITE/EVALUATOR/METRIC.
        against: `tokens`, `flops` or `seconds`.
    """
    suite, _, rest = key.partition("/")
    name, _, metric = rest.rpartition("/")
    name = without_items(name)
    last = run.record.get("suites", {}).get(suite, {})
    kept = map(read_record, (run.folder / "checkpoints").glob("step-*.evaluation.json"))
    points = {}
    for record in (*kept, run.record):
        entry = record.get("suites", {}).get(suite, {})
        same = all(entry.get(fact) == last.get(fact) for fact in ("data", "protocol"))
        score = entry.get("evaluators", {}).get(name, {}).get("metrics", {}).get(metric)
        if same and score is not None and against in record.get("cost", {}):
            points[float(record["cost"][against])] = float(score)
    return sorted(points.items())


@styled
def score_curves(column: Column, rows: Sequence[Row], against: str, looks: Mapping[str, Look]) -> Figure:
    """Plot a score during training, a line for each seed of a method, and the best baseline as a dashed line.

    Args:
        column: the score.
        rows: methods and baselines.
        against: `tokens`, `flops` or `seconds`.
        looks: by the label of a row.
    """
    curves = {row.label: found for row in rows if (found := _curves(row, column.key, against))}
    height = max(HEIGHT, LINE * (len(curves) + 1) / POINTS + 0.85)
    figure, axes = panel(f"{truncate(column.title, 24)} against {NAMES.get(against, against)}", height, right=0.66)
    labels: list[tuple[float, str, str, float | None]] = []
    for label, several in curves.items():
        drawn = looks[label]
        for curve in several:
            axes.plot(*zip(*curve, strict=True), color=drawn.colour, marker=drawn.shape, markersize=3.5, linewidth=1.4)
        end, score = max(several[0])
        labels.append((score, truncate(label, 15), drawn.colour, end))
    baselines = [row for row in rows if row.baseline and column.key in row.scores]
    if baselines and column.higher_is_better is not None:
        choose = max if column.higher_is_better else min
        best = choose(baselines, key=lambda row: row.scores[column.key].mean)
        level = best.scores[column.key].mean
        axes.axhline(level, color=looks[best.label].colour, linewidth=1.0, linestyle=(0, (4, 3)))
        labels.append((level, truncate(best.label, 15), looks[best.label].colour, None))
    limit = max(x for several in curves.values() for curve in several for x, _ in curve)
    scale, _, word = scale_of(limit)
    axes.set_xlim(0, limit * 1.04)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / scale:g}")
    axes.set_xlabel(f"{AGAINST[against]} ({word})" if word else AGAINST[against])
    axes.set_ylabel(unit_of(column))
    label_right(axes, height, labels)
    return figure


def has_curves(rows: Sequence[Row], key: str, against: str) -> bool:
    """Whether there is a line to draw."""
    return any(_curves(row, key, against) for row in rows)


def _curves(row: Row, key: str, against: str) -> list[Curve]:
    """The curve of each seed that has two points or more; none of a row that is not in the column."""
    if row.baseline or key not in row.scores:
        return []
    return [found for run in row.runs if len(found := score_curve(run, key, against)) > 1]
