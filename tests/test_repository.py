"""Properties of the repository as a whole."""

import re
from pathlib import Path

import yaml

from ssl_nlp import __version__

ROOT = Path(__file__).parents[1]


def test_no_folder_of_the_package_or_the_tests_is_ignored():
    """Git would omit new files there, and ruff all files."""
    names = {path.name for top in ("ssl_nlp", "tests") for path in (ROOT / top).rglob("*") if path.is_dir()}
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    ignored = {line.strip("/") for line in lines if re.fullmatch(r"\w+/?", line)}
    assert not ignored & (names - {"__pycache__"})


def test_one_version_is_named_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"^## (\S+) \((.*)\)$", changelog, flags=re.MULTILINE).groups()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert version == __version__ == citation["version"]
    assert date == str(citation["date-released"])


def test_the_reference_shows_every_module_of_objectives():
    modules = {path.stem for path in (ROOT / "ssl_nlp" / "objectives").glob("[!_]*.py")}
    shown = re.findall(r"^::: ssl_nlp\.objectives\.(\w+)$", (ROOT / "docs/reference/objectives.md").read_text(), re.M)
    assert shown == sorted(modules)


def test_every_digest_in_the_documentation_is_one_of_the_data_behind_the_figures():
    """A figure whose data changed would otherwise keep the digest of the old ones."""
    measured = (ROOT / "docs/measured.md").read_text(encoding="utf-8")
    data = re.search(r"## The data\n(.*?)\n## ", measured, re.DOTALL).group(1)
    rows = [row for row in data.splitlines() if re.match(r"\| (?!text|items)", row)]
    known = {row: re.findall("`([0-9a-f]{12})`", row) for row in rows}
    assert known
    assert not [row for row, digests in known.items() if not digests]
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").rglob("*.yaml")]
    named = {
        digest for page in pages for digest in re.findall('[`"]([0-9a-f]{12})[`"]', page.read_text(encoding="utf-8"))
    }
    assert named == {digest for digests in known.values() for digest in digests}
