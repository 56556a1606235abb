"""Tagging: a class for each word, such as its part of speech, or the chunk or named entity that it belongs to.

    loss = - mean over words w of log p(tag_w | text)
    logits_w = head(h_t), t the first token of w

The state of a word's first token decides, as in BERT (Devlin et al., arXiv:1810.04805, section 5.3). The head is that of
the stock class for the encoder's model: `BertForTokenClassification`, or `ModernBertForTokenClassification` for our own.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.corpora import Document
from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.marks import first_tokens, words_to_tag
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import Result, groups_of
from ssl_nlp.modules.heads import token_head
from ssl_nlp.tasks.base import Task
from ssl_nlp.tasks.documents import cut, plain
from ssl_nlp.tasks.scoring.spans import PREFIXES, Scheme, mark_spans, span_scores
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term

SENTENCES = 10_000  # of the train split, the first ones, that decide whether characters are words


class Tagging(Task):
    """A tag for each word. Where tags mark spans, as B-PER and I-PER do, F1 of the spans decides; else token accuracy.

    Args:
        encoder: turns tokens into hidden states, usually a trained one.
        scheme: count only spans that are well-formed in it, as seqeval's mode `strict` does; null reads them leniently,
            as seqeval does by default.
        characters: whether each character is a word, as in Chinese; null takes it from the data.
        dropout: rate before the last layer.
        causal: whether a position of the encoder sees only what precedes it; null: as the encoder was made or trained.
        classes: the tags in the order of their numbers; null takes those of the data.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    labels = "tags"
    units = ("sentence",)
    monitor = ("accuracy", True)
    loss_unit = "nats per word"

    def __init__(
        self,
        encoder: Encoder | None = None,
        scheme: Scheme | None = None,
        characters: bool | None = None,
        dropout: float = 0.1,
        causal: bool | None = None,
        classes: list[str] | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, classes, optimization, compile)
        if scheme not in (None, *PREFIXES):
            raise UserError(f"scheme {scheme!r} is unknown: use {', '.join(PREFIXES)}, or leave it out")
        self.scheme, self.characters, self.dropout, self.causal = scheme, characters, dropout, causal
        self._from_data = characters is None

    def build(self) -> None:
        assert self.classes is not None
        self.marks_spans = mark_spans(self.classes)
        if self.scheme is not None:
            wrong = [tag for tag in self.classes if not self.marks_spans or tag[0] not in PREFIXES[self.scheme]]
            if wrong:
                raise UserError(
                    f"the tag {wrong[0]!r} is not one of the scheme {self.scheme}: correct it, or leave scheme out"
                )
        if self.marks_spans:
            self.monitor = ("f1", True)
        self.head = token_head(self.encoder, len(self.classes), self.dropout)

    def take_facts(self, data: TextDataModule, stage: str) -> None:
        super().take_facts(data, stage)
        if self.characters is None and stage == "fit":
            self.characters = _tags_characters(islice(data.corpus.documents("train"), SENTENCES))
            self.settle("characters", self.characters)

    def take_settled(self, arguments: Mapping[str, Any]) -> None:
        saved = arguments.get("characters")
        if self._from_data and saved is not None:  # an earlier version may have read the data otherwise
            self.characters = saved
            self.settle("characters", saved)

    def outputs(self, batch: TokenBatch) -> Tensor:
        """(B, T, C) logits."""
        logits: Tensor = self.head(self.states(batch))
        return logits

    def loss_of(self, outputs: Tensor, batch: TokenBatch) -> Loss:
        assert batch.labels is not None
        total = F.cross_entropy(
            outputs.flatten(0, 1).float(), batch.labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
        )
        return Loss({"tagging": Term(total, self.own_targets(batch)["tagging"])})

    def own_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        assert batch.labels is not None
        return {"tagging": (batch.labels != IGNORE_INDEX).sum()}

    def items(self, outputs: Tensor, batch: TokenBatch) -> list[tuple[list[int], list[int]]]:
        """The true tags of each row and those found, as numbers."""
        assert batch.labels is not None
        rows = zip(batch.labels.tolist(), outputs.argmax(dim=-1).tolist(), strict=True)
        kept = ([pair for pair in zip(*row, strict=True) if pair[0] != IGNORE_INDEX] for row in rows)
        return [([true for true, _ in pairs], [found for _, found in pairs]) for pairs in kept]

    def result(self, items: list[tuple[list[int], list[int]]]) -> Result:
        """Token accuracy and, where tags mark spans, precision, recall and F1 of all spans and the mean F1 of classes."""
        assert self.classes is not None
        right = np.array([a == b for true, found in items for a, b in zip(true, found, strict=True)], dtype=np.float64)
        metrics = {"accuracy": float(right.mean()) if len(right) else 0.0}
        if not self.marks_spans:
            of_row = np.repeat(np.arange(len(items)), [len(true) for true, _ in items])
            return Result("accuracy", metrics, items=right, groups=groups_of(of_row.tolist()))
        true, found = ([[self.classes[tag] for tag in row[side]] for row in items] for side in (0, 1))
        scores, kinds, counts = span_scores(true, found, self.scheme)
        return Result("f1", metrics | scores, details={"classes": kinds}, items=counts, statistic="f1")

    @torch.no_grad()
    def predict_records(
        self, documents: Sequence[Document], batch_size: int = 64, data: TextDataModule | None = None
    ) -> list[dict[str, Any]]:
        """As `Task.predict_records`. The `prediction` is a list of words.

        A word has `word`, `start` and `stop` (its characters in the text), `tag` and the tag's `probability`. The last two
        are None for a word that has no token of its own, or whose tokens were cut off.
        """
        assert self.classes is not None
        with self.evaluating():
            found: list[dict[str, Any]] = [{} for _ in documents]
            for places, batch in self.batches_of(documents, batch_size, data):
                best = self.outputs(batch.to(self.device)).float().softmax(dim=-1).max(dim=-1)
                texts = [documents[place].text for place in places]
                rows = zip(
                    places, texts, self.tokenizer.encode_with_offsets(texts), best.values.tolist(), best.indices.tolist(),
                    strict=True,
                )  # fmt: skip
                for place, text, (_, _, tokens), probabilities, tags in rows:
                    spans = words_to_tag(text, bool(self.characters))
                    words: list[dict[str, Any]] = [
                        {"word": text[start:stop], "start": start, "stop": stop, "tag": None, "probability": None}
                        for start, stop in spans
                    ]
                    for position, word in first_tokens(spans, tokens[: len(tags)]):
                        words[word] |= {"tag": self.classes[tags[position]], "probability": probabilities[position]}
                    found[place] = plain(documents[place]) | {"prediction": words}
        return found

    def sample_documents(self, documents: list[Document]) -> list[dict[str, str]]:
        records = self.predict_records([cut(document) for document in documents])
        return [
            {"text": record["text"], "tags": " ".join(f"{word['word']}/{word['tag']}" for word in record["prediction"])}
            for record in records
        ]


def _tags_characters(documents: Iterable[Document]) -> bool:
    """Whether most sentences of several words have a tag for each character.

    Some sentences of either kind look like the other: letters and digits in Chinese tagged by character, and words of one
    character each in Chinese tagged by word.
    """
    labels = ((document.text, document.label) for document in documents)
    by_word = [len(text.split()) == len(tags) for text, tags in labels if isinstance(tags, tuple) and len(tags) > 1]
    return 2 * sum(by_word) < len(by_word)
