"""`validate`, `test` and `predict`: a trained run on its validation or test data."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import yaml
from lightning.pytorch import Trainer

from ssl_nlp.commands.arguments import config_files, last_value, model_of, read_config, values
from ssl_nlp.commands.lightning_cli import Cli, run_cli
from ssl_nlp.commands.options import chosen_model_class
from ssl_nlp.commands.predictions import default_output
from ssl_nlp.commands.trainer_settings import lightning_errors
from ssl_nlp.commands.trust import settings_of_run
from ssl_nlp.errors import UserError
from ssl_nlp.runs.run import RUNS, Run
from ssl_nlp.training.callbacks.weights_per_part import WeightsPerPart, parts_apart

ENCODER = ("--model.encoder", "--model.init_args.encoder")
"""Beginnings of the options that configure an encoder."""
CORPUS = ("--data.corpus", "--data.init_args.corpus")
"""Beginnings of the options that configure a corpus, to which the digests of a run do not belong."""


class RunCli(Cli):
    """A command on a run and on the data that it was trained on."""

    same_data = True

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer; it evaluates each part of the data with the weights that the checkpoint has for it, if it has any.

        No other callback of the run is created: anybody may have sent it.
        """
        trainer = super().instantiate_trainer(**kwargs)
        if WeightsPerPart.__name__ in self.callbacks_kept and not parts_apart(trainer):
            trainer.callbacks.append(WeightsPerPart())  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        return trainer


def validate(arguments: Sequence[str], imports: Sequence[str]) -> None:
    """Print the losses and metrics of a run's best checkpoint on the validation split."""
    _run("validate", arguments, imports)


def test(arguments: Sequence[str], imports: Sequence[str]) -> None:
    """Print the losses and metrics of a run's best checkpoint on the test split."""
    _run("test", arguments, imports)


def predict(arguments: Sequence[str], imports: Sequence[str]) -> None:
    """Write the embeddings of the test split by a run's best checkpoint, or the predictions of a task for any texts."""
    _run("predict", arguments, imports)


def _run(command: str, arguments: Sequence[str], imports: Sequence[str]) -> None:
    others = any(argument.startswith(("--data", "--config")) for argument in arguments)
    kind = RunCli if values(arguments, "--run") and not others else Cli
    with lightning_errors():
        run_cli(kind, command, arguments, imports, partial(with_run, command))


def with_run(command: str, arguments: Sequence[str]) -> list[str]:
    """The arguments with what `--run NAME` stands for: the settings behind the run's numbers, and its best checkpoint."""
    name = last_value(arguments, "--run")
    if name is None:
        if not {"-h", "--help"} & set(arguments) and not config_files(arguments):
            raise UserError(f"{command} needs a run: ssl-nlp {command} --run NAME")
        return list(arguments)
    run = Run(name)
    if not run.config.exists():
        raise UserError(f"there is no run {run.name} in {RUNS.absolute()}: train it with ssl-nlp fit --run {run.name}")
    if encoder := next((one for one in arguments if one.startswith(ENCODER)), None):
        raise UserError(f"the checkpoint of {run.name} decides on its encoder: leave out {encoder.partition('=')[0]}")
    settings = settings_of_run(run)
    added = [f"--ckpt_path={last_value(arguments, '--ckpt_path') or run.best_checkpoint()}"]
    if command == "predict" and last_value(arguments, "--output") is None:
        chosen = model_of(yaml.safe_load(settings))
        added.append(f"--output={run.directory / default_output(chosen_model_class([f'--model={chosen}']))}")
    expected = ["--data.digests=null"] if _has_digests(settings) and _names_corpus(arguments) else []
    return [f"--config={settings}", *expected, *arguments, *added]


def _has_digests(settings: str) -> bool:
    """Whether the settings of a run say which text they expect."""
    return bool(_of_data(yaml.safe_load(settings)).get("digests"))


def _names_corpus(arguments: Sequence[str]) -> bool:
    """Whether the arguments name another corpus than the run's, or change a setting of it."""
    in_files = ("corpus" in _of_data(read_config(file)) for file in config_files(arguments))
    return any(one.startswith(CORPUS) for one in arguments) or any(in_files)


def _of_data(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the data module in a configuration; empty if they are none."""
    data = config.get("data")
    given = data.get("init_args", data) if isinstance(data, dict) else None
    return given if isinstance(given, dict) else {}
