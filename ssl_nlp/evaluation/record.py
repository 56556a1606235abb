"""`evaluation.json`, and beside it the contribution of each test item.

    {"protocol": 6, "method": ..., "loss_unit": ..., "checkpoint": {"file", "digest"}, "text": {SPLIT: DIGEST},
     "cost": {...}, "ancestry": [...],
     "suites": {SUITE: {"protocol": 6, "data": KEY, "items": {EVALUATOR: DIGEST}, "checkpoint": {...},
                        "evaluators": {EVALUATOR: {...}}, "missing": {EVALUATOR: REASON},
                        "baselines": {BASELINE: {EVALUATOR: {...}}}}}}

where {...} of an evaluator holds `primary_metric`, `metrics`, `details`; with validation items, the primary metric on them
as `validation`; with test items, `statistic`; and where training text is known, the share of the items that it covers and
the primary metric of the others as `covered` and `uncovered`. `read` is the share of the characters of its texts that the
encoder reads. The items are arrays in `evaluation_items.npz`, called SUITE/EVALUATOR and SUITE/EVALUATOR/BASELINE, and
their overlap with training text is SUITE/EVALUATOR/overlap, which baselines share; what items have in common is
SUITE/EVALUATOR/groups, also of baselines. "text" is what the model was trained on
(`ssl_nlp.corpora.digests`), "items" the items and settings of each evaluator. Where "data" is equal, so are all of these.
The map of a labelled suite is there, too: SUITE/map holds points (N, 2), SUITE/map/labels their classes (N,).

"protocol" of a suite is the version that its numbers follow; if it is missing, that of the file holds for all suites.
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

OVERLAP, GROUPS = "overlap", "groups"


@dataclass(frozen=True)
class SuiteResult:
    """The numbers of one model on one suite.

    Attributes:
        data: the fingerprint of the suite.
        digests: of the items and settings of each evaluator; records of earlier versions have none.
        evaluators: results by evaluator.
        baselines: results by baseline and evaluator.
        map: of the embeddings, if texts of the suite are labelled.
        missing: for evaluators without a result, the reason.
        protocol: the version of the evaluation protocol.
    """

    data: str
    evaluators: dict[str, Result]
    baselines: dict[str, dict[str, Result]] = field(default_factory=dict)
    map: EmbeddingMap | None = None
    missing: dict[str, str] = field(default_factory=dict)
    protocol: int = PROTOCOL
    digests: dict[str, str] = field(default_factory=dict)


def record_beside(checkpoint: Path) -> Path:
    """The path of the numbers of a checkpoint by itself."""
    return checkpoint.with_name(f"{checkpoint.stem}.evaluation.json")


def items_path(path: Path) -> Path:
    """The path of the items of an `evaluation.json`: `evaluation_items.npz`."""
    return path.with_name(path.name.removesuffix(".json") + "_items.npz")


def read_record(path: Path) -> dict[str, Any]:
    """The content of an `evaluation.json`; empty if there is none.

    Raises:
        UserError: it is something else, or was written by a later version of the protocol.
    """
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        newer = record["protocol"] > PROTOCOL
        for entry in record["suites"].values():
            if isinstance(entry, dict):
                entry.setdefault("protocol", record["protocol"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not an evaluation: move it away and evaluate again") from error
    if newer:
        raise UserError(
            f"{path} was written by protocol {record['protocol']}, and this ssl_nlp knows {PROTOCOL}: update it, or move "
            "the file away and evaluate again"
        )
    return dict(record)


def read_items(path: Path) -> dict[str, Array]:
    """The items of an `evaluation.json` by SUITE/EVALUATOR[/BASELINE]; empty if there are none.

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
    """Whether results of a suite had items that are no longer there."""
    evaluators = read_record(path)["suites"][suite].get("evaluators", {})
    expected = {f"{suite}/{name}" for name, plain in evaluators.items() if "statistic" in plain}
    return not expected <= read_items(path).keys()


