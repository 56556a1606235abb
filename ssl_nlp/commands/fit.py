"""`fit`, `validate`, `test` and `predict`: LightningCLI, with run directories, resume and W&B added."""

import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from filelock import FileLock
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from ssl_nlp import methods
from ssl_nlp.commands import trainer_settings
from ssl_nlp.commands.imports import as_options
from ssl_nlp.commands.parser import as_yaml, nearest, nullable, options_of, shorten, unknown_option
from ssl_nlp.commands.shipped import with_paths
from ssl_nlp.commands.trust import restrict_imports, settings_of_run
from ssl_nlp.corpora import Corpus
from ssl_nlp.data import TextDataModule, Tokenizer
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Method
from ssl_nlp.names import as_name
from ssl_nlp.objectives.views import View
from ssl_nlp.quiet import quiet
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.runs.metrics_csv import MetricsCSV
from ssl_nlp.runs.run import RUNS, Run
from ssl_nlp.runs.tracking import WandbSettings, wandb_logger
from ssl_nlp.terminal import say
from ssl_nlp.training.callbacks import (
    Checkpoints,
    CollapseMonitor,
    Divergence,
    EmbeddingWriter,
    FinalValidation,
    Progress,
    Samples,
    Throughput,
    ValidationLine,
)
from ssl_nlp.training.callbacks.checkpoints import DurableCheckpointIO
from ssl_nlp.training.optimization import cpu_multiplies_bfloat16


