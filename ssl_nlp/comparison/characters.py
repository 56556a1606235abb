"""Sentences on rows of a comparison that have not read the same characters of the texts."""

from collections.abc import Sequence

from ssl_nlp.comparison.configuration import spoken
from ssl_nlp.comparison.types import Row
from ssl_nlp.evaluation.excerpts import ALL

LOST = {"examples_cut": "examples", "prompts_cut": "a part of their text"}


def cut_texts(rows: Sequence[Row], remedy: str) -> list[str]:
    """One sentence for each data set whose texts are too long for the encoder of a row.

    Args:
        rows: with the shares that they read.
        remedy: what to change.
    """
    return [
        f"The share of the characters of {data} that is read is {spoken(of_rows)}: {remedy}."
        for data, of_rows in shares_read(rows).items()
    ]


def shares_read(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """The share of its characters that each row reads, by data set and row, where a row does not read all of them."""
    shares: dict[str, dict[str, float]] = {}  # the least of the evaluators of a data set, by data set and row
    for row in rows:
        for key, share in row.read.items():
            suite, name = key.split("/")[:2]
            of_rows = shares.setdefault(name.rpartition(".")[0] or suite, {})
            of_rows[row.label] = min(share, of_rows.get(row.label, 1.0))
    return {
        data: {label: f"{share:.1%}" for label, share in of_rows.items()}
        for data, of_rows in shares.items()
        if min(of_rows.values()) < ALL
    }


def cut_prompts(rows: Sequence[Row]) -> list[str]:
    """One sentence for each kind of prompts that are too long for the encoder of a row."""
    said = []
    for key in dict.fromkeys(key for row in rows for key in row.scores if key.rpartition("/")[2] in LOST):
        of_rows = {row.label: row.scores[key].mean for row in rows if key in row.scores}
        if max(of_rows.values()) > 0:
            _, name, number = key.split("/")
            shares = spoken({label: f"{share:.1%}" for label, share in of_rows.items()})
            said.append(f"The share of the prompts of {name} that lose {LOST[number]} for lack of room is {shares}.")
    return said
