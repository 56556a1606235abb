"""Caches on disk, which one process builds while others wait, and whose damage is noticed.

Everything that can be rebuilt (extracted corpora, trained tokenizers, token files, embeddings, baselines) lies under one
directory: `$SSL_NLP_CACHE`, by default `~/.cache/ssl_nlp`. Deleting it costs nothing but time. Users may share it: files
have the permissions that the umask gives.
"""

import errno
import hashlib
import inspect
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash
from filelock import FileLock

from ssl_nlp.errors import UserError

DIGESTS = "digests.json"


def cache_dir() -> Path:
    """The directory of all caches: `$SSL_NLP_CACHE`, else `$XDG_CACHE_HOME/ssl_nlp`, else `~/.cache/ssl_nlp`."""
    if path := os.environ.get("SSL_NLP_CACHE"):
        return Path(path).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ssl_nlp"


def fingerprint(*parts: Any) -> str:
    """A 16-digit hexadecimal key of plain data (anything that JSON can hold)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def own_sources(kinds: Iterable[type], *bases: type) -> list[list[str]]:
    """Names and source files of classes that are not of this package, for keys that change with the code.

    Args:
        kinds: classes, whose base classes count too.
        bases: only their subclasses count.
    """
    package = __name__.partition(".")[0]
    own = {
        base
        for kind in set(kinds)
        for base in kind.__mro__
        if issubclass(base, bases) and base.__module__.partition(".")[0] != package
    }
    return sorted([kind.__qualname__, _source(kind)] for kind in own)


def _source(kind: type) -> str:
    """The file of a class; empty for a class of a notebook, which has none."""
    try:
        return inspect.getsource(sys.modules[kind.__module__])
    except (KeyError, OSError, TypeError):
        return ""


def build_once(directory: Path, build: Callable[[Path], None]) -> Path:
    """Return `directory`, after `build` has filled it if it does not exist yet or is damaged.

    One process builds, under a file lock, into a temporary sibling that gets its final name only when it is complete; the
    others wait. The remains of a killed process are therefore never mistaken for a cache. The digests of the files are
    kept beside them and checked in full each time: XXH3 is about as fast as a disk (5 GB/s from memory on one core), and
    the files have to be read anyway. Digests find accidents; they do not protect against somebody who can write to the
    directory.

    Raises:
        UserError: the cache directory cannot be read or written, or its disk is full.
    """
    with _explained(directory):
        if damage(directory) is None:
            return directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{directory}.lock"):
            if not _discard_if_damaged(directory, "building it again"):
                return directory
            for remains in directory.parent.glob(f".{directory.name}.*"):
                shutil.rmtree(remains)
            temporary = _sibling(directory)
            temporary.mkdir()
            try:
                build(temporary)
                (temporary / DIGESTS).write_text(json.dumps(_digests(temporary)), encoding="utf-8")
                temporary.rename(directory)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
    return directory


def intact(directory: Path) -> bool:
    """Whether `directory` is as `build_once` left it. A damaged one is removed, with one line on standard error.

    Raises:
        UserError: the cache directory cannot be read, or a damaged part of it cannot be removed.
    """
    with _explained(directory):
        if damage(directory) is None:
            return True
        with FileLock(f"{directory}.lock"):
            return not _discard_if_damaged(directory, "what it held is computed again")


def damage(directory: Path) -> str | None:
    """A description of the damage to a directory of `build_once`; None if it is intact."""
    if not directory.is_dir():
        return "it is not a directory"
    try:
        expected = json.loads((directory / DIGESTS).read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        return f"{DIGESTS} is missing"
    except ValueError:
        return f"{DIGESTS} cannot be read"
    if not isinstance(expected, dict):
        return f"{DIGESTS} cannot be read"
    for name, digest in expected.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != digest:
            return f"{name} has changed"
    return None


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(directory).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _discard_if_damaged(directory: Path, consequence: str) -> bool:
    """Remove `directory` if it is damaged, with one line unless it does not exist. The caller holds the lock.

    Returns:
        Whether `directory` is missing now.
    """
    reason = damage(directory)
    if reason is None:
        return False
    if os.path.lexists(directory):
        print(f"ssl-nlp: the cache {directory} is damaged ({reason}): {consequence}", file=sys.stderr, flush=True)
        aside = _sibling(directory)  # so that nobody finds it half removed
        directory.rename(aside)
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink()
    return True


def _sibling(directory: Path) -> Path:
    """A free name beside `directory`. `mkdtemp` would make a directory that nobody else can read."""
    return directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turn errors of the file system about the cache into one line for the user."""
    try:
        yield
    except OSError as error:
        ours = error.filename is not None and _related(Path(error.filename), cache_dir())
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not (ours or full):
            raise
        reason = error.strerror or str(error)
        raise UserError(
            f"the cache {directory} cannot be read or written ({reason}): "
            + ("free some space there, or " if full else "")
            + "set SSL_NLP_CACHE to a directory of your own"
        ) from error


def _related(one: Path, other: Path) -> bool:
    """Whether two paths are the same, or one lies below the other."""
    return one.is_relative_to(other) or other.is_relative_to(one)
