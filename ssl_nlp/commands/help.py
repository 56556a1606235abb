"""`fit --help` and the help of the other trainer commands: the common options on one screen, the rest by section.

It is made from the constructors and their docstrings. `--help all` is the parser's own help, which lists everything.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_origin

from lightning.pytorch import Trainer

from ssl_nlp.commands.arguments import config_files, read_config
from ssl_nlp.commands.class_options import Option, as_typed, choices, class_options, summary, type_name
from ssl_nlp.commands.model_classes import MODELS
from ssl_nlp.commands.options import OPTIONS, chosen_model_class
from ssl_nlp.commands.shipped import config_names, with_paths
from ssl_nlp.corpora import Corpus
from ssl_nlp.data import TextDataModule
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.tracking import WandbSettings
from ssl_nlp.training import Module, Optimization

WIDTH, COLUMN = 100, 43  # of the screen, of its texts
SECTIONS = ("model", "encoder", "optimization", "data", "trainer", "wandb", "all")
TASK = {
    "fit": "Train a run in runs/NAME. The same command resumes it; --extend trains it longer.",
    "validate": "Print the losses and metrics of a run's best checkpoint on the validation split.",
    "test": "Print the losses and metrics of a run's best checkpoint on the test split.",
    "predict": "Write the embeddings of the test split, or the predictions of a task, by a run's best checkpoint.",
}
BEST = (
    "The best checkpoint is best.ckpt, from the validation with the lowest loss or, for a task, the best value of its "
    "metric; last.ckpt where there was no validation, or where the run trained on one part of its data after the other."
)
COMMON = {  # where a docstring says it at length
    "seed_everything": "Seed of weights, order, masks and views.",
    "ckpt_path": "Another checkpoint to load: runs/NAME/checkpoints/last.ckpt.",
    "max_steps": "Optimizer steps until the end; -1 sets no limit.",
    "max_epochs": "Passes over the data until the end; -1: no limit.",
    "devices": "Number of devices, or auto for all of them.",
    "accelerator": "Hardware to compute on: cpu, gpu or auto.",
    "precision": "Such as 32-true or bf16-mixed; null suits the machine.",
    "accumulate_grad_batches": "Batches in one optimizer step.",
    "val_check_interval": "Batches, or share of an epoch, between validations.",
    "limit_val_batches": "Batches, or share of them, to read.",
    "limit_test_batches": "Batches, or share of them, to read.",
    "limit_predict_batches": "Batches, or share of them, to read.",
}


def help_wanted(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for help that this module gives; `--help all` is the parser's."""
    places = [place for place, argument in enumerate(arguments) if argument in ("-h", "--help")]
    return bool(places) and "all" not in arguments[places[0] + 1 : places[0] + 2]


def help_text(command: str, arguments: Sequence[str]) -> str:
    """The help that `--help` or `--help SECTION` asks for.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        arguments: those typed. The values of their configurations and the options of their model are shown.

    Raises:
        UserError: there is no such section.
    """
    place = next(place for place, argument in enumerate(arguments) if argument in ("-h", "--help"))
    section = next((name for name in arguments[place + 1 : place + 2] if not name.startswith("-")), "")
    if section not in ("", *SECTIONS):
        raise UserError(f"{command} --help {section}: there is no such section: use one of {', '.join(SECTIONS)}")
    arguments = with_paths([*arguments[:place], *arguments[place + 1 + bool(section) :]])
    config: dict[str, Any] = {}
    for file in config_files(arguments):
        config = _overlay(config, read_config(file))
    model = chosen_model_class(arguments)
    if section:
        return "\n".join(_section(section, model, config))
    return "\n".join(_fit_screen(model, config) if command == "fit" else _run_screen(command, config))


def _models() -> list[type]:
    """All methods, then all tasks."""
    return [kind for base in MODELS for kind in choices(base)]


# ------------------------------------------------------------------------------------------------------------- one screen


def _fit_screen(model: type[Module] | None, config: dict[str, Any]) -> list[str]:
    lines = ["usage: ssl-nlp fit --config CONFIG [--config OVERLAY]... [--OPTION=VALUE]...", TASK["fit"], ""]
    own = ["run", *_own(("run", "seed_everything", "checkpoint_every", "keep_every", "ckpt_path"), config), ""]
    if model is None:
        names = config_names()
        tasks = ", ".join(name.removeprefix("tasks/") for name in names if name.startswith("tasks/"))
        complete = [*(name for name in names if "/" not in name), f"tasks/NAME (NAME: {tasks})"]
        lines += _filled("CONFIG   a YAML file, or one of these: ", complete)
        overlays = [name for name in names if name.startswith(("data/", "encoder/", "trainer/"))]
        lines += _filled("OVERLAY  a YAML file that changes some settings, or one of these: ", overlays)
        lines += ["", *own, "model: CONFIG or --model CLASS chooses one of these, and --help then shows its options"]
        methods, tasks = (choices(base) for base in MODELS)
        lines += [f"  {kind.__name__:<15} {_cut(summary(kind), WIDTH - 18)}" for kind in methods]
        lines += _filled("  and ", [kind.__name__ for kind in tasks])
    else:
        lines += ["ssl-nlp fit --help lists all shipped configurations.", "", *own]
        lines += [_cut(f"model: {model.__name__}: {summary(model)}", WIDTH)]
        options = {option.name: option for option in class_options(model, "--model", config)}
        if encoder := options.pop("--model.encoder", None):
            lines += [_line(encoder._replace(value="CLASS") if encoder.value == "null" else encoder)]
            kinds = [kind for kind in choices(Encoder) if kind.__name__ == encoder.value]
            lines += [_line(next(class_options(kind, encoder.name, config))) for kind in kinds]
        skipped = ("--model.optimization.", "--model.compile")
        lines += [_line(option) for name, option in options.items() if not name.startswith(skipped)]
    if model is None or any(name.startswith("--model.optimization.") for name in options):  # not if it counts instead
        shown = ("optimizer", "learning_rate", "weight_decay", "schedule")
        lines += ["", "optimization", *_some(Optimization, "--model.optimization", shown, config)]
    shown = ("corpus", "tokenizer.vocab_size", "unit", "length", "batch_size")
    lines += ["", "data", *_some(TextDataModule, "--data", shown, config)]
    shown = ("max_steps", "devices", "precision", "accumulate_grad_batches", "val_check_interval")
    lines += ["", "trainer", *_some(Trainer, "--trainer", shown, config)]
    lines += [f"more: ssl-nlp fit --help SECTION ({', '.join(SECTIONS[:-1])} or {SECTIONS[-1]})"]
    return [*lines, "      ssl-nlp fit --config CONFIG --print_config shows every setting"]


