"""LightningCLI with run directories, resume and W&B, for `fit`, `validate`, `test` and `predict`."""

import os
import re
import sys
from argparse import HelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from ssl_nlp.commands import trainer_settings
from ssl_nlp.commands.arguments import config_files, read_config, values
from ssl_nlp.commands.complaints import constructor_complaint, plain_complaint
from ssl_nlp.commands.help import help_text, help_wanted
from ssl_nlp.commands.imports import as_options
from ssl_nlp.commands.options import OPTIONS, unknown_complaint
from ssl_nlp.commands.parser import CommandParser, as_yaml
from ssl_nlp.commands.predictions import EMBEDDINGS, check_output, task_in, write_predictions
from ssl_nlp.commands.run_callbacks import run_callbacks
from ssl_nlp.commands.run_name import default_run_name, folder_of_config
from ssl_nlp.commands.shipped import with_paths
from ssl_nlp.commands.start import check_start, keep_encoder
from ssl_nlp.commands.task_results import Results
from ssl_nlp.commands.trained_splits import splits_of
from ssl_nlp.commands.trust import restrict_imports
from ssl_nlp.data import TextDataModule, Tokenizer
from ssl_nlp.errors import UserError
from ssl_nlp.quiet import quiet
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.runs.ancestry import spoken
from ssl_nlp.runs.class_paths import public_path, with_public_paths
from ssl_nlp.runs.metrics_csv import MetricsCSV
from ssl_nlp.runs.run import Run
from ssl_nlp.terminal import say
from ssl_nlp.tracking import WandbSettings
from ssl_nlp.training import Module
from ssl_nlp.training.callbacks import (
    Divergence,
    EmbeddingWriter,
    ExcessLoss,
    Extension,
    Progress,
    ProgressLines,
    RunKeeper,
    ValidationLine,
)
from ssl_nlp.training.callbacks.checkpoints import DurableCheckpointIO
from ssl_nlp.training.optimizers import check_paths
from ssl_nlp.training.texts import TextModule

set_loader("public_paths", lambda text: with_public_paths(get_loader("yaml")(text)), (yaml.YAMLError,))


class TrainerParser(CommandParser, LightningArgumentParser):
    """Argument parser of LightningCLI, and of each class that is configured inside another one.

    It translates the class paths that an earlier version of this package wrote, in files and among the arguments.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"parser_mode": "public_paths"})

    def parse_args(  # type: ignore[override]  # in place of two with other types
        self, args: Sequence[str] | None = None, *more: Any, **settings: Any
    ) -> Any:
        """Parse arguments; for options of a class inside of another one, jsonargparse calls this with `--NAME=VALUE`."""
        if args is not None:
            args = [_with_public_path(as_yaml(argument)) for argument in args]
        return super().parse_args(args, *more, **settings)

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The list of everything, as jsonargparse writes it: `--help all`."""
        return LightningArgumentParser.format_help(self, formatter)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(plain_complaint(message)) from ex  # `run_cli` suggests other options: it knows the arguments


