"""Texts written from others, such as translations and summaries, against references."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ssl_nlp.evaluation.capabilities import Searcher
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.generated_text import score_texts
from ssl_nlp.evaluation.result import Result

SHOWN = 5  # outputs that are kept in the details


@dataclass(frozen=True)
class WrittenTexts(Evaluator):
    """BLEU, chrF and ROUGE (`score_texts`) of what a model writes from each source.

    Attributes:
        sources: what it reads.
        references: a text for each source.
        valid: other sources with their references, for validation.
    """

    needs: ClassVar[Any] = Searcher
    sources: Sequence[str]
    references: Sequence[str]
    valid: "WrittenTexts | None" = None

    @property
    def item_texts(self) -> list[tuple[str, ...]]:
        """The references: what a model has read it may repeat."""
        return [(text,) for text in self.references]

    @property
    def validation(self) -> "WrittenTexts | None":
        return self.valid

    def __call__(self, model: Searcher) -> Result:
        outputs = model.predict(self.sources)
        result = score_texts(outputs, self.references)
        return replace(result, details=result.details | {"outputs": outputs[:SHOWN]})
