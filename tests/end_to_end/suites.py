"""Suites of one's own, with small data."""

from pathlib import Path

SUITE = """
name: mine
data:
  animals: {task: classification, train: labelled.tsv, valid: 0.2, test: 0.3, label: label}
  pairs: {task: similarity, test: scored.tsv, text: 0, pair: 1, score: 2}
"""


def write_suites(folder: Path) -> None:
    (folder / "mine.yaml").write_text(SUITE)
    other = SUITE.replace("mine", "other").replace("animals", "beasts").splitlines()
    (folder / "other.yaml").write_text("\n".join(other[:-1]))
    rows = [f"the {animal} sees {i} birds\t{animal}" for i in range(30) for animal in ("dog", "cat")]
    (folder / "labelled.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    (folder / "scored.tsv").write_text("".join(f"the dog {i}\tthe cat {i}\t{i % 5}\n" for i in range(20)))