class Cli(LightningCLI):
    """LightningCLI whose `fit` keeps everything about a run in `runs/NAME/`."""

    run_directory: Run | None = None
    resume: Path | None = None  # the run's own checkpoint, which training continues from
    step: int = 0  # of that checkpoint
    callbacks_kept: Sequence[str] = ()  # names of the callbacks whose state is in the checkpoint
    extends: bool = False  # whether the run may become longer
    same_data: bool = False  # whether the command reads the data that the checkpoint was trained on
    checkpoint: dict[str, Any] | None = None  # what the data module must know about it
    config_text: str = ""
    output: Path  # of `predict`

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only the command that was typed, because each parser takes a second to build."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name == sys.argv[1]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        commands = {"output": "predict", "input": "predict", "extend": "fit"}
        for option, (kind, default, text) in OPTIONS.items():
            if commands.get(option, sys.argv[1]) == sys.argv[1]:
                typed: dict[str, Any] = {"action": "store_true"} if kind is bool else {"type": kind, "default": default}
                parser.add_argument(f"--{option}", help=text, **typed)
        parser.add_class_arguments(WandbSettings, "wandb")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments as given: `sys.argv` has the `--import` of the processes that Lightning starts, too."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: the command line defines the model, not the hyperparameters in a checkpoint."""

    def complete_config(self) -> Any:
        """The arguments of the command, with the precision and the name of the run filled in."""
        config = self.config[self.subcommand]
        if config.trainer.precision is None:
            config.trainer.precision = trainer_settings.default_precision(config.trainer.accelerator)
        if self.subcommand == "fit":
            files = [str(file) for file in config.config or () if file is not None]  # None: YAML in the argument
            if not any(re.fullmatch("--run(=.*)?", argument) for argument in sys.argv):
                config.run = folder_of_config(files) or config.run
            if config.run is None:
                config.run = default_run_name(config.model.class_path, files, config.seed_everything)
                if "WANDB_SWEEP_ID" in os.environ:  # whose runs differ in more than method and seed
                    config.run += f"-{os.environ['WANDB_RUN_ID']}"
            self.extends = bool(config.pop("extend"))  # which is no part of what the run is
            self.config_text = self._parser("fit").dump(config, skip_unset=False)
        return config

    def _completed(self, config: str) -> str:
        """The configuration of an older run, with defaults for newer settings; unchanged if it cannot be read."""
        parser = self._parser("fit")
        try:
            complete = parser.parse_string(config)
        except UserError:
            return config
        complete.pop("extend", None)
        return str(parser.dump(complete, skip_unset=False))

    def _set_seed(self) -> None:
        seed = self.config[self.subcommand].seed_everything
        if not isinstance(seed, bool) and isinstance(seed, int) and not 0 <= seed < 2**32:
            raise UserError(f"seed_everything must be between 0 and 2 ** 32 - 1, not {seed}")
        super()._set_seed()

    def check(self, config: Any) -> None:
        """Refuse settings that are wrong for any run and any text."""
        trainer_settings.check(config.trainer, self.subcommand)
        if self.subcommand == "fit" and config.checkpoint_every < 1:
            raise UserError(f"checkpoint_every must be 1 or more steps, not {config.checkpoint_every}")
        if self.subcommand == "fit" and config.keep_every is not None and config.keep_every < 1:
            raise UserError(f"keep_every must be 1 or more steps, not {config.keep_every}")
        if config.weights_only is False:
            raise UserError("weights_only false would let a checkpoint run code: leave it out")
        if self.subcommand == "predict" and config.output is None:
            raise UserError("predict does not know where to write: give --run NAME, or --output FILE")
        if self.subcommand == "fit" and config.ckpt_path in ("last", "best", "hpc", "registry"):
            raise UserError(f"--ckpt_path {config.ckpt_path}: leave it out, a run resumes from its last checkpoint")

    def before_instantiate_classes(self) -> None:
        config = self.complete_config()
        self.check(config)
        _say_once(f"{config.trainer.precision} precision, seed {config.seed_everything}")
        config.weights_only = True
        if self.subcommand == "fit" and not config.trainer.fast_dev_run:
            self.run_directory = Run(config.run)
            if not self.run_directory.read_state().get("ancestry"):  # a run that has one began elsewhere
                check_start(config.model, self.run_directory)
            self.resume = self.run_directory.resume_from(self.config_text, self.extends, self._completed)
            if self.resume is not None:
                config.ckpt_path = str(self.resume)
        if config.ckpt_path is not None:
            self._read_checkpoint(config)

    def _read_checkpoint(self, config: Any) -> None:
        """Read what is needed before Lightning loads the checkpoint.

        Raises:
            UserError: it is broken, of another method, or not a checkpoint of the run.
        """
        saved = checkpoints.read(config.ckpt_path, lazily=True, checked=self.resume is not None)
        paths = (saved["ssl_nlp"]["method"]["class_path"], config.model.class_path)
        held, asked = (str(path).rsplit(".", 1)[-1] for path in paths)
        if held != asked:
            raise UserError(f"{config.ckpt_path} holds a {held}, not a {asked}: name a checkpoint of the same method")
        self.step = int(saved["global_step"])
        self.callbacks_kept = list(saved["callbacks"]) if isinstance(saved.get("callbacks"), dict) else []
        tokenizer = Tokenizer(saved["ssl_nlp"]["tokenizer"])
        if self.resume is not None or self.same_data:
            Run(config.run).check_tokenizer(tokenizer.fingerprint(), config.ckpt_path)
        same = self.subcommand == "fit" or self.same_data
        self.checkpoint = {"tokenizer": tokenizer, "trained_on": splits_of(saved) if same else {}}
        if self.resume is not None or self.same_data:
            keep_encoder(config.model, saved, str(config.ckpt_path))

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        if self.subcommand == "fit":
            check_paths(self.model.optimization)
        if self.checkpoint is not None:
            self.datamodule.continue_with(**self.checkpoint)

    def _run_subcommand(self, subcommand: str) -> None:
        config = self.config_init[subcommand]
        if subcommand != "predict" or self.output.suffix == EMBEDDINGS:
            if subcommand == "predict" and config.input is not None:
                also = "" if task_in(self.model) is None else ", or name a .jsonl file with --output"
                raise UserError(
                    f"--input is for the predictions of a task: a method embeds texts with ssl-nlp embed{also}"
                )
            super()._run_subcommand(subcommand)
            return
        if config.ckpt_path is None:
            raise UserError("predict needs a trained task: give --run NAME, or --ckpt_path FILE")
        model = TextModule.load_from_checkpoint(config.ckpt_path).to(self.trainer.strategy.root_device)
        task = task_in(model)
        assert task is not None  # `check_output` has seen that there is one
        write_predictions(task, self.datamodule, self.trainer, config.input, self.output)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        run = self.run_directory
        config = self.config_init[self.subcommand]
        if run is None:
            own: list[Callback] = [ProgressLines()]
            if self.subcommand == "fit":
                _say_once("fast_dev_run: nothing is kept")
                own = [Divergence(), Progress(), ProgressLines(), ValidationLine()]
            elif self.subcommand == "predict":
                self.output = check_output(config.output, self.model)
                own = [EmbeddingWriter(self.output), ProgressLines()]
            elif self.same_data:
                own = [Results(Run(config.run).directory, self.step), ExcessLoss(), ProgressLines()]
            folder = Path.cwd() if config.run is None or self.subcommand == "fit" else Run(config.run).directory
            self.trainer_defaults["callbacks"] = trainer_settings.fit_into_run(config.trainer, own, folder)
            profiler = trainer_settings.profiler_in(folder, config.trainer.profiler)
            return super().instantiate_trainer(logger=False, profiler=profiler, **kwargs)
        step = None if self.resume is None else self.step
        if self.resume not in (None, run.last_checkpoint):
            _say_once(f"{run.last_checkpoint} is damaged or missing: using {self.resume} instead")
        ancestry = self.model.encoder.ancestry if hasattr(self.model, "encoder") else ()
        start = f" starts from {spoken(ancestry[-1])}" if ancestry else ""
        _say_once(f"runs/{run.name}" + (start if step is None else f" resumes at step {step:,}"))
        keeper = RunKeeper(run, self.config_text, config.wandb if config.trainer.logger is not False else None)
        own = run_callbacks(run, keeper, config.checkpoint_every, config.keep_every, resumes=step is not None)
        if (longer := run.longer(self.config_text)) is not None:
            own.append(Extension(run, self.config_text, *longer))
        self.trainer_defaults["callbacks"] = trainer_settings.fit_into_run(config.trainer, own, run.checkpoints)
        profiler = trainer_settings.profiler_in(run.directory, config.trainer.profiler)
        configured = config.trainer.logger
        extra = [] if configured in (None, True, False) else configured
        metrics = MetricsCSV(run.directory, step)
        loggers = [metrics, *(extra if isinstance(extra, Sequence) else [extra])]
        trainer = super().instantiate_trainer(
            logger=loggers, profiler=profiler, default_root_dir=str(run.directory), **kwargs
        )
        metrics.trainer = trainer
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # nobody has asked for another one
            trainer.strategy.checkpoint_io = DurableCheckpointIO()
        return trainer


