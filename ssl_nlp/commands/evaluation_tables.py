"""The tables that `evaluate` prints: embeddings beside baselines, prompts, drawn texts, language models, costs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ssl_nlp.commands.models import Target
from ssl_nlp.comparison.costs import shown_costs
from ssl_nlp.comparison.intervals import result_interval
from ssl_nlp.corpora.digests import SHORT
from ssl_nlp.evaluation import PROTOCOL, Result
from ssl_nlp.evaluation.classification import DOUBTS
from ssl_nlp.evaluation.excerpts import ALL
from ssl_nlp.evaluation.excess import Excess
from ssl_nlp.evaluation.language_modelling import NAMES as KINDS
from ssl_nlp.evaluation.pooling import mark
from ssl_nlp.evaluation.prompts import NAMES
from ssl_nlp.evaluation.record import SuiteResult
from ssl_nlp.evaluation.result import OVERLAP_WITH

MOST_FIELDS = 6  # of grammar, in the table of minimal pairs; more have a table of their own


def tables(suite: str, targets: Sequence[Target], results: Sequence[SuiteResult], width: int) -> list[Table]:
    """Embeddings beside baselines, in as many tables as `width` columns of text need; language modelling; cost."""
    rows: list[tuple[str, Mapping[str, Result]]] = []
    for target, result in zip(targets, results, strict=True):
        rows.append((target.name, result.evaluators))
    seen: set[int] = set()
    for target, result in zip(targets, results, strict=True):
        for baseline, found in result.baselines.items():
            if found and id(found) not in seen:  # those that targets share
                seen.add(id(found))
                several = len({id(other.baselines.get(baseline)) for other in results}) > 1
                rows.append((f"{baseline} ({target.name})" if several else baseline, found))
    shown = _scores(suite, rows, len(targets), width)
    prompts = [(name, key, r) for name, found in rows for key, r in found.items() if "prompts" in r.details]
    if prompts:
        shown.append(_prompts(suite, prompts))
    if pairs := [(name, key, r) for name, found in rows for key, r in found.items() if "minimal_pairs" in r.details]:
        shown += pairs_tables(suite, pairs)
    generated: dict[str, list[tuple[str, Result]]] = {}  # by evaluator
    for name, found in rows:
        for key, r in found.items():
            if {"generation", "outputs"} & r.details.keys():
                generated.setdefault(key, []).append((name, r))
    shown += [_generation(suite, key.rpartition(".")[0], some) for key, some in generated.items()]
    language = [(name, r) for name, found in rows for r in found.values() if "kind" in r.details]
    if exact := [(name, r) for name, r in language if "limits" in r.details]:
        shown.append(limits_table(suite, exact))
    elif language:
        shown.append(language_table(suite, language))
    return [*shown, _cost(targets)]


def remarks(targets: Sequence[Target], results: Sequence[SuiteResult]) -> Iterator[str]:
    """Lines beside the tables: doubtful probes, items in training text, unknown words, cut texts, what is missing."""
    yield from dict.fromkeys(_doubts(targets, results))
    for target, result in zip(targets, results, strict=True):
        cut: dict[str, list[str]] = {}  # evaluators by the share that is read
        for name, one in result.evaluators.items():
            if one.covered:
                without = "" if one.uncovered is None else f"; {one.uncovered:.3f} without these"
                part = f" (of which the {one.details[OVERLAP_WITH]} were read)" if OVERLAP_WITH in one.details else ""
                share = f"covers every word of {one.covered:.1%} of the items{without}"
                yield f"{target.name}, {name}: training text{part} {share}"
            if one.metrics.get("coverage", 1.0) < 1.0:
                yield (f"{target.name}, {name}: knows the words of {one.metrics['coverage']:.1%}, and only these count")
            if one.read is not None and one.read < ALL:
                cut.setdefault(f"{one.read:.1%}", []).append(name)
        for share, names in cut.items():
            yield f"{target.name}, {', '.join(names)}: the encoder cuts texts and reads {share} of their characters"
        for name, reason in result.missing.items():
            yield f"{target.name}, {name}: {reason}"
        digests = {"evaluation items": result.data} | {f"{split} text": key for split, key in target.text.items()}
        yield f"{target.name}, digests: {', '.join(f'{what} {key[:SHORT]}' for what, key in digests.items())}"


def _doubts(targets: Sequence[Target], results: Sequence[SuiteResult]) -> Iterator[str]:
    """A line for each probe that may be wrong, by one of `DOUBTS`; baselines may share lines."""
    for target, result in zip(targets, results, strict=True):
        for model, found in {target.name: result.evaluators, **result.baselines}.items():
            for name, one in found.items():
                for reason, numbers in DOUBTS.items():
                    for value in numbers(one):
                        yield f"{model}, {name}: {reason} ({value:.3g})"


def _scores(suite: str, rows: Sequence[tuple[str, Mapping[str, Result]]], targets: int, width: int) -> list[Table]:
    metrics = {
        name: r.primary_metric
        for _, found in rows
        for name, r in found.items()
        if not {"kind", "prompts", "generation", "outputs", "minimal_pairs"} & r.details.keys()
    }
    parts: list[dict[str, list[str]]] = []  # of the columns: evaluator -> the lines of its title
    room = 0
    for name, metric in metrics.items():
        title = [*name.split("."), metric]
        wide = max(map(len, [*title, "-0.000"])) + 3
        if wide > room:
            parts.append({})
            room = width - max(len(name) for name, _ in rows) - 4
        parts[-1][name] = title
        room -= wide
    shown = []
    for part in parts:
        table = Table(title=f"{escape(suite)}: frozen embeddings (protocol {PROTOCOL})")
        table.add_column("", overflow="fold")
        for title in part.values():
            table.add_column(Text("\n".join(title)), justify="right", vertical="bottom", no_wrap=True)
        for number, (name, found) in enumerate(rows):
            if number >= targets and part.keys().isdisjoint(found):
                continue  # a baseline of language models
            cells = [_cell(found.get(e)) for e in part]
            style = "bold" if number < targets else "dim"
            table.add_row(Text(name), *cells, style=style, end_section=number == targets - 1)
        shown.append(table)
    return shown


def _prompts(suite: str, rows: Sequence[tuple[str, str, Result]]) -> Table:
    """One row for each model and number of examples: the main number with its interval, and the three uncalibrated ones."""
    table = Table(title=f"{escape(suite)}: prompts, without training")
    for column in ("", "task", "metric", "score", "95 %", *NAMES.values(), "examples_cut", "prompts_cut"):
        left = column in ("", "task", "metric")
        table.add_column(column if left else column.replace("_", "\n"), justify="left" if left else "right")
    for name, task, result in rows:
        known = result.metrics
        interval = result_interval(result)
        reach = "–" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"
        cut = [f"{known[name]:.0%}" if name in known else "–" for name in ("examples_cut", "prompts_cut")]
        numbers = [f"{known[metric]:.3f}" for metric in NAMES.values()]
        cells = [Text(name), task, result.primary_metric, f"{result.primary:.3f}", reach, *numbers, *cut]
        table.add_row(*cells)
    return table


def _cell(result: Result | None) -> str:
    return "–" if result is None else f"{result.primary:.3f} {mark(result.details.get('pooling', ''))}".rstrip()


def pairs_tables(suite: str, rows: Sequence[tuple[str, str, Result]]) -> list[Table]:
    """Accuracies on minimal pairs, one row for each model and kind of score. Many fields of grammar fill a second table.

    Intervals are over pairs, and belong to the accuracy by a model's first kind of score.
    """
    fields = sorted({field for *_, r in rows for one in r.details["minimal_pairs"].values() for field in one["fields"]})
    beside = fields if len(fields) <= MOST_FIELDS else []
    table = Table(title=f"{escape(suite)}: minimal pairs, means over paradigms")
    for column in ("", "task", "by", "accuracy", "95 %", "per token", *beside):
        table.add_column(column.replace("_", "\n"), justify="left" if column in ("", "task", "by") else "right")
    for name, task, result in rows:
        interval = result_interval(result)
        for place, (kind, numbers) in enumerate(result.details["minimal_pairs"].items()):
            cells = [_share(numbers.get("accuracy"))]
            cells.append("–" if place or interval is None else f"{interval[0]:.1%}–{interval[1]:.1%}")
            cells.append(_share(numbers.get("accuracy_per_token")))
            cells += [_field_share(numbers, field) for field in beside]
            table.add_row(Text(name), task.rpartition(".")[0], kind, *cells)
    return [table] if beside else [table, _fields_table(suite, rows, fields)]


def _fields_table(suite: str, rows: Sequence[tuple[str, str, Result]], fields: Sequence[str]) -> Table:
    """Accuracies on minimal pairs, one row for each field of grammar, one column for each model and kind of score."""
    table = Table("field", title=f"{escape(suite)}: accuracy by field of grammar")
    scored: list[Mapping[str, Any]] = []
    for name, task, result in rows:
        for kind, numbers in result.details["minimal_pairs"].items():
            table.add_column(Text(f"{name}\n{task.rpartition('.')[0]}\n{kind}"), justify="right")
            scored.append(numbers)
    for field in fields:
        table.add_row(field.replace("_", " "), *(_field_share(numbers, field) for numbers in scored))
    return table


def _field_share(numbers: Mapping[str, Any], field: str) -> str:
    """The accuracy on one field of grammar, as text."""
    return _share(numbers["fields"].get(field, {}).get("accuracy"))


def _share(number: float | None) -> str:
    return "–" if number is None else f"{number:.1%}"


def language_table(suite: str, rows: Sequence[tuple[str, Result]]) -> Table:
    """One row for each model and kind of likelihood."""
    table = Table(title=f"{escape(suite)}: language modelling; kinds cannot be compared with each other")
    for column in ("", "kind", "nats per token", "perplexity", "bits per byte"):
        table.add_column(column, justify="right" if column not in ("", "kind") else "left")
    for name, result in rows:
        for kind, form in KINDS.items():
            names = [form.format(metric) for metric in ("loss", "perplexity", "bits_per_byte")]
            if result.metrics.keys() >= set(names):
                table.add_row(Text(name), kind, *(f"{result.metrics[metric]:,.3f}" for metric in names))
    return table


def limits_table(suite: str, rows: Sequence[tuple[str, Result]]) -> Table:
    """One row for each model and kind of likelihood."""
    table = Table(title=f"{escape(suite)}: nats per word, beside the least possible")
    for column in ("", "kind", "loss", "limit", "excess", "standard error", "gap closed", "verdict"):
        table.add_column(column, justify="right" if column not in ("", "kind", "verdict") else "left")
    for name, result in rows:
        for kind, numbers in result.details["limits"].items():
            excess = Excess.from_json(numbers)
            cells = (excess.loss, excess.limit, excess.nats, excess.standard_error)
            shown = [f"{number:.4f}" for number in cells]
            closed = "–" if excess.gap_closed is None else f"{excess.gap_closed:.1%}"
            table.add_row(Text(name), kind, *shown, closed, excess.verdict)
    return table


def _generation(suite: str, data: str, rows: Sequence[tuple[str, Result]]) -> Table:
    details = rows[0][1].details
    if "generation" in details:
        numbers = sorted({r.details["generation"]["sentences"] for _, r in rows})
        what = f"drawn sentences, beside {data}" if data else "drawn sentences"
    else:
        numbers, what = [details["texts"]], f"texts written from those of {data}"
    table = Table(title=escape(f"{suite}: {' or '.join(f'{n:,}' for n in numbers)} {what}"))
    table.add_column("")
    for metric in rows[0][1].metrics:
        table.add_column(metric.replace("_", "\n"), justify="right", vertical="bottom")
    for name, result in rows:
        table.add_row(Text(name), *(f"{value:,.3f}" for value in result.metrics.values()))
    return table


def _cost(targets: Sequence[Target]) -> Table:
    table = Table(title="cost of training")
    table.add_column("")
    costs = shown_costs([target.header["cost"] for target in targets])
    for cost in costs.values():
        table.add_column(cost.title, justify="right")
    for target in targets:
        numbers = target.header["cost"]
        cells = [f"{numbers[key] / cost.unit:,.4g}" if key in numbers else "–" for key, cost in costs.items()]
        table.add_row(Text(target.name), *cells)
    return table
