"""`report.html`: a comparison as one self-contained page, which opens from disk and fetches nothing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ssl_nlp import __version__, durable
from ssl_nlp.comparison import plots, score_curves, theme
from ssl_nlp.comparison.columns import FINE_TUNED
from ssl_nlp.comparison.costs import means, shown_costs
from ssl_nlp.comparison.excesses import excess_lines
from ssl_nlp.comparison.facts import facts
from ssl_nlp.comparison.numbers import format_level, format_number, format_quantity, format_score
from ssl_nlp.comparison.streams import heat_maps
from ssl_nlp.comparison.summary import summarise
from ssl_nlp.comparison.svg import inline_svg
from ssl_nlp.comparison.table import TIE, UNPROVEN, WEAK, WEAKLY_PROVEN, legend_of, missing_scores, place_of
from ssl_nlp.comparison.tuning import Tuning
from ssl_nlp.comparison.types import Column, Comparison, Row, Verdict
from ssl_nlp.comparison.verdicts import beats
from ssl_nlp.evaluation.embedding_map import EmbeddingMap
from ssl_nlp.evaluation.pooling import LEGEND as POOLINGS
from ssl_nlp.evaluation.pooling import mark
from ssl_nlp.evaluation.record import read_map

SHOWN_AGAINST_COST = 3  # the first scores of the table
SHOWN_SAMPLES = 4  # per method


@dataclass(frozen=True)
class Cell:
    """A number of the table: its text, its marks, and the differences behind them in words."""

    text: str
    best: bool = False
    tied: bool = False
    weak: bool = False
    unproven: bool = False
    weakly_proven: bool = False
    words: str = ""
    pooling: str = ""


def write_report(comparison: Comparison, path: Path) -> None:
    """Write the page, replacing an earlier one.

    Args:
        comparison: the comparison to show. Loss curves, samples and maps come from the folders of its runs.
        path: of the HTML file; its folder is created if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, render_page(comparison))


def render_page(comparison: Comparison) -> str:
    """Make the HTML of the page."""
    loader = PackageLoader("ssl_nlp.comparison", "templates")
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    methods = [row for row in comparison.rows if not row.baseline]
    maps = {row.label: shown for row in methods if (shown := _map(row, comparison.suite)) is not None}
    counts = Counter(str(label) for shown in maps.values() for label in shown.labels)
    classes = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    looks = plots.looks(comparison)
    cells = {row.label: [_cell(row, column) for column in comparison.columns] for row in comparison.rows}
    costs = [
        (cost.name, [format_quantity(row.cost[key].mean) if key in row.cost else "–" for row in methods])
        for key, cost in shown_costs([means(row) for row in methods]).items()
        if any(key in row.cost for row in methods)
    ]
    return environment.get_template("report.html").render(
        comparison=comparison,
        methods=methods,
        baselines=[row for row in comparison.rows if row.baseline],
        summary=summarise(comparison),
        facts=facts(comparison),
        cells=cells,
        headings=list(_headings(comparison)),
        excesses=list(excess_lines(comparison.rows)),
        looks=looks,
        seeds=max((score.n for row in methods for score in row.scores.values()), default=0),
        bars=list(_bars(comparison, looks)),
        losses={against: list(_losses(methods, against, looks)) for against in plots.PROGRESS},
        curves={against: list(_curves(comparison, against, looks)) for against in score_curves.AGAINST},
        against_cost=list(_against_cost(comparison, looks)),
        tuning=None if comparison.tuning is None else _tuning(comparison.tuning, looks),
        maps=[
            inline_svg(
                plots.embedding_map(label, shown, classes),
                f"map-{number}",
                f"Map of the embeddings of {label}: {len(shown.points)} test texts coloured by class",
            )
            for number, (label, shown) in enumerate(maps.items())
        ],
        classes=classes,
        class_looks=[plots.look(number) for number in range(len(classes))],
        faint=plots.FAINT,
        light=theme.variables(0),
        dark=theme.variables(1),
        themed=theme.with_variables,
        poolings=POOLINGS if any(row.poolings for row in comparison.rows) else "",
        missing=missing_scores(comparison),
        streams=heat_maps(methods),
        samples={row.label: texts for row in methods if (texts := [*_samples(row), *_drawn(row, comparison.suite)])},
        costs=costs,
        legend={sign: legend_of(comparison)[sign] for sign in (TIE, WEAK, UNPROVEN, WEAKLY_PROVEN)},
        configuration=comparison.configuration,
        version=__version__,
    )


def _headings(comparison: Comparison) -> Iterator[tuple[str, int]]:
    """Headings over the columns, with the number of columns below; none where all columns are of one kind."""
    places = Counter(map(place_of, comparison.columns))
    for (suite, group), number in places.items() if comparison.fine_tuned and len(places) > 1 else ():
        yield (group if group == FINE_TUNED else f"{group} ({suite})"), number


