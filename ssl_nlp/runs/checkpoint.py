"""Self-contained checkpoints that cannot run code: tensors and plain data, read with `weights_only=True`.

A checkpoint names classes. Each is looked up among those that Python has loaded; only `ROOMS` are ever imported. It must be
a public subclass of the type that the constructor's argument declares, and that type must be one of this package
(`Encoder`, `View`, ...) or a dataclass of settings. So a checkpoint from anybody is safe to load, and a class of the
user's own is known once the user has imported it, or named its file with `--import`.
"""

import hashlib
import inspect
import io
import os
import pickle
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from types import NoneType, UnionType
from typing import IO, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch

from ssl_nlp.errors import UserError
from ssl_nlp.runs.ancestry import is_ancestry
from ssl_nlp.runs.bases import is_base

T = TypeVar("T")

PACKAGE = __name__.split(".")[0]
ROOMS = (f"{PACKAGE}.methods", f"{PACKAGE}.tasks")  # which are imported when a checkpoint names a class of theirs
# What damaged bytes of an archive may raise.
_DAMAGE = (OSError, zipfile.BadZipFile, ValueError, RuntimeError, EOFError, LookupError, TypeError)
REMEDY = "if it is yours, name its file with --import FILE.py, or import it first in Python"


def describe(kind: type, init_args: dict[str, Any]) -> dict[str, Any]:
    """An object as plain data: the path of its class and the arguments of its constructor, dataclasses likewise."""
    plain = {name: _plain(value) for name, value in init_args.items()}
    return {"class_path": path_of(kind), "init_args": plain}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    if is_dataclass(value) and not isinstance(value, type):
        return describe(type(value), {field.name: getattr(value, field.name) for field in fields(value)})
    return value


def path_of(kind: type) -> str:
    """The public path of a class, such as `ssl_nlp.methods.MaskedLM`, which stays the same when its file moves."""
    folders = list(accumulate(kind.__module__.split("."), "{}.{}".format))
    for folder in folders if folders[0] == PACKAGE else []:
        public = getattr(sys.modules[folder], "__all__", ())
        if kind.__name__ in public and getattr(sys.modules[folder], kind.__name__) is kind:
            return f"{folder}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


# ------------------------------------------------------------------------------------------------- from plain data


def instantiate(
    description: Any, base: type[T], overrides: dict[str, Any] | None = None, where: str = "the checkpoint"
) -> T:
    """The object that `describe` described. Everything is checked before it is created.

    Args:
        description: plain data of unknown origin.
        base: what the object has to be.
        overrides: arguments that take the place of those described.
        where: the file, for messages.

    Raises:
        UserError: a class is not known, or not one that belongs in its place; or its arguments do not fit.
    """
    return _create(description, (base,), overrides or {}, where)


def find_class(class_path: str, *bases: type, where: str = "the checkpoint") -> Any:
    """The class of that name, a public subclass of one of the bases. Only `ROOMS` are ever imported.

    Raises:
        UserError: there is none.
    """
    module, _, name = class_path.rpartition(".")
    if module in ROOMS:
        import_module(module)
    found = getattr(sys.modules.get(module), "__dict__", {}).get(name)
    if found is None:
        found = next((kind for kind in subclasses(bases) if class_path == path_of(kind)), None)
    if found is None and (module == "__main__" or module.split(".")[0] == PACKAGE):
        # A class of a script or notebook, which may have become a file since; or one of ours, whose files move.
        found = next((k for k in subclasses(bases) if name == k.__qualname__ and _may_move(k, module)), None)
    if found is None:
        raise UserError(f"{where} needs the class {class_path}, which is not known: {REMEDY}")
    if not (isinstance(found, type) and issubclass(found, bases) and not found.__name__.startswith("_")):
        names = " or ".join(base.__name__ for base in bases)
        article = "an" if names[0] in "AEIO" else "a"
        raise UserError(
            f"{where} holds a {class_path}, not {article} {names}: do not use it if you do not know who made it"
        )
    return found


def _may_move(kind: type, module: str) -> bool:
    """Whether a class may have been in a module before: a class of ours is only replaced by one of ours."""
    return module == "__main__" or kind.__module__.split(".")[0] == PACKAGE


def subclasses(bases: Iterable[type]) -> Iterator[type]:
    """The loaded subclasses of the bases, and the bases themselves; the one defined last comes first."""
    for base in reversed(list(bases)):
        yield from subclasses(type.__subclasses__(base))
        yield base


