"""The options that a class has as part of a configuration: its constructor's arguments, with their docstrings."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, is_dataclass
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import docstring_parser

from ssl_nlp.runs.checkpoint import PACKAGE, path_of, subclasses


class Option(NamedTuple):
    """An option as help shows it.

    Attributes:
        name: such as `--data.length`.
        value: what a configuration or else the constructor sets it to, as it is typed.
        text: what the docstring says about it.
        hint: its type.
    """

    name: str
    value: str
    text: str
    hint: Any = None


def class_options(kind: type, option: str, config: Mapping[str, Any]) -> Iterator[Option]:
    """The options of a class, those of settings among its arguments included.

    Args:
        kind: the class.
        option: how the class itself is set, such as `--model`.
        config: settings that take the place of defaults.
    """
    texts, hints = _texts(kind), get_type_hints(kind.__init__)
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        full, hint = f"{option}.{name}", hints.get(name)
        if settings := [part for part in (hint, *get_args(hint)) if is_dataclass(part) and isinstance(part, type)]:
            nested = [*class_options(settings[0], full, config)]
            if not any(part in (int, float, str) for part in get_args(hint)):  # which would do as well
                yield from nested
                continue
        else:
            nested = []
        value = _configured(config, full, parameter.default)
        required = "CLASS" if isinstance(hint, type) and hint not in (bool, int, float, str) else "VALUE"
        shown = required if value is parameter.empty else as_typed(value)
        yield Option(full, shown, texts.get(name, ""), hint)
        yield from nested


def _configured(config: Any, option: str, default: Any) -> Any:
    """The value of an option in a configuration, or else the default."""
    for name in option.removeprefix("--").split("."):
        if isinstance(config, dict):
            config = config.get("init_args", config)
        if not isinstance(config, dict) or name not in config:
            return default
        config = config[name]
    return config


def _texts(kind: type) -> dict[str, str]:
    """Descriptions of the arguments, from the docstrings of a class, its bases and their constructors."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        for source in (base, vars(base).get("__init__")):
            for argument in docstring_parser.parse_from_object(source).params if source is not None else ():
                texts[argument.arg_name] = " ".join((argument.description or "").split())
    return texts


def summary(kind: type) -> str:
    """The first sentences of a class's docstring."""
    return " ".join((docstring_parser.parse(kind.__doc__ or "").short_description or "").split())


def choices(base: type) -> list[type]:
    """The public classes that a configuration can choose where `base` is wanted, by name."""
    kinds = [kind for kind in subclasses([base]) if kind is not base and not inspect.isabstract(kind)]
    ours = [kind for kind in kinds if kind.__module__.split(".")[0] == PACKAGE]
    inner = [kind for kind in ours if path_of(kind) == f"{kind.__module__}.{kind.__qualname__}"]  # no folder exports it
    return sorted({*kinds} - {*inner}, key=lambda kind: kind.__name__)


def as_typed(value: Any) -> str:
    """A value as it is typed on the command line; classes by their names."""
    if value is MISSING or repr(value) == "<factory>":  # of a dataclass: an empty list
        return "[]"
    if isinstance(value, dict):
        return str(value["class_path"]).rpartition(".")[2] if "class_path" in value else "{...}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_typed, value))}]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def type_name(hint: Any) -> str:
    """A type in the words of YAML: `float or null`, `cosine, linear or constant`."""
    if get_origin(hint) is dict:
        return "mapping"
    parts = get_args(hint)
    if words := [part for part in parts if isinstance(part, str)]:
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    if parts and not isinstance(hint, type):
        return " or ".join(dict.fromkeys(map(type_name, parts)))
    names = {"NoneType": "null", "str": "text", "bool": "true or false"}
    name = str(getattr(hint, "__name__", hint))
    return names.get(name, name)
