"""Limits on configurations: they choose among known classes only, and that of a run affects only its numbers."""

from collections.abc import Sequence
from typing import Any

import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from ssl_nlp.commands.imports import module_of
from ssl_nlp.commands.model_classes import MODELS
from ssl_nlp.corpora import Corpus
from ssl_nlp.data import BatchMaker
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.objectives.views import View
from ssl_nlp.runs.checkpoint import path_of, subclasses
from ssl_nlp.runs.run import Run

# Modules whose classes a configuration may name, beside those that the user has imported or named with --import.
TRUSTED = (
    "ssl_nlp.corpora",
    "ssl_nlp.data",
    "ssl_nlp.encoders",
    "ssl_nlp.methods",
    "ssl_nlp.modules",
    "ssl_nlp.objectives.views",
    "ssl_nlp.tasks",
    "ssl_nlp.training",
    "lightning.fabric.accelerators",
    "lightning.fabric.plugins",
    "lightning.pytorch.accelerators",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
)
BASES = (*MODELS, Encoder, View, Corpus, BatchMaker, LightningDataModule, Callback, Logger, Profiler, Strategy)
# Settings of a run's trainer that its numbers depend on, and that read, write and send nothing.
KEPT = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "precision",
    "deterministic",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
)


def restrict_imports(imports: Sequence[str] = ()) -> None:
    """Let configurations name known classes only, from now on. The parser checks a name before it imports anything.

    Args:
        imports: the values of `--import`.
    """
    known = [path_of(kind) for kind in subclasses(BASES)]
    names = [*TRUSTED, *map(module_of, imports), *known]
    allowed = [name for name in names if all(part.isidentifier() for part in name.split("."))]
    set_parsing_settings(
        import_path_denylist=["*"], import_path_allowlist=allowed, instantiate_subclass_spec_in_any=False
    )


def settings_of_run(run: Run) -> str:
    """The settings that decide a run's numbers, as YAML: method, data, seed, and some of the trainer.

    Anybody may have sent the run, so everything else is left out: callbacks, loggers, profilers, plugins and their paths,
    W&B, and how checkpoints are read.

    Raises:
        UserError: its configuration is broken.
    """
    try:
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        trainer = {name: value for name, value in config["trainer"].items() if name in KEPT and _is_plain(value)}
        kept = {name: config[name] for name in ("seed_everything", "model", "data")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{run.config} is broken: copy the run again, or move it away") from error
    return yaml.safe_dump(kept | {"trainer": trainer}, default_flow_style=True, allow_unicode=True, width=10**9)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
