"""Random baselines: each draw counts once, although several rows record it."""

from dataclasses import replace

import numpy as np

from ssl_nlp.evaluation import Result

Draw = list[dict[str, Result]]
"""Results of one draw by SUITE/EVALUATOR, in parts: no two parts hold the same metric of an evaluator."""
EQUAL = 1e-9  # metrics that differ by less


def agree(one: Draw, other: Draw) -> bool | None:
    """Tell whether two draws have the same metrics and items, where both have some; None if they have none in common."""
    pairs = [(part, beside) for part in one for beside in other]
    common = [(part[key], beside[key]) for part, beside in pairs for key in part.keys() & beside.keys()]
    common = [(one, other) for one, other in common if one.metrics.keys() & other.metrics.keys()]
    return all(_equal(one, other) for one, other in common) if common else None


def joined(one: Draw, other: Draw) -> Draw:
    """A draw with those metrics of another one that it lacks."""
    found = [*one]
    for part in other:
        new = {}
        for key, result in part.items():
            known = {metric for before in found if key in before for metric in before[key].metrics}
            if metrics := {metric: value for metric, value in result.metrics.items() if metric not in known}:
                new[key] = replace(result, metrics=metrics)
        found += [new] if new else []
    return found


def _equal(one: Result, other: Result) -> bool:
    metrics = one.metrics.keys() & other.metrics.keys()
    if any(abs(one.metrics[name] - other.metrics[name]) > EQUAL for name in metrics):
        return False
    if one.primary_metric != other.primary_metric or one.items is None or other.items is None:
        return True
    return one.items.shape == other.items.shape and np.allclose(one.items, other.items, equal_nan=True)
