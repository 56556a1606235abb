"""The arguments of a command as they were typed, before a parser reads them."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from ssl_nlp.errors import UserError


def values(arguments: Sequence[str], name: str) -> list[str]:
    """The values of all `--name VALUE` and `--name=VALUE`."""
    joined = [argument.removeprefix(f"{name}=") for argument in arguments if argument.startswith(f"{name}=")]
    return [value for argument, value in pairwise(arguments) if argument == name] + joined


def last_value(arguments: Sequence[str], name: str) -> str | None:
    """The value of the last `--name VALUE` or `--name=VALUE`; None without one."""
    found = values(arguments, name)
    return found[-1] if found else None


def config_files(arguments: Sequence[str]) -> list[str]:
    """The files among the values of `--config`, which may also be YAML themselves."""
    return [file for file in values(arguments, "--config") if os.path.isfile(file)]


def read_config(file: str) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises:
        UserError: the file holds something else. The parser's own message would not name it.
    """
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"--config {file} is not UTF-8 at byte {error.start}: convert it") from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {file} is not valid YAML ({' '.join(str(error).split())}): correct it") from error
    if content is not None and not isinstance(content, dict):
        raise UserError(f"--config {file} holds no settings: write `key: value`, such as seed_everything: 1")
    return content or {}


def model_of(config: dict[str, Any]) -> str | None:
    """The class that settings choose as the model, which YAML writes in two ways."""
    model = config.get("model")
    chosen = model.get("class_path") if isinstance(model, dict) else model
    return None if chosen is None else str(chosen)


def chosen_model(arguments: Sequence[str]) -> str | None:
    """The class that the arguments choose as the model."""
    for name in ("--model", "--model.class_path"):
        if chosen := last_value(arguments, name):
            return chosen
    models = [model_of(read_config(file)) for file in config_files(arguments)]
    return next((model for model in reversed(models) if model), None)