def _cell(row: Row, column: Column) -> Cell:
    score = row.scores.get(column.key)
    if score is None:
        return Cell("–", words=row.missing.get(column.key.rpartition("/")[0], "not evaluated"))
    verdict, over = row.ties.get(column.key), row.over_baseline.get(column.key)
    words = []
    if verdict is not None and not verdict.best:
        words.append(f"{_difference(verdict)} from the best method")
    if over is not None:
        words.append(f"{_difference(over)} from the best baseline")
    if pooling := row.pooling(column.key):
        words.append(f"pooling: {pooling}")
    if (validation := row.validation.get(column.key)) is not None:
        words.append(f"on validation items {format_number(validation)}")
    return Cell(
        format_score(score),
        best=verdict is not None and verdict.best,
        tied=verdict is not None and verdict.tie and not verdict.best and not row.baseline,
        weak=verdict is not None and not (verdict.best or verdict.tie or verdict.holds or row.baseline),
        unproven=over is not None and not beats(column, over),
        weakly_proven=over is not None and beats(column, over) and not over.holds,
        words="; ".join(words),
        pooling=mark(pooling),
    )


def _difference(verdict: Verdict) -> str:
    """The difference with its interval, and how much seeds may vary where that is not known."""
    low, high, sign = format_number(verdict.low), format_number(verdict.high), "+" if verdict.difference > 0 else ""
    limit = verdict.seeds_up_to
    holds = "" if limit is None else f", if seeds deviate by {format_number(limit)} or less"
    return f"{sign}{format_number(verdict.difference)} ({format_level(verdict.level)} interval {low} to {high}{holds})"


def _bars(comparison: Comparison, looks: dict[str, plots.Look]) -> Iterator[str]:
    for number, column in enumerate(comparison.columns):
        scores = [
            f"{row.label} {format_score(row.scores[column.key])}" for row in comparison.rows if column.key in row.scores
        ]
        drawn = plots.bars(column, comparison.rows, looks)
        level = " with 95 % intervals over seeds" if any("±" in score for score in scores) else ""
        yield inline_svg(drawn, f"bars-{number}", f"Bars of {column.title}{level}: {'; '.join(scores)}")


def _losses(methods: list[Row], against: str, looks: dict[str, plots.Look]) -> Iterator[str]:
    logged = plots.PROGRESS[against][0]
    ends = {
        row.label: max((m[logged] for run in row.runs for m in run.metrics if logged in m), default=0.0)
        for row in methods
    }
    for number, row in enumerate(methods):
        if ends[row.label]:
            drawn = plots.loss_curves(row, against, looks[row.label].colour, max(ends.values()))
            what = plots.PROGRESS[against][1]
            yield inline_svg(drawn, f"loss-{against}-{number}", f"Loss of {row.label} against {what}")


def _curves(comparison: Comparison, against: str, looks: dict[str, plots.Look]) -> Iterator[str]:
    methods = [row for row in comparison.rows if not row.baseline]
    drawn = [one for one in comparison.columns if score_curves.has_curves(methods, one.key, against)]
    for number, column in enumerate(drawn[:SHOWN_AGAINST_COST]):
        figure = score_curves.score_curves(column, comparison.rows, against, looks)
        what = score_curves.AGAINST[against]
        yield inline_svg(figure, f"curve-{against}-{number}", f"{column.title} during training against {what}")


def _against_cost(comparison: Comparison, looks: dict[str, plots.Look]) -> Iterator[str]:
    methods = [row for row in comparison.rows if not row.baseline]
    cost = next((key for key in plots.TRAINING if any(key in row.cost for row in methods)), None)
    if cost is None:
        return
    costly = [row for row in methods if cost in row.cost]
    scored = [one for one in comparison.columns if any(one.key in row.scores for row in costly)]
    for number, column in enumerate(scored[:SHOWN_AGAINST_COST]):
        drawn = plots.score_against_cost(column, comparison.rows, cost, looks)
        yield inline_svg(
            drawn, f"cost-{number}", f"{column.title} of each method against its {plots.TRAINING[cost][0]}"
        )


def _tuning(tuning: Tuning, looks: dict[str, plots.Look]) -> str:
    description = f"Expected best validation score of n trials of {', '.join(tuning.methods)}"
    return inline_svg(plots.best_of_trials(tuning, looks), "tuning", description)


def _map(row: Row, suite: str) -> EmbeddingMap | None:
    """Map of the first seed that has one."""
    return next((drawn for run in row.runs if (drawn := read_map(run.evaluation, suite)) is not None), None)


def _samples(row: Row) -> list[list[tuple[str, str]]]:
    """Samples that the first seed wrote at its last validation, as names and texts."""
    samples = row.runs[0].samples if row.runs else []
    last = max((sample["step"] for sample in samples), default=None)
    return [
        [(key.replace("_", " "), str(value)) for key, value in sample.items() if key != "step"]
        for sample in samples
        if sample["step"] == last
    ][:SHOWN_SAMPLES]


def _drawn(row: Row, suite: str) -> list[list[tuple[str, str]]]:
    """Sentences that the first seed has drawn in its evaluation, as names and texts."""
    evaluators = row.runs[0].record.get("suites", {}).get(suite, {}).get("evaluators", {}) if row.runs else {}
    sentences = [text for result in evaluators.values() for text in result.get("details", {}).get("drawn", [])]
    return [[("drawn", str(text))] for text in sentences[:SHOWN_SAMPLES]]
