"""Checkpoints that need nothing but themselves: classes and arguments as plain data, read with `weights_only=True`."""

import importlib
import os
import pickle
import zipfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ssl_nlp.errors import UserError

T = TypeVar("T")


def describe(kind: type, init_args: dict[str, Any]) -> dict[str, Any]:
    """An object as the path of its class and the plain arguments of its constructor; dataclasses among them likewise."""
    plain = {name: _plain(value) for name, value in init_args.items()}
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": plain}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    if is_dataclass(value) and not isinstance(value, type):
        return describe(type(value), {field.name: getattr(value, field.name) for field in fields(value)})
    return value


def instantiate(description: dict[str, Any], base: type[T], overrides: dict[str, Any] | None = None) -> T:
    """The object that `describe` described; the descriptions among its arguments come first.

    Raises:
        UserError: the class cannot be imported, or is no subclass of `base`.
    """
    kind = resolve(description["class_path"])
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise UserError(f"the checkpoint holds a {description['class_path']}, not a {base.__name__}")
    arguments = {name: _object(value) for name, value in description["init_args"].items()}
    return kind(**arguments | (overrides or {}))


def _object(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_object, value))
    return instantiate(value, object) if isinstance(value, dict) and "class_path" in value else value


def resolve(class_path: str) -> Any:
    """What a dotted path names.

    Raises:
        UserError: there is nothing by that name.
    """
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"the checkpoint needs the class {class_path}: import or define it first") from error


def read(path: str | os.PathLike[str], map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The content of a checkpoint file.

    Raises:
        UserError: there is no such file, it is broken or unfinished, or it is not a checkpoint of a method.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: name a .ckpt file, such as runs/NAME/checkpoints/last.ckpt")
    try:
        saved = torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, ValueError) as error:
        raise UserError(f"{path} is not a complete checkpoint: copy or train it again") from error
    if not isinstance(saved, dict) or "ssl_nlp" not in saved:
        raise UserError(f"{path} is not a checkpoint of ssl_nlp: name one that ssl-nlp fit has written")
    return saved
