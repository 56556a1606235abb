"""`--import`: the user's own code, run before anything else, whose classes runs and checkpoints may name."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ssl_nlp.errors import UserError

OPTION = "--import"


def take_imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of a command without `--import NAME`, and the names.

    Raises:
        UserError: a name is missing.
    """
    left: list[str] = []
    named: list[str] = []
    given = iter(arguments)
    for argument in given:
        if argument == OPTION:
            named.append(next(given, ""))
        elif argument.startswith(f"{OPTION}="):
            named.append(argument.removeprefix(f"{OPTION}="))
        else:
            left.append(argument)
    if not all(named):
        raise UserError(f"{OPTION} needs a value: a file, such as my_method.py, or a module")
    return left, named


def as_options(named: Sequence[str]) -> list[str]:
    """The arguments that make another process import the same code."""
    return [f"{OPTION}={name}" for name in named]


def module_of(name: str) -> str:
    """The module that a file becomes (`my_method.py` is `my_method`), or the name itself if it is a module."""
    return Path(name).stem if _is_file(name) else name


def import_code(name: str) -> None:
    """Run a file, or import a module that is installed or in the working directory.

    A file becomes a module with its name, and can import the files beside it.

    Raises:
        UserError: there is no such file or module, its name is taken, or it fails.
    """
    module = module_of(name)
    folder = Path(name).absolute().parent if _is_file(name) else Path.cwd()
    if _is_file(name):
        _check_file(Path(name), module)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end, so that nothing in it hides a library
    importlib.invalidate_caches()
    try:
        if _is_file(name) and module not in sys.modules:
            _run(Path(name), module)
        else:
            importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the command cannot continue after a script that exits
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise UserError(f"{OPTION} {name} fails: {reason}{_line(error, name)}") from error


def _is_file(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _check_file(path: Path, module: str) -> None:
    if not path.is_file():
        raise UserError(f"{OPTION} {path}: there is no such file")
    if path.suffix != ".py":
        raise UserError(f"{OPTION} {path} is not a .py file: name one, or a module without a path")
    if not module.isidentifier():
        raise UserError(
            f"{OPTION} {path}: {module!r} cannot be the name of a module: rename it with letters, digits and _"
        )
    there = sys.modules.get(module)
    found = there.__spec__ if there is not None else importlib.util.find_spec(module)
    if found is not None and (found.origin is None or Path(found.origin).resolve() != path.resolve()):
        raise UserError(f"{OPTION} {path}: there is already a module {module}: rename the file")


def _run(path: Path, module: str) -> None:
    spec = importlib.util.spec_from_file_location(module, path.absolute())
    assert spec is not None  # the file is there
    assert spec.loader is not None
    sys.modules[module] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[module])
    except BaseException:
        del sys.modules[module]
        raise


def _line(error: BaseException, name: str) -> str:
    """The line of the user's file where the error happened, for the message."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).name == Path(name).name:
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f" (line {line})"
