"""The model card: README.md with a YAML head, as the hub reads it."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from ssl_nlp import __version__
from ssl_nlp.comparison.costs import shown_costs
from ssl_nlp.comparison.intervals import result_interval
from ssl_nlp.comparison.numbers import format_number, format_quantity
from ssl_nlp.comparison.tasks import TASKS
from ssl_nlp.evaluation.record import read_record, read_suite
from ssl_nlp.evaluation.result import Result
from ssl_nlp.export.contents import Contents
from ssl_nlp.training.module import Module


@dataclass(frozen=True)
class Facts:
    """Facts about a model beside its weights.

    Attributes:
        name: of the run or checkpoint.
        digest: of the checkpoint's file.
        cost: of its training, as `evaluation.cost.cost` gives it.
        step: steps of its optimizer; None where they are unknown.
        config: the complete configuration of the run; empty where there is none.
        metrics: the validation at that step, or the last one before it, by name.
        validation: the metrics of a task on the validation split, as in `validation.json`, if they are of this checkpoint.
        test: those on the test split, as in `test.json`.
        record: path of its `evaluation.json`, which need not exist.
        language: of the texts, as on the hub (`en`), if known.
        license: as on the hub (`apache-2.0`).
    """

    name: str
    digest: str
    cost: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)
    record: Path | None = None
    language: str | None = None
    license: str = "unknown"


def model_card(module: Module, facts: Facts, contents: Contents, path: str) -> str:
    """The text of README.md. It has no text of a document, and of paths only their last part.

    Args:
        module: the model.
        facts: of its training.
        contents: of the folder.
        path: the folder's name or, if it is pushed, USER/MODEL on the hub, for the lines that load it.
    """
    head: dict[str, Any] = {"license": facts.license}
    if facts.language is not None:
        head["language"] = facts.language
    head |= {"library_name": contents.library, "pipeline_tag": contents.task}
    if (base := hub_name(module)) is not None:
        head["base_model"] = base
    head["tags"] = ["ssl_nlp"] if facts.step is None else ["ssl_nlp", type(module).__name__]
    parts = [
        f"# {facts.name}",
        f"{contents.summary} {_origin(module, facts)}",
        _use(contents, path),
        *(
            ["## Differences from the run\n\n" + "\n".join(f"- {note}" for note in contents.notes)]
            * bool(contents.notes)
        ),
        *(["## Weights of 8 bits\n\n" + "\n".join(contents.measured)] * bool(contents.measured)),
        "## Training\n\n" + "\n".join(_table(("", ""), list(_training(module, facts)))),
        *_ancestry(module),
        *evaluations(facts),
    ]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n" + "\n\n".join(parts) + "\n"


def _use(contents: Contents, path: str) -> str:
    name = path.rpartition("/")[2]
    before = "Run this in the directory that contains this folder:"
    if name != path and "{path}/" in contents.code:  # it opens a file, so the name on the hub does not do
        before = f"Run this beside a copy of this folder, from `hf download {path} --local-dir {name}`:"
        path = name
    elif name != path:
        before = "While the model is private, log in to the hub first (`hf auth login`):"
    code = contents.code.replace("{path}", path)
    return f"## Use\n\n{before}\n\n```python\n{code}\n```"


def _origin(module: Module, facts: Facts) -> str:
    if facts.step is None:
        return "The weights are those of a published model, unchanged."
    return f"Trained with `{type(module).__name__}` of ssl_nlp {__version__}: {objective(module)}"


def objective(module: Module) -> str:
    """The first paragraph of the documentation of a module's class, in one line."""
    return " ".join((inspect.getdoc(type(module)) or "").split("\n\n")[0].split())


def hub_name(module: Module) -> str | None:
    """The name on the hub of the published model that a module began with, if it began with one."""
    name = getattr(module.encoder, "name", None) if module.encoder.ancestry else None
    is_name = isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) and not Path(name).exists()
    return name if is_name else None


def _training(module: Module, facts: Facts) -> Iterator[tuple[str, str]]:
    yield (
        "encoder",
        f"{type(module.encoder).__name__}, width {module.encoder.dim}, {module.encoder.max_length:,} tokens",
    )
    for key, cost in shown_costs([facts.cost]).items():
        if key in facts.cost and key not in ("tokens_per_second", "peak_memory"):
            yield cost.name, format_quantity(facts.cost[key])
    if facts.step is not None:
        yield "steps", f"{facts.step:,}"
    yield from _data(facts.config)
    yield "tokenizer", _tokenizer(module)
    for name, number in facts.metrics.items():
        metric = name.removeprefix("val/")
        interval = facts.validation.get("interval") if metric == facts.validation.get("primary_metric") else None
        reach = "" if interval is None else f" (95 % interval {_spoken(interval)})"
        yield f"{metric} on the validation split", format_number(number) + reach
    yield "checkpoint (SHA-256)", f"`{facts.digest}`"