def run_cli(
    kind: type[Cli],
    command: str,
    arguments: Sequence[str],
    imports: Sequence[str],
    complete: Callable[[Sequence[str]], list[str]] = list,
) -> Cli:
    """Run one of the trainer's commands.

    Args:
        kind: the class that runs it.
        command: `fit`, `validate`, `test` or `predict`.
        arguments: those after the command.
        imports: the values of `--import`.
        complete: adds the arguments that follow from those of the user.

    Raises:
        UserError: the user made a mistake.
    """
    if len(names := values(arguments, "--run")) > 1:
        raise UserError(f"--run is given {len(names)} times ({', '.join(names)}): give it once")
    quiet()
    if help_wanted(arguments):
        print(help_text(command, arguments))
        sys.exit()
    arguments = with_paths(arguments)
    for file in config_files(arguments):
        read_config(file)  # raises errors that name the file
    restrict_imports(imports)
    sys.argv = [sys.argv[0], command, *as_options(imports), *arguments]  # Lightning starts other ranks so
    try:
        return kind(
            args=[command, *complete(arguments)],
            model_class=Module,
            datamodule_class=TextDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=None,
            load_from_checkpoint_support=False,
            auto_configure_optimizers=False,
            parser_class=TrainerParser,
            parser_kwargs={"prog": "ssl-nlp"},
            trainer_defaults={
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
            },
        )
    except UserError as error:
        if (complaint := unknown_complaint(str(error), arguments)) is None:
            raise
        raise UserError(complaint) from error
    except (ValueError, TypeError) as error:  # jsonargparse wraps what a constructor raises
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__ or cause.__context__
        if cause is None and (
            said := constructor_complaint(str(error))
        ):  # of several types, the first one is the cause
            cause = UserError(said)
        raise (cause or error) from None


def _with_public_path(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return option + equals + public_path(value)


@rank_zero_only
def _say_once(line: str) -> None:
    say(line)