class TrainerParser(LightningArgumentParser):
    """Argument parser of LightningCLI, and of each class that is configured inside of another one."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        # No abbreviations: `--ckpt` would be lost beside the `--ckpt_path` that `--run` stands for.
        super().__init__(*args, **settings | {"allow_abbrev": False})

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *more: Any, **settings: Any
    ) -> Any:
        """Parse arguments; for options of a class inside of another one, jsonargparse calls this with `--NAME=VALUE`."""
        return super().parse_args(None if args is None else [as_yaml(argument) for argument in args], *more, **settings)

    def validate(self, cfg: Any, *more: Any, **settings: Any) -> None:
        """Check a configuration; jsonargparse alone takes null for every argument."""
        super().validate(cfg, *more, **settings)
        for action in self._actions:
            hint, name = getattr(action, "_typehint", None), action.dest
            if hint is not None and not nullable(hint) and action.default is not None and cfg.get(name, ...) is None:
                self.error(f"{name} must not be null: leave it out, or give it a value")

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        raise UserError(shorten(message)) from ex


class Cli(LightningCLI):
    """LightningCLI whose `fit` keeps everything about a run in `runs/NAME/`."""

    run_directory: Run | None = None
    resume: Path | None = None
    step: int = 0  # of the checkpoint that training goes on from
    same_data: bool = False  # whether the command is about the data that the checkpoint was trained on
    checkpoint: dict[str, Any] | None = None  # what the data module has to know of it
    config_text: str = ""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The command that is asked for: a parser takes a second to build, and the others would not be used."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name == sys.argv[1]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        named = "Name of the run; default: that of the file which chooses the method, and the seed."
        parser.add_argument("--run", type=str | None, default=None, help=named)
        parser.add_argument(
            "--checkpoint_every", type=int, default=500, help="Steps between two savings of checkpoints/last.ckpt."
        )
        parser.add_class_arguments(WandbSettings, "wandb")
        if sys.argv[1] == "predict":
            parser.add_argument(
                "--output", type=str | None, default=None, help="The .npy file; default: embeddings.npy of the run."
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse them: they are those of `sys.argv`, but for the `--import` that only processes started from here read."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """The command line says what the model is; a checkpoint's own hyperparameters never override it."""

    def complete_config(self) -> Any:
        """The arguments of the command, with what follows from them and from the machine."""
        config = self.config[self.subcommand]
        if config.trainer.precision is None:
            config.trainer.precision = default_precision(config.trainer.accelerator)
        if self.subcommand == "fit":
            files = [str(file) for file in config.config or () if file is not None]  # None: YAML in the argument
            if not any(re.fullmatch("--run(=.*)?", argument) for argument in sys.argv):
                config.run = folder_of_config(files) or config.run
            if config.run is None:
                config.run = default_run_name(config.model.class_path, files, config.seed_everything)
                if "WANDB_SWEEP_ID" in os.environ:  # whose runs differ in more than method and seed
                    config.run += f"-{os.environ['WANDB_RUN_ID']}"
            self.config_text = self._parser("fit").dump(config, skip_none=False)
        return config

    def _set_seed(self) -> None:
        seed = self.config[self.subcommand].seed_everything
        if not isinstance(seed, bool) and isinstance(seed, int) and not 0 <= seed < 2**32:
            raise UserError(f"seed_everything must be between 0 and 2 ** 32 - 1, not {seed}")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        config = self.complete_config()
        trainer_settings.check(config.trainer, self.subcommand)
        if self.subcommand == "fit" and config.checkpoint_every < 1:
            raise UserError(f"checkpoint_every must be 1 or more steps, not {config.checkpoint_every}")
        _say(f"{config.trainer.precision} precision, seed {config.seed_everything}")
        if config.weights_only is False:
            raise UserError("weights_only false: a checkpoint could then run code when it is read: leave it out")
        config.weights_only = True
        if self.subcommand == "predict" and config.output is None:
            raise UserError("predict: say where to write the embeddings: --run NAME, or --output FILE.npy")
        if self.subcommand == "fit" and config.ckpt_path in ("last", "best", "hpc", "registry"):
            raise UserError(f"--ckpt_path {config.ckpt_path}: leave it out, a run goes on from its last checkpoint")
        if self.subcommand == "fit" and not config.trainer.fast_dev_run:
            self.run_directory = Run(config.run)
            self.resume = self.run_directory.resume_from(self.config_text)
            if self.resume is not None:
                config.ckpt_path = str(self.resume)
        if config.ckpt_path is not None:
            self._read_checkpoint(config)

    def _read_checkpoint(self, config: Any) -> None:
        """Take from the checkpoint what is needed before Lightning loads it.

        Raises:
            UserError: it is broken, that of another method, or not one of the run.
        """
        saved = check_checkpoint(config)
        self.step = int(saved["global_step"])
        tokenizer = Tokenizer(saved["ssl_nlp"]["tokenizer"])
        if self.resume is not None or self.same_data:
            Run(config.run).check_tokenizer(tokenizer.fingerprint(), config.ckpt_path)
        same = self.subcommand == "fit" or self.same_data
        trained_on = saved.get(TextDataModule.__qualname__, {}).get("splits", {})
        self.checkpoint = {"tokenizer": tokenizer, "trained_on": trained_on if same else {}}

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        if self.checkpoint is not None:
            self.datamodule.continue_with(**self.checkpoint)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        run = self.run_directory
        config = self.config_init[self.subcommand]
        if run is None:
            own: list[Callback] = []
            if self.subcommand == "fit":
                _say("fast_dev_run: nothing is kept")
                own = [Divergence(), Progress(), ValidationLine()]
            elif self.subcommand == "predict":
                own = [EmbeddingWriter(Path(config.output))]
            folder = Path.cwd() if config.run is None or self.subcommand == "fit" else Run(config.run).directory
            self.trainer_defaults["callbacks"] = trainer_settings.fit_into_run(config.trainer, own, folder)
            profiler = trainer_settings.profiler_in(folder, config.trainer.profiler)
            return super().instantiate_trainer(logger=False, profiler=profiler, **kwargs)
        step = None if self.resume is None else self.step
        if self.resume not in (None, run.last_checkpoint):
            _say(f"{run.last_checkpoint} is damaged or missing: {self.resume} is taken instead")
        _say(f"runs/{run.name}" + ("" if step is None else f" goes on at step {step:,}"))
        keeper = RunKeeper(run, self.config_text, config.wandb if config.trainer.logger is not False else None)
        own = [
            keeper,
            Divergence(),
            FinalValidation(),
            Throughput(),
            Samples(run.directory),
            CollapseMonitor(),
            Progress(),
            ValidationLine(),
            Checkpoints(run.checkpoints, config.checkpoint_every, resumes=step is not None),
        ]
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


