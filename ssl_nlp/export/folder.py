"""A folder that appears complete or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_nlp import durable
from ssl_nlp.errors import UserError


def check_free(path: Path) -> None:
    """Refuse a folder that exists.

    Raises:
        UserError: it does.
    """
    if path.exists() or path.is_symlink():
        raise UserError(
            f"{path} already exists, and nothing is overwritten: name another folder with --output, or move it"
        )


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `path` when the block ends, and leaves no trace if the block fails.

    Raises:
        UserError: `path` exists, or cannot be written.
    """
    check_free(path)
    with durable.telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(durable.UNFINISHED, f".{path.name}.", path.parent))
        try:
            yield folder
            for file in folder.rglob("*"):
                if file.is_file():
                    durable.sync_file(file)
            os.chmod(folder, 0o755)
            check_free(path)
            os.rename(folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        durable.sync_folder(path.parent)
