"""Excerpts: the beginning of each evaluated text, which is all that any model or baseline gets.

An encoder cuts a text at its own `max_length`, in its own tokens, and a count of words reads all of it. So texts are cut
in characters first: everything that follows (models, baselines, the search for
overlap, bits per byte) sees the same characters. In a language that it was trained on, a tokenizer rarely makes more tokens
than there are characters, so that our encoders, which read 1,024 tokens unless they are told otherwise, read 1,000
characters to their end. Whether a model does is measured (`with_shares_read`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain

from ssl_nlp.corpora import Document
from ssl_nlp.corpora.base import Split
from ssl_nlp.corpora.splits import SplitCorpus
from ssl_nlp.data.words import boundaries
from ssl_nlp.evaluation.capabilities import Reader, Searcher, WordScorer
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.result import Result
from ssl_nlp.evaluation.run import evaluator_of

CHARACTERS = 1000
"""Characters of a text, unless the suite says otherwise."""
ALL = 0.9995
"""A share of characters from which on all are said to be read: 100.0 %."""
LONGEST_WORD = 50  # characters before and after the cut in which a boundary of words is looked for


def excerpt(text: str, characters: int | None = CHARACTERS) -> str:
    """At most the first `characters` of a text, without cutting a word; None: all of them.

    Words are found in any script. One of more than 50 characters is cut.

    >>> excerpt("The dog barks.", 9), excerpt("今天天气很好。", 3)
    ('The dog', '今天')
    """
    if characters is None or len(text) <= characters:
        return text
    start = max(0, characters - LONGEST_WORD)
    places = (start + place for place in boundaries(text[start : characters + LONGEST_WORD]))
    stop = max((place for place in places if start < place <= characters), default=characters)
    return text[:stop].rstrip() or text[:characters]


def document_excerpt(document: Document, characters: int | None) -> Document:
    """A document with the `excerpt` of its text and of its pair."""
    pair = None if document.pair is None else excerpt(document.pair, characters)
    return replace(document, text=excerpt(document.text, characters), pair=pair)


class Excerpts(SplitCorpus):
    """The excerpts of a corpus's documents, each in the split of its whole text; texts that begin alike are in one split.

    So a run that was trained on the train split of the same corpus has seen no text of valid or test.

    Args:
        corpus: of whole documents.
        characters: of an excerpt; None: all.
    """

    def __init__(self, corpus: SplitCorpus, characters: int | None) -> None:
        super().__init__(corpus.shares.get("valid"), corpus.shares.get("test"), corpus.paired)
        self._corpus, self._characters = corpus, characters

    @property
    def parts_may_share(self) -> bool:
        return True  # an excerpt, although no text

    def __str__(self) -> str:
        return str(self._corpus)

    def has(self, split: Split) -> bool:
        return self._corpus.has(split)

    def read(self, split: Split) -> Iterator[Document]:
        return (document_excerpt(document, self._characters) for document in self._corpus.read(split))

    def digested(self, split: Split) -> Iterator[tuple[list[bytes], Document]]:
        for _, document in self._corpus.digested(split):
            cut = document_excerpt(document, self._characters)
            yield self.digests_of(cut), cut

    def fingerprint(self) -> str:
        return f"{self._corpus.fingerprint()}-{self._characters}"


def with_shares_read(
    results: Mapping[str, Result], evaluators: Mapping[str, Evaluator], model: object
) -> dict[str, Result]:
    """Results of a model with the share of the characters that it reads (`Result.read`), where it can say so.

    Prompts have numbers of their own for this (`prompts_cut`): their texts are only a part of what is read. Of texts that
    are to be written, nothing is read.

    Args:
        results: by evaluator, or by PART.EVALUATOR.
        evaluators: by name.
        model: that the results are of.
    """
    if not isinstance(model, Reader):
        return dict(results)
    texts = {
        name: dict.fromkeys([*evaluator.texts, *chain(*evaluator.item_texts)])
        for name, evaluator in evaluators.items()
        if evaluator.needs not in (Searcher, WordScorer)
    }
    every = [*dict.fromkeys(chain(*texts.values()))]
    counts = dict(zip(every, model.characters_read(every), strict=True))
    shares = {
        name: sum(counts[text] for text in own) / total for name, own in texts.items() if (total := sum(map(len, own)))
    }
    return {name: replace(one, read=shares.get(evaluator_of(name, evaluators))) for name, one in results.items()}