def _create(description: Any, bases: tuple[type, ...], overrides: dict[str, Any], where: str) -> Any:
    if not _is_description(description):
        raise UserError(f"{where} has a broken description of its {bases[0].__name__}: copy or train it again")
    kind = find_class(description["class_path"], *bases, where=where)
    given, declared = description["init_args"], _declared(kind)
    unknown = [name for name in given if name not in declared]
    if unknown and not _takes_others(kind):
        raise UserError(
            f"{where}: {kind.__name__} has no argument {unknown[0]!r}: another version of the class made the checkpoint"
        )
    if lacking := [name for name in getattr(kind, "needed_in_checkpoints", ()) if given.get(name) is None]:
        raise UserError(f"{where}: its {kind.__name__} has no {lacking[0]!r}, without which it would read other files")
    if reading := [name for name in getattr(kind, "absent_in_checkpoints", ()) if given.get(name) is not None]:
        raise UserError(f"{where}: its {kind.__name__} has {reading[0]!r}, which would read other files")
    ours = kind.__module__.split(".")[0] == PACKAGE  # the type hints of other classes may be wrong
    arguments = {
        name: _object(value, declared.get(name, Any), f"{where}: {kind.__name__}.{name}", ours)
        for name, value in given.items()
    }
    try:
        return kind(**arguments | overrides)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: its {kind.__name__} cannot be created from its arguments ({error})") from error


def _takes_others(kind: type) -> bool:
    """Whether a class of the user's own reads arguments from its **kwargs, which have no declaration."""
    init = vars(kind).get("__init__")
    if kind.__module__.split(".")[0] == PACKAGE or not inspect.isfunction(init):
        return False
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(init).parameters.values())


def _is_description(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"class_path", "init_args"}:
        return False
    return isinstance(value["class_path"], str) and isinstance(value["init_args"], dict)


def _object(value: Any, declared: Any, where: str, checks: bool) -> Any:
    """A value in which each description is replaced by the object that it describes.

    Args:
        declared: the type of its argument.
        where: the argument, for messages.
        checks: whether a plain value has to be of that type.
    """
    types = _alternatives(declared)
    described = isinstance(value, dict) and "class_path" in value
    if checks and not described and not any(_is_plain_of(value, kind) for kind in types):
        names = " or ".join(map(_named, types))
        raise UserError(f"{where} is {repr(value)[:40]}, not {names}: it was made by another version of the class")
    if isinstance(value, list | tuple):
        return type(value)(_object(part, _elements(types), where, checks) for part in value)
    if not isinstance(value, dict):
        return value
    if not described:
        return {key: _object(part, _values(types), where, checks) for key, part in value.items()}
    if bases := tuple(kind for kind in types if _is_creatable(kind)):
        return _create(value, bases, {}, where)
    if any(_is_mapping(kind) for kind in types):
        return value  # plain data that happen to have a key `class_path`
    raise UserError(f"{where} is described as {value['class_path']}, but the class declares no type of its own for it")


