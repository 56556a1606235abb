"""`evaluation.json`, and beside it what each test item contributed.

    {"protocol": 1, "method": ..., "loss_unit": ..., "checkpoint": {"file", "digest"}, "cost": {...},
     "suites": {SUITE: {"data": KEY, "checkpoint": {...}, "evaluators": {EVALUATOR: {...}},
                        "baselines": {BASELINE: {EVALUATOR: {...}}}}}}

where {...} of an evaluator holds `primary_metric`, `metrics`, `details` and, with items, `statistic`. The items are arrays
in `evaluation_items.npz`, called SUITE/EVALUATOR and SUITE/EVALUATOR/BASELINE. "data" is the same where the questions were.
The map of a labelled suite is there, too: SUITE/map holds points (N, 2), SUITE/map/labels their classes (N,).
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ssl_nlp import durable
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.embedding_map import EmbeddingMap
from ssl_nlp.evaluation.result import PROTOCOL, Array, Result


@dataclass(frozen=True)
class SuiteResult:
    """The answers to one suite.

    Attributes:
        data: the fingerprint of the suite.
        evaluators: results by evaluator.
        baselines: results by baseline and evaluator.
        map: of the embeddings, where texts of the suite are labelled.
    """

    data: str
    evaluators: dict[str, Result]
    baselines: dict[str, dict[str, Result]] = field(default_factory=dict)
    map: EmbeddingMap | None = None


def items_path(path: Path) -> Path:
    """Where the items of an `evaluation.json` are: `evaluation_items.npz`."""
    return path.with_name(path.name.removesuffix(".json") + "_items.npz")


def read_record(path: Path) -> dict[str, Any]:
    """The content of an `evaluation.json`; nothing where there is none.

    Raises:
        UserError: it is not one, or one of another version of the protocol.
    """
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        protocol = record["protocol"]
        record["suites"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not an evaluation: move it away and evaluate again") from error
    if protocol != PROTOCOL:
        raise UserError(
            f"{path} was written by protocol {protocol}, this is {PROTOCOL}: move it away and evaluate again"
        )
    return dict(record)


def read_items(path: Path) -> dict[str, Array]:
    """The items of an `evaluation.json` by SUITE/EVALUATOR[/BASELINE]; nothing where there are none.

    Raises:
        UserError: the file is broken.
    """
    file = items_path(path)
    if not file.exists():
        return {}
    try:
        with np.load(file) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is broken ({error!r}): move it away and evaluate again") from error


def lost_items(path: Path, suite: str) -> bool:
    """Whether answers to a suite were made up of items that are not there any more."""
    evaluators = read_record(path)["suites"][suite].get("evaluators", {})
    expected = {f"{suite}/{name}" for name, answer in evaluators.items() if "statistic" in answer}
    return not expected <= read_items(path).keys()


def read_suite(path: Path, suite: str) -> SuiteResult:
    """The answers to one suite in an `evaluation.json`.

    Raises:
        UserError: the file is broken, or has no such suite.
    """
    record, items = read_record(path), read_items(path)
    if suite not in record.get("suites", {}):
        raise UserError(f"{path} has no answers to the suite {suite}: run ssl-nlp evaluate first")
    entry = record["suites"][suite]

    def results(answers: dict[str, Any], *baseline: str) -> dict[str, Result]:
        keys = {name: "/".join((suite, name, *baseline)) for name in answers}
        return {name: Result.from_json(plain, items.get(keys[name])) for name, plain in answers.items()}

    baselines = {name: results(answers, name) for name, answers in entry["baselines"].items()}
    points, labels = items.get(f"{suite}/map"), items.get(f"{suite}/map/labels")
    drawn = None if points is None or labels is None else EmbeddingMap(points, labels)
    return SuiteResult(entry["data"], results(entry["evaluators"]), baselines, drawn)


def write_suite(path: Path, header: Mapping[str, Any], suite: str, result: SuiteResult) -> None:
    """Add the answers to one suite to an `evaluation.json`; those to other suites stay as they are.

    Args:
        path: the file; begun where there is none.
        header: `method`, `loss_unit`, `checkpoint` and `cost` of what was evaluated.
        suite: its name.
        result: the answers.
    """
    results = {(name, ""): r for name, r in result.evaluators.items()}
    results |= {(name, b): r for b, answers in result.baselines.items() for name, r in answers.items()}
    entry = {
        "data": result.data,
        "checkpoint": header["checkpoint"],
        "evaluators": {name: r.to_json() for name, r in result.evaluators.items()},
        "baselines": {b: {name: r.to_json() for name, r in answers.items()} for b, answers in result.baselines.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        for name in (path.name, items_path(path).name):
            durable.remove_unfinished(path.parent, name)
        record, items = read_record(path), read_items(path)
        items = {key: array for key, array in items.items() if not key.startswith(f"{suite}/")}
        for (name, baseline), answer in results.items():
            if answer.items is not None:
                items["/".join(filter(None, (suite, name, baseline)))] = answer.items
        if result.map is not None:
            items |= {f"{suite}/map": result.map.points, f"{suite}/map/labels": result.map.labels}
        suites = record.get("suites", {}) | {suite: entry}
        text = json.dumps({"protocol": PROTOCOL, **header, "suites": suites}, ensure_ascii=False)
        with durable.replacing(items_path(path)) as file:
            np.savez_compressed(file, **items)  # type: ignore[arg-type]  # the names of arrays, not of options
        durable.write_text(path, text + "\n")