class RunKeeper(Callback):
    """Begins the run when its first batch has gone through, so that a mistake of any kind leaves none, and finishes it."""

    def __init__(self, run: Run, config: str, wandb: WandbSettings | None) -> None:
        self.run, self.config, self.wandb = run, config, wandb
        self._lock: FileLock | None = None
        self._wandb_id = ""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._lock = self.run.lock()
            self._wandb_id = self.run.wandb_id()
            if self.wandb is not None:
                trainer.loggers += wandb_logger(self.wandb, self.run, self._wandb_id, yaml.safe_load(self.config))
        parameters = sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad)
        _say(f"{type(pl_module).__name__}: {parameters / 1e6:.2f} M parameters")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Method, *args: Any) -> None:  # type: ignore[override]
        if trainer.is_global_zero and not self.run.begun:
            self.run.begin(self.config, self._wandb_id, pl_module.tokenizer.fingerprint())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer_settings.weights_change_at_the_end(trainer):
            trainer.save_checkpoint(self.run.last_checkpoint)
        if trainer.is_global_zero:
            self.run.finish()
            _say(f"finished: {self.run.directory}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close(trainer, 0)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close(trainer, getattr(exception, "status", 1))

    def _close(self, trainer: Trainer, status: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=status)
        if self._lock is not None:
            self.run.abandon()
            self._lock.release()


class RunCli(Cli):
    """A command on a trained run and on its data, which have to be those that it was trained on."""

    same_data = True


class Plan(Cli):
    """`fit` as far as its configuration: nothing is created or trained."""

    def _set_seed(self) -> None:
        """The seed is that of another process."""

    def before_instantiate_classes(self) -> None:
        self.complete_config()

    def instantiate_classes(self) -> None:
        """Nothing is."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing runs."""


def run_trainer(arguments: list[str], imports: Sequence[str] = ()) -> None:
    """Run `fit`, `validate`, `test` or `predict`.

    Args:
        arguments: of the command, which comes first.
        imports: what `--import` has named.

    Raises:
        UserError: a mistake of the user's.
    """
    if len(names := _values(arguments, "--run")) > 1:
        raise UserError(f"--run is given {len(names)} times ({', '.join(names)}): give one")
    others = any(argument.startswith(("--data", "--config")) for argument in arguments)
    of_run = arguments[0] != "fit" and bool(names)
    with trainer_settings.lightning_errors():
        _run(RunCli if of_run and not others else Cli, arguments, imports)


def plan_fit(arguments: list[str], imports: Sequence[str] = ()) -> str:
    """The complete configuration, as YAML, of a `fit` with these arguments.

    Args:
        arguments: of the command.
        imports: what `--import` has named.

    Raises:
        UserError: a mistake of the user's.
    """
    before = sys.argv
    try:
        return _run(Plan, ["fit", *arguments], imports).config_text
    finally:
        sys.argv = before


def _run(cli: type[Cli], arguments: list[str], imports: Sequence[str]) -> Cli:
    quiet()
    arguments = with_paths(arguments)
    _check_configs(arguments)
    restrict_imports(imports)
    command, *rest = arguments
    sys.argv = [sys.argv[0], command, *as_options(imports), *rest]  # Lightning starts the processes of other devices so
    try:
        return cli(
            args=arguments if command == "fit" else _of_run(arguments),
            model_class=Method,
            datamodule_class=TextDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=None,
            load_from_checkpoint_support=False,
            auto_configure_optimizers=False,
            parser_class=TrainerParser,
            trainer_defaults={
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
            },
        )
    except UserError as error:
        if (unknown := unknown_option(str(error), arguments)) is None:
            raise
        raise UserError(f"there is no option {unknown}: {_help_with(unknown, arguments)}") from error
    except (ValueError, TypeError) as error:  # jsonargparse wraps what a constructor raises
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from None


def _help_with(option: str, arguments: Sequence[str]) -> str:
    """What to do about an option that there is not: the one that is meant, perhaps, and where all of them are listed."""
    option, chosen = option.replace(".init_args.", "."), None
    for file in _config_files(arguments):
        model = (yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}).get("model")
        chosen = (model.get("class_path") if isinstance(model, dict) else model) or chosen
    chosen = _option(arguments, "--model") or _option(arguments, "--model.class_path") or chosen
    name = str(chosen).rpartition(".")[2]
    kind = next((kind for kind in vars(methods).values() if getattr(kind, "__name__", None) == name), Method)
    known = ["--config", "--seed_everything", "--run", "--checkpoint_every", "--ckpt_path", "--output"]
    bases = (Corpus, Encoder, View)
    for root, place in (
        (kind, "--model"),
        (TextDataModule, "--data"),
        (WandbSettings, "--wandb"),
        (Trainer, "--trainer"),
    ):
        known += options_of(root, place, bases)
    if option in known:
        return "the class that is chosen has none of that name: choose another class, or leave it out"
    meant = nearest(option, known)
    if option.startswith("--model"):
        where = f"ssl-nlp fit --model.help {kind.__name__} lists those of the method"
    elif option.startswith("--data"):
        where = "ssl-nlp fit --data.help TextDataModule lists those of the data"
    else:
        where = "ssl-nlp fit --help lists those of a run, and fit --model.help CLASS those of a method"
    return f"did you mean {meant}? {where}" if meant else where


