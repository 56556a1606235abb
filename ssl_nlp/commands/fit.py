"""`fit`: train a run, resume it, or only plan it."""

import sys
from collections.abc import Sequence

from ssl_nlp.commands.lightning_cli import Cli, run_cli
from ssl_nlp.commands.trainer_settings import lightning_errors
from ssl_nlp.training import Module


def fit(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Train a run; the same command resumes it if it is unfinished.

    Args:
        arguments: those after `fit`.
        imports: the values of `--import`.

    Raises:
        UserError: the user made a mistake.
    """
    with lightning_errors():
        run_cli(Cli, "fit", arguments, imports)


def plan_fit(arguments: Sequence[str], imports: Sequence[str] = (), tried: bool = False) -> str:
    """Return the complete configuration, as YAML, of a `fit` with these arguments.

    Args:
        arguments, imports: as for `fit`.
        tried: find the mistakes that can be found without reading text.

    Raises:
        UserError: the user made a mistake.
    """
    return _planned(Trial if tried else Plan, arguments, imports).config_text


def plan_model(arguments: Sequence[str], imports: Sequence[str] = ()) -> tuple[str, Module]:
    """Return what `plan_fit` does, and the model, which has seen no data.

    Args:
        arguments, imports: as for `fit`.

    Raises:
        UserError: the user made a mistake.
    """
    cli = _planned(Trial, arguments, imports)
    return cli.config_text, cli.model


def _planned(kind: type[Cli], arguments: Sequence[str], imports: Sequence[str]) -> Cli:
    before = sys.argv
    try:
        return run_cli(kind, "fit", arguments, imports)
    finally:
        sys.argv = before


class Plan(Cli):
    """Works out the configuration of a `fit`, and creates and trains nothing."""

    def _set_seed(self) -> None:
        """Nothing: the seed is for the process that trains."""

    def before_instantiate_classes(self) -> None:
        self.complete_config()

    def instantiate_classes(self) -> None:
        """Nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""


class Trial(Plan):
    """Also checks the settings, and creates the model and the data module, whose constructors refuse what is wrong."""

    def before_instantiate_classes(self) -> None:
        self.check(self.complete_config())

    def instantiate_classes(self) -> None:
        config = self.config[self.subcommand].clone()
        del config["trainer"]
        self.model = self._parser("fit").instantiate_classes(config).model
