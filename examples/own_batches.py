"""Batches made in a file of its own: each row is a paragraph."""

from ssl_nlp.corpora import Document
from ssl_nlp.data import Sentences


class Paragraphs(Sentences):
    """Rows of one paragraph each, in batches of similar lengths. Blank lines separate paragraphs.

    Args:
        shortest_text: characters of the shortest paragraph that is used.
    """

    def __init__(self, shortest_text: int = 20) -> None:
        self.shortest_text = shortest_text

    def texts(self, document: Document) -> list[str]:
        paragraphs = (" ".join(part.split()) for part in document.text.split("\n\n"))
        return [paragraph for paragraph in paragraphs if len(paragraph) >= self.shortest_text]
