"""What holds for the repository as a whole."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_no_folder_of_the_package_or_the_tests_is_ignored():
    """Git would leave out new files there, and ruff all of them."""
    names = {path.name for top in ("ssl_nlp", "tests") for path in (ROOT / top).rglob("*") if path.is_dir()}
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    ignored = {line.strip("/") for line in lines if re.fullmatch(r"\w+/?", line)}
    assert not ignored & (names - {"__pycache__"})
