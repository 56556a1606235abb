"""Where derived data lives, and how several processes agree on who builds it.

Everything that can be rebuilt (extracted corpora, trained tokenizers, token files) lies under one directory:
`$SSL_NLP_CACHE`, by default `~/.cache/ssl_nlp`. Deleting it loses nothing but time.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock


def cache_dir() -> Path:
    """The directory of all caches: `$SSL_NLP_CACHE`, else `$XDG_CACHE_HOME/ssl_nlp`, else `~/.cache/ssl_nlp`."""
    if path := os.environ.get("SSL_NLP_CACHE"):
        return Path(path).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ssl_nlp"


def fingerprint(*parts: Any) -> str:
    """A 16-digit hexadecimal key of plain data (anything that JSON can hold)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_once(directory: Path, build: Callable[[Path], None]) -> Path:
    """Return `directory`, letting `build` fill it first where it does not exist yet.

    One process builds, under a file lock, into a temporary sibling that takes its final name only when it is complete;
    the others wait. What a killed process left behind is therefore never mistaken for a cache.
    """
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if directory.is_dir():
            return directory
        for remains in directory.parent.glob(f".{directory.name}.*"):
            shutil.rmtree(remains)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            build(temporary)
            temporary.rename(directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return directory
