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


MISTAKES = {
    "no such run": (["nothing"], "there is no run nothing"),
    "a path elsewhere": (["somewhere/else"], "somewhere/else is neither"),
    "no such checkpoint": (["nothing.ckpt"], "no checkpoint at nothing.ckpt"),
    "a run without a checkpoint": (["empty"], "has no checkpoint"),
    "a broken checkpoint": (["broken.ckpt"], "broken.ckpt is not a complete checkpoint"),
    "no such model": (["pretrained:nowhere"], "no tokenizer at 'nowhere'"),
    "unknown suite": (["causal_lm", "--suite", "everything"], "there is no suite 'everything'"),
    "two suites": (["causal_lm", "--suite", "docs", "--config", "mine.yaml"], "name one"),
    "no config": (["causal_lm", "--config", "missing.yaml"], "missing.yaml"),
    "nothing at all": ([], "evaluate needs MODEL"),
    "one class": (["causal_lm", "--config", "one.yaml"], "only one class"),
    "no label field": (["causal_lm", "--config", "nolabel.yaml"], "no field `mark`"),
    "no number": (["causal_lm", "--config", "nonumber.yaml"], "is not a number"),
    "empty file": (["causal_lm", "--config", "empty.yaml"], "empty.tsv is empty"),
}
"""Arguments of `evaluate` that it refuses, and what its line says."""