def _run_screen(command: str, config: dict[str, Any]) -> list[str]:
    limits = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}
    lines = [f"usage: ssl-nlp {command} --run NAME [--OPTION=VALUE]...", TASK[command], *_filled("", BEST), ""]
    lines += ["run", *_own(("run", "ckpt_path", *(["output", "input"] if command == "predict" else [])), config)]
    shown = ("accelerator", "devices", "precision", limits[command])
    lines += ["", "trainer", *_some(Trainer, "--trainer", shown, config)]
    return [*lines, "", f"more: ssl-nlp {command} --help SECTION ({', '.join(SECTIONS[:-1])} or {SECTIONS[-1]})"]


def _own(names: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The lines of options that belong to no class."""
    defaults = {name: (default, text) for name, (_, default, text) in OPTIONS.items()}
    defaults |= {"seed_everything": (0, COMMON["seed_everything"]), "ckpt_path": (None, COMMON["ckpt_path"])}
    placeholders = {"keep_every": "null", "run": "NAME", "ckpt_path": "FILE", "output": "FILE", "input": "FILE"}
    lines = []
    for name in names:
        default, text = defaults[name]
        value = config.get(name, default)
        lines.append(_line(Option(f"--{name}", placeholders[name] if value is None else as_typed(value), text)))
    return lines


def _some(kind: type, option: str, names: Sequence[str], config: dict[str, Any]) -> list[str]:
    """The lines of some options of a class."""
    found = {shown.name: shown for shown in class_options(kind, option, config)}
    return [_line(found[f"{option}.{name}"]) for name in names]


def _line(option: Option) -> str:
    name = option.name.rpartition(".")[2]
    text = COMMON[name] if option.name.startswith("--trainer") else option.text
    start = f"  {option.name}={option.value}"
    words = type_name(option.hint)
    text = f"{words}: {text}" if get_origin(option.hint) is Literal else text[:1].upper() + text[1:]
    return f"{start:<{COLUMN}}  {_cut(text, WIDTH - max(len(start), COLUMN) - 2)}"


# ----------------------------------------------------------------------------------------------------------------- sections


def _section(section: str, model: type[Module] | None, config: dict[str, Any]) -> list[str]:
    if section == "model":
        groups = [(kind, "--model") for kind in ([model] if model else _models())]
    elif section == "encoder":
        groups = [(kind, "--model.encoder") for kind in choices(Encoder)]
    elif section == "data":
        modules = [TextDataModule, *choices(TextDataModule)]
        groups = [*((kind, "--data") for kind in modules), *((kind, "--data.corpus") for kind in choices(Corpus))]
    else:
        kinds = {"optimization": Optimization, "trainer": Trainer, "wandb": WandbSettings}
        groups = [(kinds[section], "--model.optimization" if section == "optimization" else f"--{section}")]
    lines = []
    for kind, option in groups:
        lines += [f"{option}={kind.__name__}" if len(groups) > 1 else option, *_filled("  ", summary(kind)), ""]
        for found in class_options(kind, option, config):
            if section == "model" and found.name.startswith("--model.optimization."):
                continue  # they have a section of their own
            lines += [f"  {found.name}={found.value}  ({type_name(found.hint)})", *_filled("      ", found.text)]
        lines += [""]
    return lines[:-1]


def _filled(start: str, text: str | Sequence[str]) -> list[str]:
    """A text, or items with commas, in lines of WIDTH; those after the first are indented."""
    text = text if isinstance(text, str) else ", ".join(text)
    indent = " " * (9 if start.strip() else len(start))
    return textwrap.wrap(start + text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _cut(text: str, width: int) -> str:
    """As much of a text as fits: its first sentence, the first clauses of it, or its first words."""
    sentence = text.split(". ")[0].rstrip(".")
    ends = [found.start() for found in re.finditer(r"[;:] | \(|$", sentence)]
    fitting = [end for end in ends if 0 < end <= width]
    return sentence[: max(fitting)] if fitting else textwrap.shorten(sentence, max(width, 4), placeholder=" ...")


def _overlay(below: Any, above: Any) -> Any:
    """Settings with those of a later file over them."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _overlay(below.get(key), value) for key, value in above.items()}
