"""Runs written by hand, with evaluations, and comparisons of them."""

import io
import json
import zlib
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from ssl_nlp.comparison import compare_runs, find_runs
from ssl_nlp.comparison.table import render_tables
from ssl_nlp.evaluation.record import SuiteResult, write_suite
from ssl_nlp.evaluation.result import PROTOCOL, Result

ITEMS = 400
DIFFICULTY = np.random.default_rng(0).normal(size=ITEMS)


def accuracy(ability: float, seed: int) -> Result:
    right = np.random.default_rng(seed).logistic(size=ITEMS) < ability + DIFFICULTY
    items = right.astype(np.uint8)
    return Result("accuracy", {"accuracy": float(items.mean()), "macro_f1": 0.5}, {}, items)


def language(metric: str, value: float) -> Result:
    return Result(metric, {metric: value}, {"kind": metric})


def write(
    folder,
    name,
    method="MaskedLM",
    ability=0.5,
    seed=0,
    data="same",
    finished=True,
    tokens=1000.0,
    pooling="mean",
    protocol=PROTOCOL,
    ancestry=(),
    extended=(),
    text="a" * 64,
    items=None,
    draw=2,
    **settings,
):
    run = folder / "runs" / name
    run.mkdir(parents=True)
    config = {
        "seed_everything": seed,
        "run": name,
        "model": {
            "class_path": f"ssl_nlp.methods.{method}",
            "init_args": {"encoder": {"class_path": "ssl_nlp.encoders.Transformer", "init_args": {"size": "tiny"}}},
        },
        "data": {
            "init_args": {"corpus": {"class_path": "ssl_nlp.corpora.InstalledDocs", "init_args": {"valid": 0.05}}}
        },
    }
    for key, value in settings.items():
        *parents, last = key.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    state = {"finished": finished, "ancestry": [*ancestry], "extended": [*extended]}
    state |= {"text": {"train": text, "valid": "b" * 64}} if text else {}
    (run / "run.json").write_text(json.dumps(state))
    kind = {"MaskedLM": "pseudo_bits_per_byte", "CausalLM": "bits_per_byte"}.get(method)
    answers = {"knn": accuracy(ability, hash_of(name)), "geometry": Result("effective_rank", {"effective_rank": 20.0})}
    answers["knn"].details["pooling"] = pooling
    answers |= {"language_modelling": language(kind, 2.0)} if kind else {}
    if method == "CausalMaskedLM":
        kind, metrics = "bits_per_byte", {"bits_per_byte": 2.0, "pseudo_bits_per_byte": 1.0}
        answers |= {"language_modelling": Result(kind, metrics, {"kind": "likelihood"})}
    missing = {} if kind else {"language_modelling": f"{method} gives no likelihood of a text"}
    baselines = {"tfidf": {"knn": accuracy(0.3, 1)}, "random_init": {"knn": accuracy(-0.5, draw)}}
    header = {"method": method, "checkpoint": {"file": "last.ckpt", "digest": ""}, "cost": {"tokens": tokens}}
    if ancestry:
        header["cost"]["ancestor_tokens"] = sum(one["tokens"] or 0 for one in ancestry)
    digests = {} if items is None else dict.fromkeys([*answers, *missing], data) | items
    result = SuiteResult(data, answers, baselines, None, missing, protocol, digests)
    write_suite(run / "evaluation.json", header, "docs", result)


def hash_of(name: str) -> int:
    return zlib.crc32(name.encode())


def comparison(folder: Path):
    return compare_runs(find_runs([folder / "runs"]), "docs")


def shown(found) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_tables(found))
    return console.export_text()
