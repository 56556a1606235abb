"""Facts about the methods for the head of the report: corpus, tokenizer, encoder, start, budget, seeds and costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_nlp.comparison.columns import FROZEN
from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.comparison.configuration import STARTED
from ssl_nlp.comparison.costs import COSTS, Gap, gaps
from ssl_nlp.comparison.numbers import format_quantity
from ssl_nlp.comparison.types import Comparison, Row
from ssl_nlp.corpora.digests import SHORT


@dataclass(frozen=True)
class Fact:
    """One property of the methods.

    Attributes:
        name: of the property, such as `corpus`.
        values: value -> the methods that have it; a single value holds for all of them.
    """

    name: str
    values: dict[str, list[str]]


def facts(comparison: Comparison) -> list[Fact]:
    """Facts for the head of the report; properties that no method has are left out."""
    methods = [row for row in comparison.rows if not row.baseline]
    described, how = _DESCRIBED, f"suite {comparison.suite}, protocol {comparison.protocol}"
    items = ", ".join(f"{digest} ({name})" for name, digest in comparison.items.items())
    if comparison.fine_tuned:  # `start` says what the tokenizer and the encoder are
        described = {name: way for name, way in _DESCRIBED.items() if name not in ("tokenizer", "encoder")}
        which = "best checkpoint by validation"
        if any((run.folder / "continual.json").exists() for row in methods for run in row.runs):
            which += " (of a training on parts, the last one)"
        how = f"{which}, on the test split of each task"
        if suites := {column.key.partition("/")[0] for column in comparison.columns if column.group == FROZEN}:
            how += f"; frozen embeddings of the pretrained runs on {' and '.join(sorted(suites))}"
    found = [_fact(name, describe, methods) for name, describe in described.items()]
    evaluation = [Fact("evaluation", {how: []}), *([Fact("evaluation items (digest)", {items: []})] if items else [])]
    found = [fact for fact in found if fact.values and [*fact.values] != ["new weights"]]
    return [*found, *map(_gap, gaps(methods)), *evaluation]


def _gap(gap: Gap) -> Fact:
    """Fact on the cheapest and the most expensive method."""
    name = COSTS[gap.cost].name
    least, most = (f"{format_quantity(row.cost[gap.cost].mean)} {name}" for row in (gap.least, gap.most))
    return Fact(
        f"{name} of training", {least: [gap.least.label], f"{most}, {gap.times} times as many": [gap.most.label]}
    )


def _fact(name: str, describe: Callable[[ComparedRun], str], methods: Sequence[Row]) -> Fact:
    values: dict[str, list[str]] = {}
    for row in methods:
        said = list(dict.fromkeys(filter(None, map(describe, row.runs))))
        if said:
            values.setdefault(", ".join(said), []).append(row.label)
    return Fact(name, values)


def spell(node: Any) -> str:
    """Write a part of a configuration in one line, without null values.

    >>> spell({"class_path": "ssl_nlp.encoders.Transformer", "init_args": {"size": "tiny", "dim": None, "causal": True}})
    'Transformer (size tiny, causal true)'
    """
    if isinstance(node, Mapping) and "class_path" in node:
        inside = spell(node.get("init_args") or {})
        name = str(node["class_path"]).rsplit(".", 1)[-1]
        return f"{name} ({inside})" if inside else name
    if isinstance(node, Mapping):
        return ", ".join(f"{key} {spell(value)}" for key, value in node.items() if value is not None)
    if isinstance(node, list):
        return ", ".join(map(spell, node))
    return str(node).lower() if isinstance(node, bool) else str(node)


def _part(*path: str) -> Callable[[ComparedRun], str]:
    def describe(run: ComparedRun) -> str:
        node: Any = run.config
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
        return "" if node is None else spell(node)

    return describe


def _made(describe: Callable[[ComparedRun], str]) -> Callable[[ComparedRun], str]:
    """The description, except of a run that has tokenizer and encoder from another one: its own settings are not used."""
    encoder = _part("model", "init_args", "encoder", "class_path")
    return lambda run: "that of its start" if encoder(run).rpartition(".")[2] == STARTED else describe(run)


def shown_text(run: ComparedRun) -> str:
    """The beginnings of the digests of the text that a run was trained on; empty if they are not known."""
    return ", ".join(f"{digest[:SHORT]} ({split})" for split, digest in sorted(run.text.items()))


def _batches(run: ComparedRun) -> str:
    data = (run.config.get("data") or {}).get("init_args") or {}
    kept = {key: data[key] for key in ("unit", "length", "batch_size") if key in data}
    return spell(kept).replace("_", " ")


def _budget(run: ComparedRun) -> str:
    cost = run.record.get("cost", {})
    tokens, read = cost.get("tokens"), cost.get("tokens_read")
    steps = max((int(row["step"]) for row in run.metrics), default=0)
    before = cost.get("ancestor_tokens") if tokens else None
    inherited = f" ({format_quantity(before)} of them by its ancestors)" if before else ""
    parts = [f"{format_quantity(tokens)} tokens{inherited}"] if tokens else []
    parts += [f"{format_quantity(read)} tokens read"] if read and read != tokens else []
    return ", ".join([*parts, *([f"{steps:,} steps"] if steps else [])])


_DESCRIBED: dict[str, Callable[[ComparedRun], str]] = {
    "corpus": _part("data", "init_args", "corpus"),
    "text (digest)": shown_text,
    "tokenizer": _made(_part("data", "init_args", "tokenizer")),
    "encoder": _made(_part("model", "init_args", "encoder")),
    "start": lambda run: run.start if run.config else "",
    "batches": _batches,
    "budget": _budget,
    "seeds": lambda run: "" if run.seed is None else str(run.seed),
}
