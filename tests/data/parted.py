"""Texts of several parts, each with classes of its own that can be told from single words."""

import random
from pathlib import Path

CLASSES = {
    "animals": {"dog": "barks bone leash puppy", "cat": "purrs mouse whiskers kitten"},
    "food": {"bread": "flour oven crust loaf", "soup": "broth spoon ladle simmer"},
    "travel": {"train": "rails station ticket carriage", "ship": "harbour anchor deck sail"},
}
FILLER = ["the", "a", "of", "and", "with", "some", "very", "old", "new", "near"]


def rows(number, seed=0):
    """Rows (text, class, part), `number` for each class, the classes in turn. Texts of other seeds are others."""
    draw = random.Random(seed)
    found = []
    for i in range(number):
        for part, classes in CLASSES.items():
            for name, words in classes.items():
                text = [*draw.choices(words.split(), k=3), *draw.choices(FILLER, k=3), f"{seed}.{i}{name[0]}"]
                found.append((" ".join(text), name, part))
    return found


def write(path: Path, number: int, seed: int = 0, parts: tuple[str, ...] = tuple(CLASSES)) -> str:
    """A tsv file of such rows; returns its path."""
    lines = ["text\tintent\tdomain", *("\t".join(row) for row in rows(number, seed) if row[2] in parts)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)
