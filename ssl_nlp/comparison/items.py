"""Results on different data are different columns.

The number of a row says nothing about items that it has not seen. Nor can methods be compared that were trained on
different text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ssl_nlp.comparison.configuration import spoken
from ssl_nlp.comparison.types import Row
from ssl_nlp.corpora.digests import SHORT
from ssl_nlp.evaluation.record import SuiteResult

T = TypeVar("T")

AT = "@"
"""In the name of an evaluator, what separates it from items and text: `knn@3f2a91b0c4d5` or `knn@text 91b0c4d53f2a`."""
TEXT = "text"


def apart(results: Sequence[SuiteResult], texts: Sequence[str] | None = None) -> list[SuiteResult]:
    """The results, with evaluators called EVALUATOR@DATA where items, protocols or training texts are not the same in all.

    Records of earlier versions have one key for the items of all evaluators. Where a newer record has the same key, its
    digest of the items of an evaluator holds for both.

    Args:
        results: of N models.
        texts: the digest of what each was trained on; empty where it is not known, which counts as a text of its own if
            there are several others. None: results are not kept apart by text.
    """
    texts = texts if texts is not None and len({*texts} - {""}) > 1 else [""] * len(results)
    every = [(result, name) for result in results for name in _names(result)]
    same_data = {(result.data, name): digest for result, name in every if (digest := digest_of(result, name))}
    seen: dict[str, set[tuple[int, str]]] = {}
    for result, name in every:
        seen.setdefault(name, set()).add((result.protocol, _items(result, name, same_data)))
    several = len({*texts}) > 1
    labels = [f"{TEXT} {text[:SHORT] or 'not known'}" if several else "" for text in texts]
    return [_renamed(result, seen, same_data, label) for result, label in zip(results, labels, strict=True)]


def digest_of(result: SuiteResult, name: str) -> str:
    """The digest of the items of an evaluator, or of PART.EVALUATOR; empty if it is not recorded."""
    return result.digests.get(name) or result.digests.get(name.partition(".")[2], "")


def _names(result: SuiteResult) -> list[str]:
    return [*result.evaluators, *(name for found in result.baselines.values() for name in found)]


def _items(result: SuiteResult, name: str, same_data: Mapping[tuple[str, str], str]) -> str:
    return digest_of(result, name) or same_data.get((result.data, name), result.data)


def _renamed(
    result: SuiteResult, seen: Mapping[str, set[tuple[int, str]]], same_data: Mapping[tuple[str, str], str], text: str
) -> SuiteResult:
    def new(name: str) -> str:
        places = seen.get(name, set())
        if len(places) < 2 and not text:
            return name
        protocols = {protocol for protocol, _ in places}
        several = sum(protocol == result.protocol for protocol, _ in places) > 1
        parts = [_items(result, name, same_data)[:SHORT]] * several
        parts += [f"protocol {result.protocol}"] * (len(protocols) > 1)
        parts += [text] if text else []
        return f"{name}{AT}{', '.join(parts)}"

    def renamed(named: Mapping[str, T]) -> dict[str, T]:
        return {new(name): value for name, value in named.items()}

    digests = {name: digest for name in result.evaluators if (digest := digest_of(result, name))}
    return replace(
        result,
        evaluators=renamed(result.evaluators),
        baselines={baseline: renamed(found) for baseline, found in result.baselines.items()},
        missing=renamed(result.missing),
        digests=renamed(result.digests | digests),
    )


def without_items(name: str) -> str:
    """The name of an evaluator without its items."""
    return name.partition(AT)[0]


def _on_other_items(results: Sequence[SuiteResult]) -> list[str]:
    """The names of the evaluators that `apart` has renamed because of their items, without these."""
    names = (name for result in results for name in result.evaluators if AT in name)
    return list(dict.fromkeys(without_items(name) for name in names if not name.partition(AT)[2].startswith(TEXT)))


def item_sentences(rows: Sequence[Row], evaluated: Mapping[Path, SuiteResult]) -> list[str]:
    """Sentences on the protocols, the items and the training text of the runs of some rows, if they are not equal."""
    results = {row.label: [evaluated[run.folder] for run in row.runs] for row in rows}
    protocols = {label: sorted({result.protocol for result in its}) for label, its in results.items()}
    if len({protocol for found in protocols.values() for protocol in found}) > 1:
        shown = spoken({label: " and ".join(map(str, found)) for label, found in protocols.items()})
        return [f"The evaluation protocols differ: {shown}. Each has columns of its own; evaluate all runs again."]
    said = []
    if other := _on_other_items([*evaluated.values()]):
        data = {label: " and ".join(sorted({result.data[:SHORT] for result in its})) for label, its in results.items()}
        said.append(
            f"The evaluation items of {', '.join(other)} differ: those of the suite are {spoken(data)} "
            "(digests). Each set of items has columns of its own."
        )
    if any(f"{TEXT} " in name.partition(AT)[2] for result in evaluated.values() for name in result.evaluators):
        said.append(
            "Runs were trained on different texts: each text has columns of its own, and nothing is compared between them."
        )
    return said