def _config_files(arguments: Sequence[str]) -> list[str]:
    """The files among the values of `--config`, which may also be YAML themselves."""
    return [file for file in _values(arguments, "--config") if os.path.isfile(file)]


def _check_configs(arguments: Sequence[str]) -> None:
    """Refuse configuration files that are not YAML of settings: the parser would not say which one it is."""
    for file in _config_files(arguments):
        try:
            content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"--config {file} is not UTF-8 at byte {error.start}: convert it") from error
        except yaml.YAMLError as error:
            raise UserError(f"--config {file} is not YAML ({' '.join(str(error).split())}): correct it") from error
        if content is not None and not isinstance(content, dict):
            raise UserError(f"--config {file} holds no settings: write `key: value`, as in configs/masked_lm.yaml")


def _of_run(arguments: list[str]) -> list[str]:
    """For commands on a trained run, `--run NAME` stands for what decides about its numbers, and its best checkpoint."""
    name = _option(arguments, "--run")
    if name is None:
        if not {"-h", "--help"} & set(arguments) and not _config_files(arguments):
            raise UserError(f"{arguments[0]} needs a run: ssl-nlp {arguments[0]} --run NAME")
        return arguments
    run = Run(name)
    if not run.config.exists():
        raise UserError(f"there is no run {run.name} in {RUNS.absolute()}: train it with ssl-nlp fit --run {run.name}")
    command, *rest = arguments
    added = [f"--ckpt_path={_option(arguments, '--ckpt_path') or run.best_checkpoint()}"]
    if command == "predict" and _option(arguments, "--output") is None:
        added.append(f"--output={run.directory / 'embeddings.npy'}")
    return [command, f"--config={settings_of_run(run)}", *rest, *added]


def _values(arguments: Sequence[str], name: str) -> list[str]:
    """The values of all `--name VALUE` and `--name=VALUE`."""
    joined = [argument.removeprefix(f"{name}=") for argument in arguments if argument.startswith(f"{name}=")]
    return [value for argument, value in pairwise(arguments) if argument == name] + joined


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value of the last `--name VALUE` or `--name=VALUE`; None if there is none."""
    return (_values(arguments, name) or [None])[-1]


def default_run_name(class_path: str, files: Sequence[str], seed: int) -> str:
    """The name of the YAML file that chooses the method, or else of the method, and the seed: `tsdae-seed0`."""
    name = checkpoints.find_class(class_path, Method).short_name
    for file in files:
        model = (yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}).get("model")
        chosen = model.get("class_path") if isinstance(model, dict) else model
        if str(chosen).rsplit(".", 1)[-1] == class_path.rsplit(".", 1)[-1]:  # a short name says the same
            name = as_name(Path(file).stem)
    return f"{name}-seed{seed}"


def folder_of_config(files: Sequence[str]) -> str | None:
    """The run whose `config.yaml` is the last of these files: it is called as its folder is, also if that was renamed."""
    configs = [Path(os.path.abspath(file)) for file in files]
    runs = [
        path.parent.name for path in configs if path.name == "config.yaml" and path.parent.parent == RUNS.absolute()
    ]
    return runs[-1] if runs else None


def default_precision(accelerator: object) -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """What the hardware does well: bfloat16 on GPUs and on CPUs that have instructions for it."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator in ("auto", "cpu") and cpu_multiplies_bfloat16() and not torch.backends.mps.is_available():
        return "bf16-mixed"
    return "32-true"


def check_checkpoint(config: Any) -> dict[str, Any]:
    """The content of the checkpoint that a command is to load.

    Raises:
        UserError: it is broken, or that of another method.
    """
    saved = checkpoints.read(config.ckpt_path)
    paths = (saved["ssl_nlp"]["method"]["class_path"], config.model.class_path)
    held, asked = (str(path).rsplit(".", 1)[-1] for path in paths)
    if held != asked:
        raise UserError(f"{config.ckpt_path} holds a {held}, not a {asked}: name a checkpoint of the same method")
    return saved


@rank_zero_only
def _say(line: str) -> None:
    say(line)
