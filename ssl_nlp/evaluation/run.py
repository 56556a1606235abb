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


def able_parts(name: str, model: Any, needs: Any, kind: str | None = None) -> tuple[dict[str, Any], str]:
    """The models that an evaluator runs on: the model itself or, if it lacks the capability, its `objectives` that have it.

    Args:
        name: of the evaluator.
        model: what to evaluate.
        needs: the capability.
        kind: what the model is called in reasons; default: its class.

    Returns:
        The models by the name of the result, which is PART.EVALUATOR for an objective, and what the model itself lacks.
    """
    reason = lacks(model, needs, kind)
    if reason is None:
        return {name: model}, ""
    parts = getattr(model, "objectives", {})
    return {f"{part}.{name}": one for part, one in parts.items() if lacks(one, needs) is None}, reason


def validated(
    evaluators: Mapping[str, Evaluator], model: Any, embed: Callable[[list[str]], Mapping[str, Embedder]]
) -> dict[str, Result]:
    """The numbers of a model on the validation items of evaluators alone, by evaluator, or by PART.EVALUATOR.

    Args:
        evaluators: by name, each with validation items.
        model: what to evaluate.
        embed: gives embedders of texts by pooling; called if there is an evaluator of embeddings.

    Raises:
        UserError: the model has not the capability that one of them needs, or cannot do it with these items.
    """
    validations = {name: e.validation for name, e in evaluators.items() if e.validation is not None}
    embedding = {name: e for name, e in validations.items() if e.needs is Embedder and lacks(model, Embedder) is None}
    poolings = Poolings(embed([text for e in embedding.values() for text in e.texts]) if embedding else {})
    results: dict[str, Result] = {}
    for name, validation in validations.items():
        if name in embedding:
            result = poolings.validation(evaluators[name])
            assert result is not None
            results[name] = result
            continue
        able, reason = able_parts(name, model, validation.needs)
        if not able:
            raise UserError(reason)
        for key, one in able.items():
            try:
                results[key] = validation(one)
            except Unable as error:
                raise UserError(str(error)) from error
    return results


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
        able, reason = able_parts(name, model, evaluator.needs, kind)
        if not able:
            missing[name] = reason
        for key, one in able.items():
            try:
                results[key] = with_validation(evaluator, one, evaluator(one))
            except Unable as error:
                missing[key] = str(error)
    for name in [name for name, result in results.items() if not math.isfinite(result.primary)]:
        missing[name] = f"its {results[name].primary_metric} is {results.pop(name).primary}"
    return Outcome(results, missing)
