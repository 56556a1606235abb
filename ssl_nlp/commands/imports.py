"""`--import`: the user's own code, which commands run before anything else, for classes that runs and checkpoints name."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ssl_nlp.errors import UserError

OPTION = "--import"


def take_imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of a command without every `--import NAME`, and what these name.

    Raises:
        UserError: one of them names nothing.
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
        raise UserError(f"{OPTION} names nothing: give it a file, such as my_method.py, or a module")
    return left, named


def as_options(named: Sequence[str]) -> list[str]:
    """What makes a process of its own import the same."""
    return [f"{OPTION}={name}" for name in named]


def module_of(name: str) -> str:
    """The module that a file becomes, or that is named itself: `my_method.py` is `my_method`."""
    return Path(name).stem if _is_file(name) else name


def import_code(name: str) -> None:
    """Run a file, or import a module that lies in the working directory or is installed.

    A file becomes a module of its name, which other files beside it can be imported by. What it defines is then known to
    this process, and stays so.

    Raises:
        UserError: there is nothing of this name, its name is taken, or it fails.
    """
    module = module_of(name)
    folder = Path(name).absolute().parent if _is_file(name) else Path.cwd()
    if _is_file(name):
        _check_file(Path(name), module)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # behind everything, so that nothing in it takes the place of a library
    importlib.invalidate_caches()
    try:
        if _is_file(name) and module not in sys.modules:
            _run(Path(name), module)
        else:
            importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a script that ends is not one that the command could go on after
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise UserError(f"{OPTION} {name} fails: {reason}{_line(error, name)}") from error


def _is_file(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _check_file(path: Path, module: str) -> None:
    if not path.is_file():
        raise UserError(f"{OPTION} {path}: there is no such file")
    if path.suffix != ".py":
        raise UserError(f"{OPTION} {path}: this is not a .py file: name one, or a module without its path")
    if not module.isidentifier():
        raise UserError(f"{OPTION} {path}: {module!r} cannot be the name of a module: use letters, digits and _")
    there = sys.modules.get(module)
    found = there.__spec__ if there is not None else importlib.util.find_spec(module)
    if found is not None and (found.origin is None or Path(found.origin).resolve() != path.resolve()):
        raise UserError(f"{OPTION} {path}: there is a module {module} already: rename the file")


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
    """Where in the user's file it happened."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).name == Path(name).name:
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f" (line {line})"
