"""A comparison in the terminal and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ssl_nlp import durable
from ssl_nlp.comparison.columns import FROZEN, GENERATION, LANGUAGE, PROMPTS
from ssl_nlp.comparison.costs import means, shown_costs
from ssl_nlp.comparison.facts import Fact, facts
from ssl_nlp.comparison.intervals import LEVEL
from ssl_nlp.comparison.items import without_items
from ssl_nlp.comparison.types import Column, Comparison, Estimate, Row, Verdict
from ssl_nlp.comparison.verdicts import beats
from ssl_nlp.evaluation.pooling import LEGEND as POOLINGS
from ssl_nlp.evaluation.pooling import mark

MOST_COLUMNS = 7  # that fit into 100 characters
LABEL_WIDTH = 15
BEST, TIE, WEAK, UNPROVEN, WEAKLY_PROVEN = "*", "≈", "~", "†", "‡"  # as in the report
LEGEND = {
    BEST: "the best method of the column",
    TIE: "a tie: the interval of its difference from the best, over test items and seeds, includes zero (95 % for all "
    "pairs of methods in the column at once)",
    WEAK: "worse than the best in this column alone, but not when all columns are corrected together (Holm, 5 %)",
    UNPROVEN: "not shown to be better than the best baseline of the column (95 % for all pairs with a baseline at once)",
    WEAKLY_PROVEN: "better than the best baseline in this column alone, but not when all columns are corrected together "
    "(Holm, 5 %)",
}
BM25 = "BM25"
SEARCHED = f"; {BM25} counts how rare words are in the documents that are searched, as every search engine does"
ADDED = {
    FROZEN: " (protocol {protocol})",
    LANGUAGE: ", lower is better; columns cannot be compared with each other",
    GENERATION: ", to be read beside held-out text; of reverse perplexity, lower is better",
}
FIELDS = (
    "suite", "row", "baseline", "seeds", "number", "items", "pooling", "mean", "low", "high", "n", "validation", "covered",
    "uncovered", "read", "best_difference", "best_low", "best_high", "verdict",
    "baseline_difference", "baseline_low", "baseline_high", "level", "best_level", "best_corrected_p", "best_seeds_up_to",
    "baseline_level", "baseline_corrected_p", "baseline_seeds_up_to", "text_train", "text_valid",
    "loss", "limit", "excess_standard_error", "excess_verdict",
)  # fmt: skip


def legend_of(comparison: Comparison) -> dict[str, str]:
    """The meaning of each mark."""
    beside = any(row.label.startswith(BM25) for row in comparison.rows if row.baseline)
    return LEGEND | {UNPROVEN: LEGEND[UNPROVEN] + SEARCHED} if beside else LEGEND


def render_tables(comparison: Comparison) -> Group:
    """Render inequalities, scores, likelihoods, costs, and the legend of the signs."""
    said = [Text(f"Not equal: {line}", style="yellow") for line in comparison.differences]
    noted = [Text(f"Note: {line}") for line in comparison.notes]
    tables = []
    for suite, group in dict.fromkeys(map(place_of, comparison.columns)):
        added = "" if comparison.fine_tuned else ADDED.get(group, "").format(protocol=comparison.protocol)
        parts = _parts([column for column in comparison.columns if place_of(column) == (suite, group)])
        tables += [_scores(comparison, part, f"{suite}: {group}{added}") for part in parts]
    what = "pretraining and fine-tuning" if comparison.fine_tuned else "training"
    tables.append(_cost([row for row in comparison.rows if not row.baseline], f"cost of {what}, per seed"))
    shown = {sign for row in comparison.rows for column in comparison.columns for sign in signs(row, column)}
    legend = [Text(f"{sign} {text}", style="dim") for sign, text in legend_of(comparison).items() if sign in shown]
    if any(row.poolings for row in comparison.rows):
        legend.append(Text(POOLINGS, style="dim"))
    legend += [Text(f"– {line}", style="dim") for line in missing_scores(comparison)]
    legend += [
        Text(f"{fact.name}: {_values(fact)}", style="dim") for fact in facts(comparison) if "digest" in fact.name
    ]
    if any(score.n > 1 for row in comparison.rows for score in row.scores.values()):
        legend.append(Text("± 95 % t-interval of the mean over the seeds of the row alone", style="dim"))
    return Group(*said, *tables, *legend, *noted)


def place_of(column: Column) -> tuple[str, str]:
    """The suite and the group of a column: columns that share both stand under one heading."""
    return column.key.partition("/")[0], column.group


def _values(fact: Fact) -> str:
    several = len(fact.values) > 1
    return "; ".join(f"{value} {', '.join(labels)}" if several else value for value, labels in fact.values.items())


def missing_scores(comparison: Comparison) -> list[str]:
    """Lines with the reason for each score that could not be measured."""
    lines = []
    for row in comparison.rows:
        for key, reason in row.missing.items():
            data, _, evaluator = without_items(key.rpartition("/")[2]).rpartition(".")
            lines.append(f"{row.label}, {data + ': ' if data else ''}{evaluator.replace('_', ' ')}: {reason}")
    return lines


def signs(row: Row, column: Column) -> str:
    """Signs of a cell, as in the legend."""
    verdict, over = row.ties.get(column.key), row.over_baseline.get(column.key)
    found = ""
    if verdict is not None and not row.baseline:
        found += BEST if verdict.best else TIE if verdict.tie else "" if verdict.holds else WEAK
    if over is not None:
        found += UNPROVEN if not beats(column, over) else "" if over.holds else WEAKLY_PROVEN
    return found


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write one line per number of each row: metrics and costs, with intervals, seeds, validation values and verdicts."""
    prompted = {column.key.rpartition("/")[0] for column in comparison.columns if column.group == PROMPTS}
    ends = {f"{place}/{end}" for place in prompted for end in ("low", "high")}  # of an interval over items and draws
    with io.StringIO(newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for row in comparison.rows:
            for number, estimate in {**row.scores, **{_number_of(key): cost for key, cost in row.cost.items()}}.items():
                suite = number.partition("/")[0] if number in row.scores else comparison.suite
                line = {"suite": suite, "row": row.label, "baseline": int(row.baseline), "number": number}
                line["seeds"] = (
                    "" if row.baseline else " ".join(str(run.seed) for run in row.runs if run.seed is not None)
                )
                line["pooling"] = row.pooling(number)
                line["items"] = row.items.get(number.rpartition("/")[0])
                for split in () if row.baseline else ("train", "valid"):
                    line[f"text_{split}"] = _one(run.text.get(split, "") for run in row.runs)
                line |= {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}
                line["validation"] = row.validation.get(number)
                line |= {"covered": row.covered.get(number), "uncovered": row.uncovered.get(number)}
                line["read"] = row.read.get(number)
                line["level"] = LEVEL if estimate.low is not None or number in ends else None
                if verdict := row.ties.get(number):
                    line |= _difference("best", verdict)
                    line["verdict"] = "best" if verdict.best else "tie" if verdict.tie else "different"
                if over := row.over_baseline.get(number):
                    line |= _difference("baseline", over)
                if excess := row.excesses.get(number):
                    line |= {"loss": excess.loss, "limit": excess.limit, "excess_verdict": excess.verdict}
                    line["excess_standard_error"] = excess.standard_error
                writer.writerow({name: _harmless(cell) for name, cell in line.items()})
        durable.write_text(path, file.getvalue())


def _number_of(cost: str) -> str:
    """The name of a cost in the file: seconds are called processor seconds."""
    return f"cost/{'processor_seconds' if cost == 'seconds' else cost}"


def _one(digests: Iterable[str]) -> str:
    """The digests that runs have, each once."""
    return " ".join(filter(None, dict.fromkeys(digests)))


def _difference(name: str, verdict: Verdict) -> dict[str, float | None]:
    """Cells on a difference; that of the best row from itself has no level."""
    found: dict[str, float | None] = {"difference": verdict.difference, "low": verdict.low, "high": verdict.high}
    if not verdict.best:
        found |= {"level": verdict.level, "corrected_p": verdict.corrected, "seeds_up_to": verdict.seeds_up_to}
    return {f"{name}_{key}": value for key, value in found.items()}


def _harmless(cell: object) -> object:
    """Make sure that a spreadsheet does not take a cell for a formula: text like one gets a leading apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _parts(columns: Sequence[Column]) -> list[Sequence[Column]]:
    """Split columns into as few tables as possible, of about the same width."""
    count = -(-len(columns) // MOST_COLUMNS)
    return [columns[n * len(columns) // count : (n + 1) * len(columns) // count] for n in range(count)]


def _scores(comparison: Comparison, columns: Sequence[Column], title: str) -> Table:
    table = Table(title=escape(title))
    table.add_column("", overflow="fold", min_width=LABEL_WIDTH)
    for column in columns:
        table.add_column(Text(column.title.replace(" ", "\n")), justify="right", vertical="bottom", no_wrap=True)
    methods = sum(not row.baseline for row in comparison.rows)
    for number, row in enumerate(comparison.rows):
        if not any(column.key in row.scores for column in columns):
            continue
        cells = [
            _cell(row.scores.get(column.key), signs(row, column) + mark(row.pooling(column.key))) for column in columns
        ]
        seeds = max(row.scores[column.key].n for column in columns if column.key in row.scores)
        name = Text(row.label + (f" ({seeds} seeds)" if seeds > 1 else ""))
        table.add_row(name, *cells, style="dim" if row.baseline else None, end_section=number == methods - 1)
    return table


def _cell(estimate: Estimate | None, marks: str) -> Text:
    if estimate is None:
        return Text("–")
    shown = f"{estimate.mean:.3f}" if abs(estimate.mean) < 10 else f"{estimate.mean:.1f}"
    text = Text(shown + marks.ljust(1), style="bold" if marks[:1] in (BEST, TIE) and marks else "")
    if estimate.high is not None:
        text.append(f"\n±{estimate.high - estimate.mean:.3f} ", style="dim not bold")
    return text


def _cost(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=title)
    table.add_column("", overflow="fold", min_width=LABEL_WIDTH)
    costs = shown_costs([means(row) for row in rows])
    for cost in costs.values():
        table.add_column(cost.title.replace(" ", "\n"), justify="right", vertical="bottom", no_wrap=True)
    for row in rows:
        cells = [f"{row.cost[key].mean / cost.unit:,.4g}" if key in row.cost else "–" for key, cost in costs.items()]
        table.add_row(Text(row.label), *cells)
    return table
