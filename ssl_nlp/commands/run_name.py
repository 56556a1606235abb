"""The name that a run gets where the user does not give it one."""

import os
from collections.abc import Sequence
from pathlib import Path

from ssl_nlp.commands.arguments import model_of, read_config
from ssl_nlp.commands.model_classes import MODELS
from ssl_nlp.names import as_name
from ssl_nlp.runs import checkpoint
from ssl_nlp.runs.run import RUNS


def default_run_name(class_path: str, files: Sequence[str], seed: int) -> str:
    """The name of the YAML file that chooses the method, or else of the method, and the seed: `tsdae-seed0`."""
    name = checkpoint.find_class(class_path, *MODELS).short_name
    for file in files:
        chosen = model_of(read_config(file))
        if str(chosen).rsplit(".", 1)[-1] == class_path.rsplit(".", 1)[-1]:  # a short name means the same class
            name = as_name(Path(file).stem)
    return f"{name}-seed{seed}"


def folder_of_config(files: Sequence[str]) -> str | None:
    """The run whose `config.yaml` is the last of these files: its folder names it, even after a rename."""
    configs = [Path(os.path.abspath(file)) for file in files]
    runs = [
        path.parent.name for path in configs if path.name == "config.yaml" and path.parent.parent == RUNS.absolute()
    ]
    return runs[-1] if runs else None