def _is_plain_of(value: Any, kind: Any) -> bool:
    """Whether plain data have a type, except for descriptions; True for types that plain data cannot have."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return kind is float or value == value // 1  # a whole number may be written as a float
    if kind in (bool, int, float, str, NoneType):
        return type(value) is kind
    if _is_mapping(kind):
        return isinstance(value, dict)
    if _is_sequence(kind):
        return isinstance(value, list | tuple)
    return not _is_creatable(kind)


def _named(kind: Any) -> str:
    literals = get_args(kind) if get_origin(kind) is Literal else ()
    return " or ".join(map(repr, literals)) or getattr(kind, "__name__", str(kind))


def _is_creatable(kind: Any) -> bool:
    return isinstance(kind, type) and (is_dataclass(kind) or kind.__module__.split(".")[0] == PACKAGE)


def _alternatives(declared: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    if get_origin(declared) is Annotated:
        declared = get_args(declared)[0]
    if get_origin(declared) in (Union, UnionType):
        return tuple(kind for member in get_args(declared) for kind in _alternatives(member))
    return (declared,)


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_sequence(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str


def _elements(types: tuple[Any, ...]) -> Any:
    """The type of the elements of the lists and tuples among types."""
    sequences = [kind for kind in types if _is_sequence(kind)]
    return _union(part for kind in sequences for part in get_args(kind) if part is not ...)


def _values(types: tuple[Any, ...]) -> Any:
    """The type of the values of the mappings among types."""
    return _union(part for kind in types if _is_mapping(kind) for part in get_args(kind)[1:])


def _union(types: Iterable[Any]) -> Any:
    parts = tuple(types)
    return Union[parts] if parts else Any  # noqa: UP007  # the types are not known before


def _declared(kind: type) -> dict[str, Any]:
    """The types of all arguments of a constructor, including those that it passes on as **kwargs.

    Where a class repeats an argument of its base without a type, that of the base holds.
    """
    declared: dict[str, Any] = {}
    open_ended = True
    for cls in kind.__mro__:
        init = vars(cls).get("__init__")
        if not inspect.isfunction(init):
            continue
        try:
            hints = get_type_hints(init)
        except NameError:  # types that are imported for type checkers only
            hints = {}
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                known = declared.get(parameter.name, Any if open_ended else None)
                if known is Any:
                    declared[parameter.name] = hints.get(parameter.name, Any)
        open_ended = open_ended and any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return declared


def read(
    path: str | os.PathLike[str], map_location: str | torch.device = "cpu", lazily: bool = False, checked: bool = False
) -> dict[str, Any]:
    """The content of a checkpoint file.

    Args:
        path: the file.
        map_location: where its tensors go.
        lazily: read a tensor from the file only when it is used, if the plain data beside them are all that is needed.
        checked: `is_complete` was true of the file, which takes half as long as reading it.

    Raises:
        UserError: the file is missing, broken or unfinished, or not a checkpoint of a method.
    """
    path = _existing(path)
    return _load(path, path, map_location, lazily, checked)


def read_with_digest(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """The content of a checkpoint file and its `digest`, from reading it once.

    Raises:
        UserError: as for `read`.
    """
    path = _existing(path)
    content = path.read_bytes()
    return _load(path, io.BytesIO(content)), hashlib.sha256(content).hexdigest()


def digest(path: Path) -> str:
    """A key of a file's content: its SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_complete(file: Path | IO[bytes]) -> bool:
    """Whether a checkpoint file is as it was written; torch does not compare the check sums when it loads one."""
    try:
        with zipfile.ZipFile(file) as parts:
            return parts.testzip() is None
    except (*_DAMAGE, struct.error, zlib.error):
        return False


def _existing(path: str | os.PathLike[str]) -> Path:
    if not (path := Path(path)).is_file():
        raise UserError(f"no checkpoint at {path}: name a .ckpt file, such as runs/NAME/checkpoints/last.ckpt")
    return path


def _load(
    path: Path,
    file: Path | IO[bytes],
    map_location: str | torch.device = "cpu",
    lazily: bool = False,
    checked: bool = False,
) -> dict[str, Any]:
    """The content of `file`, which is that of `path`."""
    try:
        zipped = zipfile.is_zipfile(file)
    except _DAMAGE:
        zipped = False
    if not zipped:  # torch would read it as its old format, where foreign bytes raise anything
        raise UserError(f"{path} is not a complete checkpoint: copy or train it again")
    if not checked and not is_complete(file):
        raise UserError(f"{path} is damaged: copy or train it again")
    if not isinstance(file, Path):
        file.seek(0)
    try:
        saved = torch.load(file, map_location=map_location, weights_only=True, mmap=lazily)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise UserError(
            f"{path} holds {'a pickled object' if named is None else named[1]}, which could run code, so it is not read: "
            "name another one, and let your own callbacks keep tensors and plain data only"
        ) from error
    except _DAMAGE as error:
        raise UserError(f"{path} is not a complete checkpoint: copy or train it again") from error
    if not isinstance(saved, dict) or "ssl_nlp" not in saved:
        raise UserError(f"{path} is not a checkpoint of ssl_nlp: name one that ssl-nlp fit has written")
    described = saved["ssl_nlp"]
    known, optional = {"method", "tokenizer"}, {"ancestry", "base", "causal"}
    if not isinstance(described, dict) or described.keys() - optional != known or "state_dict" not in saved:
        raise UserError(f"{path} describes no method: copy or train it again")
    plain = isinstance(described["tokenizer"], str) and isinstance(described.get("causal"), bool | None)
    if not (plain and _is_description(described["method"]) and type(saved.get("global_step", 0)) is int):
        raise UserError(f"{path} describes no method: copy or train it again")
    if not is_ancestry(described.get("ancestry", [])):
        raise UserError(f"{path} has a broken ancestry: copy or train it again")
    if "base" in described and not is_base(described["base"]):
        raise UserError(f"{path} names no valid base of its adapter: copy or train it again")
    return saved
