"""The evaluators of a suite on one model."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder, lacks
from ssl_nlp.evaluation.evaluator import Evaluator, with_validation
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.result import Result
from ssl_nlp.objectives.scores import Unable


@dataclass(frozen=True)
class Outcome:
    """The numbers of one model.

    Attributes:
        results: by evaluator, or by PART.EVALUATOR where a part of the model was evaluated.
        missing: the reason by evaluator, for those that the model has no capability for, cannot do with these data, or has
            no finite number for.
    """

    results: dict[str, Result]
    missing: dict[str, str]


def evaluator_of(result: str, evaluators: Collection[str]) -> str:
    """The name of the evaluator of a result, which may be called PART.EVALUATOR."""
    return result if result in evaluators else result.partition(".")[2]


def grouped(results: Mapping[str, Result], evaluators: Mapping[str, Evaluator]) -> dict[str, Result]:
    """Results with what their items have in common (`Result.groups`), where the evaluator knows it.

    Args:
        results: of one model, by evaluator, or by PART.EVALUATOR.
        evaluators: by name.
    """
    found = {}
    for name, result in results.items():
        evaluator = evaluators.get(evaluator_of(name, evaluators))
        shared = evaluator.shared if evaluator is not None and result.groups is None else None
        fits = shared is not None and result.items is not None and len(shared) == len(result.items)
        found[name] = replace(result, groups=shared) if fits else result
    return found


def validated(evaluator: Evaluator, model: Any, embed: Callable[[list[str]], Mapping[str, Embedder]]) -> Result:
    """The numbers of a model on the validation items of an evaluator alone.

    Args:
        evaluator: with validation items.
        model: what to evaluate.
        embed: gives embedders of texts by pooling; called for an evaluator of embeddings only.

    Raises:
        UserError: the model has not the capability that it needs, or cannot do it with these items.
    """
    validation = evaluator.validation
    assert validation is not None
    if reason := lacks(model, evaluator.needs):
        raise UserError(reason)
    if evaluator.needs is Embedder:
        result = Poolings(embed(validation.texts)).validation(evaluator)
        assert result is not None
        return result
    try:
        return validation(model)
    except Unable as error:
        raise UserError(str(error)) from error


def run_evaluators(
    evaluators: Mapping[str, Evaluator],
    model: Any,
    poolings: Poolings | None,
    on_progress: Callable[[str], object] = lambda name: None,
    kind: str | None = None,
) -> Outcome:
    """Run each evaluator on a model that has the capability it needs.

    A model made of several (`objectives`, models by name) is evaluated part by part where it lacks a capability itself.

    Args:
        evaluators: by name.
        model: for those that need no embeddings.
        poolings: the embeddings of the model; None if it has none.
        on_progress: called with the name of each evaluator before it begins.
        kind: what the model is called in reasons; default: its class.
    """
    embedding = {name: e for name, e in evaluators.items() if e.needs is Embedder and poolings is not None}
    found = {} if poolings is None else poolings.evaluate(embedding, on_progress)
    results: dict[str, Result] = {}
    missing: dict[str, str] = {}
    for name, evaluator in evaluators.items():
        if name in found:
            results[name] = found[name]
            continue
        on_progress(name)
        reason = lacks(model, evaluator.needs, kind)
        parts = getattr(model, "objectives", {}) if reason else {}
        able = {f"{part}.{name}": m for part, m in parts.items() if lacks(m, evaluator.needs) is None}
        if reason and not able:
            missing[name] = reason
        for key, one in able.items() if reason else [(name, model)]:
            try:
                results[key] = with_validation(evaluator, one, evaluator(one))
            except Unable as error:
                missing[key] = str(error)
    for name in [name for name, result in results.items() if not math.isfinite(result.primary)]:
        missing[name] = f"its {results[name].primary_metric} is {results.pop(name).primary}"
    return Outcome(results, missing)
