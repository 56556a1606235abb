"""Evaluators of the user's own, which YAML describes as `{class_path: own_evaluator.WordOrder, init_args: {...}}`.

The class must be loaded already, by `--import` or in Python: nothing is imported because of its name. The arguments are
plain data.
"""

import inspect
import sys
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.evaluator import Evaluator


def own_evaluator(place: str, description: dict[str, Any]) -> Evaluator:
    """The evaluator that a description stands for.

    Args:
        place: of the description, for messages.
        description: plain data with `class_path`.

    Raises:
        UserError: the class is not known or not an evaluator, or its arguments do not fit.
    """
    path, arguments = description["class_path"], description.get("init_args") or {}
    if unknown := description.keys() - {"class_path", "init_args"}:
        raise UserError(f"{place}: unknown `{min(unknown)}`: an evaluator of your own has `class_path` and `init_args`")
    if not isinstance(arguments, dict):
        raise UserError(f"{place}: the `init_args` of {path} are not arguments by name: write `name: value` for each")
    module, _, name = str(path).rpartition(".")
    kind = getattr(sys.modules.get(module), "__dict__", {}).get(name)
    if kind is None:
        raise UserError(f"{place}: the class {path} is not known: name its file with --import FILE.py")
    if not (isinstance(kind, type) and issubclass(kind, Evaluator)) or inspect.isabstract(kind):
        raise UserError(f"{place}: {path} is not an evaluator: make it a subclass of ssl_nlp.evaluation.Evaluator")
    if not is_dataclass(kind):
        raise UserError(f"{place}: {path} is not a dataclass: decorate it with @dataclass(frozen=True)")
    check_settings(place, name, kind, arguments)
    try:
        evaluator = kind(**arguments)
        _ = evaluator.texts  # which reads its files
    except (TypeError, ValueError, OSError) as error:
        raise UserError(f"{place}: {path} does not work with its init_args: {error}") from error
    return evaluator


def check_settings(place: str, name: str, kind: Any, settings: dict[str, Any]) -> None:
    """Compare the names of settings with the fields of a dataclass.

    Raises:
        UserError: one is unknown or missing.
    """
    known = {field.name: field for field in fields(kind) if field.init}
    needed = {key for key, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    problems = [f"unknown `{key}`" for key in settings if key not in known]
    if problems := problems + [f"no `{key}`" for key in sorted(needed - settings.keys())]:
        raise UserError(f"{place}: {', '.join(problems)}; {name} takes {', '.join(sorted(known))}")
