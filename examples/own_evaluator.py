"""An evaluator in a file of its own: do embeddings tell a text from the same words shuffled?"""

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ssl_nlp.evaluation import Evaluator, Labelled, LabelledSplits, LinearProbe, Result


@dataclass(frozen=True)
class WordOrder(Evaluator):
    """A linear probe that tells lines of a text file from their shuffled words, trained on half of the lines."""

    path: str
    seed: int = 0

    @cached_property
    def chooser(self) -> LinearProbe:  # type: ignore[override]  # its validation part decides which pooling is used
        lines = [line for line in Path(self.path).read_text(encoding="utf-8").splitlines() if len(line.split()) > 3]
        parts = (self.both(lines[::2]), self.both(lines[1::4]), self.both(lines[3::4]))
        return LinearProbe(LabelledSplits("word order", *parts))

    def both(self, lines: list[str]) -> Labelled:
        draw = random.Random(self.seed)
        shuffled = [" ".join(draw.sample(line.split(), len(line.split()))) for line in lines]
        return Labelled(lines + shuffled, ["original"] * len(lines) + ["shuffled"] * len(lines))

    @property
    def texts(self) -> list[str]:
        return self.chooser.texts

    @property
    def validation(self) -> LinearProbe:  # type: ignore[override]  # the same on that part
        return self.chooser.validation

    def __call__(self, model: Any) -> Result:
        return self.chooser(model)
