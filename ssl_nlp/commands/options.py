"""The options of the trainer's commands: ours, those of each class, and the one that an unknown one may mean."""

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from lightning.pytorch import Trainer

from ssl_nlp.commands.arguments import chosen_model, config_files, read_config
from ssl_nlp.commands.complaints import nearest
from ssl_nlp.commands.model_classes import MODELS
from ssl_nlp.corpora import Corpus
from ssl_nlp.data import TextDataModule
from ssl_nlp.encoders import Encoder
from ssl_nlp.objectives.views import View
from ssl_nlp.runs.checkpoint import subclasses
from ssl_nlp.tracking import WandbSettings
from ssl_nlp.training import Module

# Beside those of the trainer, the model, the data and W&B: type, default, help.
OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "run": (str | None, None, "Name of the run. Default: the name of the configuration, and the seed."),
    "checkpoint_every": (int, 500, "Steps between two writes of checkpoints/last.ckpt."),
    "keep_every": (int | None, None, "Steps between two checkpoints that are kept, for evaluate --every."),
    "extend": (bool, False, "Train a run longer than it was planned to be: with a larger trainer.max_steps."),
    "output": (
        str | None,
        None,
        "The file to write: embeddings.npy of a method or predictions.jsonl of a task, in the run, by default.",
    ),
    "input": (
        str | None,
        None,
        "For tasks: a file with a text a line, a tab between those of a pair. Default: test split.",
    ),
}


def chosen_model_class(arguments: Sequence[str]) -> type[Module] | None:
    """The class of the method or task that the arguments choose, as far as they do and it is loaded."""
    name = str(chosen_model(arguments)).rpartition(".")[2]
    return next((kind for kind in subclasses(MODELS) if kind.__name__ == name), None)


def explain(option: str, arguments: Sequence[str]) -> str:
    """Advice on an unknown option: the one that may be meant, and where all of them are listed."""
    option, known = option.replace(".init_args.", "."), known_options(arguments)
    if option in known:
        return "the class that you chose has none of that name: choose another class, or leave it out"
    of_trainers_class = option.startswith("--trainer.") and option.count(".") > 1  # such as a callback
    meant = None if of_trainers_class else nearest(option, known)
    if option.startswith("--model."):
        kind = chosen_model_class(arguments) or Module
        where = f"ssl-nlp fit --model {kind.__name__} --help model lists the options of the model"
    elif option.startswith("--data."):
        where = "ssl-nlp fit --help data lists the options of the data"
    else:
        where = "ssl-nlp fit --help lists the most common options, and ssl-nlp fit --help all lists all of them"
    return f"did you mean {meant}? {where}" if meant else where


def known_options(arguments: Sequence[str]) -> list[str]:
    """The names of all options of the trainer's commands, as `options_of` finds them, and those that have parts."""
    known = ["--config", "--seed_everything", "--ckpt_path", *(f"--{name}" for name in OPTIONS)]
    roots = ((chosen_model_class(arguments) or Module, "--model"), (WandbSettings, "--wandb"), (Trainer, "--trainer"))
    for root, place in (*roots, *((module, "--data") for module in subclasses([TextDataModule]))):
        known += [place, *options_of(root, place, (Corpus, Encoder, View))]
    return [*known, *(f"{place}.{key}" for place in ("--model", "--data") for key in ("class_path", "init_args"))]


def options_of(kind: type, option: str, bases: tuple[type, ...] = (), within: tuple[type, ...] = ()) -> Iterator[str]:
    """The names of all options of a class: its arguments, and those of the classes that these may be.

    Args:
        kind: the class.
        option: how the class itself is set, such as `--model`.
        bases: of the classes whose subclasses a configuration chooses from.
        within: the classes that it is set in. None is entered again: a corpus may hold a corpus, which may hold a corpus.
    """
    for name, hint in get_type_hints(kind.__init__).items():
        if name == "return":
            continue
        yield f"{option}.{name}"
        for choice in _choices(hint, bases):
            if choice not in (*within, kind):
                yield from options_of(choice, f"{option}.{name}", bases, (*within, kind))


def _choices(hint: Any, bases: tuple[type, ...]) -> list[type]:
    if inspect.isclass(hint) and issubclass(hint, bases):
        return [hint, *(below for kind in hint.__subclasses__() for below in _choices(kind, bases))]
    if inspect.isclass(hint) and is_dataclass(hint):
        return [hint]
    return [kind for part in get_args(hint) for kind in _choices(part, bases)]


def unknown_complaint(message: str, arguments: Sequence[str]) -> str | None:
    """A plainer message for one about an unknown option or setting; None if the message is about something else."""
    if found := re.search(r"(?:(\S+): )?there is no option '([\w.-]+)'", message):
        place, name = found.groups()
    elif found := re.search(r"(?:(\S+): )?unrecognized arguments: (--[\w.-]+)", message):
        place, name = found[1], found[2].removeprefix("--")
    elif found := re.search(r"Subcommand '\w+' does not accept option '([\w.-]+)'", message):
        place, name = None, found[1]
    else:
        return None
    full = f"{place}.{name}" if place else name
    typed = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    option = next(
        (one for one in typed if one.replace(".init_args.", ".") == f"--{full}".replace(".init_args.", ".")), None
    )
    if option is None and (found_in := _file_that_sets(full, arguments)):
        return _complaint_about_file(*found_in, arguments)
    option = option or next((one for one in typed if one.endswith(f".{name}")), None)
    if option is None and (found_in := _file_that_sets(name, arguments, below=full.partition(".")[0])):
        return _complaint_about_file(*found_in, arguments)
    option = option or f"--{full}"
    return f"there is no option {option}: {explain(option, arguments)}"


def _complaint_about_file(file: str, name: str, arguments: Sequence[str]) -> str:
    """The message about an unknown setting in a file. It names the setting up to the first unknown part of its name."""
    known, parts = known_options(arguments), name.split(".")
    for number in range(1, len(parts)):
        start = "--" + ".".join(parts[:number])
        if not any(option == start or option.startswith(f"{start}.") for option in known):
            parts = parts[:number]
            break
    name = ".".join(parts)
    advice = explain(f"--{name}", arguments).replace("did you mean --", "did you mean ")
    return f"--config {file}: there is no setting {name}: {advice}"


def _file_that_sets(name: str, arguments: Sequence[str], below: str | None = None) -> tuple[str, str] | None:
    """The last configuration with a setting of this name, and its name.

    Args:
        name: dotted, with or without `init_args`; or its last part alone.
        arguments: of the command.
        below: the group that the setting is anywhere in, if `name` is the last part of its name.
    """
    name = name.replace(".init_args.", ".")
    for file in reversed(config_files(arguments)):
        for setting in _settings(read_config(file)):
            if setting == name or (below and setting.startswith(f"{below}.") and setting.endswith(f".{name}")):
                return file, setting
    return None


def _settings(node: object, place: str = "") -> Iterator[str]:
    """The dotted names of all settings in a configuration, without `init_args` and the numbers of lists."""
    if isinstance(node, list):
        for part in node:
            yield from _settings(part, place)
    elif isinstance(node, dict):
        for key, part in node.items():
            inside = place if key == "init_args" else f"{place}.{key}" if place else str(key)
            if key != "init_args":
                yield inside
            yield from _settings(part, inside)