def _data(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Corpus and rows as the configuration has them, without folders of this machine."""
    data = config.get("data") or {}
    data = data.get("init_args", data)
    corpus = data.get("corpus") or {}
    if "class_path" in corpus:
        given = {k: v for k, v in (corpus.get("init_args") or {}).items() if v is not None}
        on_hub = "Hub" in corpus["class_path"]
        shown = ", ".join(f"{key} {_named(value, on_hub)}" for key, value in given.items())
        yield "data", f"{corpus['class_path'].rpartition('.')[2]}: {shown}"
    if "unit" in data:
        yield "rows", f"{_named(data['unit'])}, {data.get('length')} tokens, {data.get('batch_size')} a batch"


def _tokenizer(module: Module) -> str:
    """Kind and size of the tokenizer, read from itself: a run may have another one's, whatever its configuration says."""
    backend = json.loads(json.loads(module.tokenizer.serialize())["tokenizer"])
    kind = {"WordLevel": "words or characters"}.get(backend["model"]["type"], backend["model"]["type"])
    return f"{kind}, {module.tokenizer.vocab_size:,} entries"


def _named(value: Any, on_hub: bool = False) -> str:
    """A setting as text: a path by its last part, unless it is a name on the hub."""
    if isinstance(value, list | tuple):
        return " and ".join(_named(part, on_hub) for part in value)
    if isinstance(value, dict):
        value = value.get("class_path", "settings").rpartition(".")[2]
    text = str(value)
    on_hub = on_hub and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", text) is not None and not Path(text).exists()
    return text if on_hub or "://" in text else PurePath(text.replace("\\", "/")).name or text


def _ancestry(module: Module) -> Iterator[str]:
    if not module.encoder.ancestry:
        return
    rows = []
    for one in module.encoder.ancestry:
        lone = one["checkpoint"] if one["digest"] is None else PurePath(one["checkpoint"]).name
        steps = "" if one["step"] is None else f"{one['step']:,}"
        counts = (one["tokens"], one["flops"])
        numbers = [steps, *("" if count is None else format_quantity(count) for count in counts)]
        rows.append((one["run"] or _named(lone, on_hub=one["digest"] is None), one["method"] or "", *numbers))
    columns = ("run", "method", "steps", "tokens", "FLOPs")
    title = "## Ancestry\n\nWhere the encoder was trained before, the oldest first. The costs above include these.\n\n"
    yield title + "\n".join(_table(columns, rows))


def evaluations(facts: Facts) -> Iterator[str]:
    """The evaluations of this very checkpoint, each main number with its 95 % interval."""
    if facts.test:
        main, interval = facts.test["primary_metric"], facts.test.get("interval")
        metrics = [
            (name, format_number(score), "" if name != main or interval is None else _spoken(interval))
            for name, score in facts.test["metrics"].items()
        ]
        title = "## Evaluation: test split\n\nThe interval is over the test items.\n\n"
        yield title + "\n".join(_table(("metric", "score", "95 % interval"), metrics))
    if facts.record is None:
        return
    record = read_record(facts.record)
    for suite, entry in record.get("suites", {}).items():
        if entry.get("checkpoint", {}).get("digest") != facts.digest:
            continue
        found = read_suite(facts.record, suite)
        rows = [
            (_split(name, r), r.primary_metric, *_score(r), str(r.details.get("pooling", "")))
            for name, r in found.evaluators.items()
        ]
        columns = ("evaluation", "metric", "score", "95 % interval", "pooling")
        drawn = any(r.details.get("prompts", {}).get("shots") for r in found.evaluators.values())
        over = " and, where prompts have examples, over the draws of these" if drawn else ""
        title = (
            f"## Evaluation: suite {suite}, protocol {found.protocol}\n\nIntervals are over the test items{over}.\n\n"
        )
        yield title + "\n".join(_table(columns, rows))


def _split(name: str, result: Result) -> str:
    valid = result.details.get(TASKS, {}).get("split") == "valid"
    return f"{name} (validation split)" if valid else name


def _spoken(interval: Sequence[float]) -> str:
    return " to ".join(map(format_number, interval))


def _score(result: Result) -> tuple[str, str]:
    interval = result_interval(result)
    return format_number(result.primary), "" if interval is None else _spoken(interval)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