def read_suite(path: Path, suite: str) -> SuiteResult:
    """The numbers on one suite in an `evaluation.json`.

    Raises:
        UserError: the file is broken, or has no such suite.
    """
    record, items = read_record(path), read_items(path)
    if suite not in record.get("suites", {}):
        raise UserError(f"{path} has no results on the suite {suite}: run ssl-nlp evaluate first")
    entry = record["suites"][suite]

    def results(plain: dict[str, Any], *baseline: str) -> dict[str, Result]:
        return {
            name: Result.from_json(one, *_checked(path, items, f"{suite}/{name}", *baseline))
            for name, one in plain.items()
        }

    baselines = {name: results(plain, name) for name, plain in entry["baselines"].items()}
    drawn = _map(items, suite)
    missing = dict(entry.get("missing", {}))
    found, digests = results(entry["evaluators"]), dict(entry.get("items", {}))
    return SuiteResult(entry["data"], found, baselines, drawn, missing, entry["protocol"], digests)


def _checked(path: Path, items: Mapping[str, Array], place: str, *baseline: str) -> list[Array | None]:
    """The items of a result, their overlap and their groups, as far as they are recorded.

    Args:
        path: of the record.
        items: arrays by name.
        place: SUITE/EVALUATOR.
        baseline: its name, if the result is of a baseline.

    Raises:
        UserError: they are no numbers, or do not belong together.
    """
    key = "/".join((place, *baseline))
    own, overlap, groups = items.get(key), items.get(f"{place}/{OVERLAP}"), items.get(f"{key}/{GROUPS}")
    size = 0 if own is None or own.ndim == 0 else len(own)
    right = own is None or (own.dtype.kind in "biuf" and own.ndim in (1, 2))
    if own is None or (baseline and overlap is not None and overlap.shape != (size,)):
        overlap = None  # recorded for the items of another model or baseline
    right &= overlap is None or (overlap.dtype.kind == "f" and overlap.shape == (size,))
    right &= groups is None or (groups.dtype.kind in "iu" and groups.shape in ((size, 1), (size, 2)))
    if not right:
        raise UserError(f"{items_path(path)} is broken (the items of {key}): move it away and evaluate again")
    return [own, overlap, groups]


def read_map(path: Path, suite: str) -> EmbeddingMap | None:
    """The map of a suite beside an `evaluation.json`, if there is one."""
    return _map(read_items(path), suite)


def _map(items: Mapping[str, Array], suite: str) -> EmbeddingMap | None:
    points, labels = items.get(f"{suite}/map"), items.get(f"{suite}/map/labels")
    return None if points is None or labels is None else EmbeddingMap(points, labels)


def write_suite(path: Path, header: Mapping[str, Any], suite: str, result: SuiteResult) -> None:
    """Add the numbers on one suite to an `evaluation.json`; those on other suites stay as they are.

    Args:
        path: the file; created if there is none.
        header: `method`, `loss_unit`, `checkpoint`, `text`, `cost` and `ancestry` of the model.
        suite: its name.
        result: the numbers.
    """
    results = {(name, ""): r for name, r in result.evaluators.items()}
    results |= {(name, b): r for b, found in result.baselines.items() for name, r in found.items()}
    entry = {
        "protocol": result.protocol,
        "data": result.data,
        "items": result.digests,
        "checkpoint": header["checkpoint"],
        "evaluators": {name: r.to_json() for name, r in result.evaluators.items()},
        "missing": result.missing,
        "baselines": {b: {name: r.to_json() for name, r in found.items()} for b, found in result.baselines.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        for name in (path.name, items_path(path).name):
            durable.remove_unfinished(path.parent, name)
        record, items = read_record(path), read_items(path)
        items = {key: array for key, array in items.items() if not key.startswith(f"{suite}/")}
        for (name, baseline), one in results.items():
            if one.items is not None:
                items["/".join(filter(None, (suite, name, baseline)))] = one.items
            if one.groups is not None:
                items["/".join(filter(None, (suite, name, baseline, GROUPS)))] = one.groups
            if one.overlap is not None:
                items.setdefault(f"{suite}/{name}/{OVERLAP}", one.overlap)
        if result.map is not None:
            items |= {f"{suite}/map": result.map.points, f"{suite}/map/labels": result.map.labels}
        suites = record.get("suites", {}) | {suite: entry}
        text = json.dumps({"protocol": PROTOCOL, **header, "suites": suites}, ensure_ascii=False)
        with durable.replacing(items_path(path)) as file:
            np.savez_compressed(file, **items)  # type: ignore[arg-type]  # the names of arrays, not of options
        durable.write_text(path, text + "\n")
