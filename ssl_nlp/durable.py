"""Files that are complete, old or new, even if the process is killed, the disk is full or the power fails.

A file is written beside the one that it replaces, flushed to the disk, and only then given its name. Moving it from a
temporary folder would not do: on another file system, a move is a copy over the old file.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ssl_nlp.errors import UserError

UNFINISHED = ".part"  # the end of the names of files that are being written


@contextmanager
def replacing(path: str | os.PathLike[str], keep: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary file that replaces `path` when the block ends, and leaves no trace if the block fails.

    Args:
        path: in a folder that exists.
        keep: new path of the file that is replaced; None discards it.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    with telling(path):
        descriptor, name = tempfile.mkstemp(UNFINISHED, f".{path.name}.", path.parent)
        try:
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            os.chmod(name, _mode(path))
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file by this text, as UTF-8.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    with replacing(path) as file:
        file.write(text.encode())


def sync_file(path: Path) -> None:
    """Make sure that the content of a file, if it exists, is on the disk."""
    if path.exists():
        with telling(path), path.open("rb") as file:
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk."""
    if os.name != "posix":  # a folder cannot be opened elsewhere
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove the unfinished files of killed processes from a folder, for one name or all; nobody may be writing them."""
    for path in folder.glob(f".{name}.*{UNFINISHED}"):
        path.unlink(missing_ok=True)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Report in one line which file could not be written, and why.

    Raises:
        UserError: instead of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}); nothing was changed. Free some space or fix the "
            "permissions, and run the command again"
        ) from error


def _mode(path: Path) -> int:
    """The permissions of the replaced file, or of a new file; those of `mkstemp` are private."""
    if path.exists():
        return path.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
