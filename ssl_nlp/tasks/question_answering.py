"""Extractive question answering: the part of a text that answers a question, as for SQuAD (arXiv:1606.05250).

    loss = - (log p_start(first token of the answer) + log p_end(its last token)) / 2
    p_start, p_end = softmax over the tokens of the window, and of "no answer", of S·h_t, E·h_t

This is BERT's way (Devlin et al., arXiv:1810.04805, sections 4.2 and, for unanswerable questions, 4.3). A row is a question
and a window of the text (`ssl_nlp.data.Questions`). A window without the answer is trained to have none, at the first
position of the row; a causal encoder has read nothing there, and uses its last state. The answer is the span with the
highest S·h_i + E·h_j, i <= j, over all windows of the text; there is none if "no answer" is above it by `threshold`.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.corpora import Document, Span, Split
from ssl_nlp.data import Questions, TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.encoding import encode
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import Result, groups_of
from ssl_nlp.modules.heads import token_head
from ssl_nlp.modules.parts import added_by_parts
from ssl_nlp.modules.pooling import pool
from ssl_nlp.tasks.base import Task
from ssl_nlp.tasks.documents import pair_of_line
from ssl_nlp.tasks.scoring.answers import AnswerScorer, answer_scores, best_threshold
from ssl_nlp.terminal import say
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term

LENGTH = 384  # tokens of a row in predictions, unless said otherwise: those of BERT


class Candidate(NamedTuple):
    """The best answer of one window, as plain data.

    Attributes:
        document: the number of its document.
        first, last: tokens of the document.
        score: S·h_i + E·h_j.
        none: the same of "no answer".
        probability: p_start · p_end in its window.
    """

    document: int
    first: int
    last: int
    score: float
    none: float
    probability: float


class QuestionAnswering(Task):
    """The answer to a question as a part of a text. F1 as SQuAD's script counts it decides, or as CMRC's does.

    Args:
        encoder: turns tokens into hidden states, usually a trained one.
        scorer: `squad`, or for Chinese `cmrc`, which compares answers by characters.
        unanswerable: whether it may say that a question has no answer, as in SQuAD 2.
        threshold: by how much the score of "no answer" must exceed that of the best answer. A validation reports the best
            one as `best_threshold`.
        longest_answer: tokens of an answer.
        dropout: rate before the last layer.
        causal: whether a position of the encoder sees only what precedes it; null: as the encoder was made or trained.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    labels = "spans"
    units = ("sentence",)
    monitor = ("f1", True)
    loss_unit = "nats per window"
    pairs = True  # a row has two parts

    def __init__(
        self,
        encoder: Encoder | None = None,
        scorer: AnswerScorer = "squad",
        unanswerable: bool = False,
        threshold: float = 0.0,
        longest_answer: int = 30,
        dropout: float = 0.1,
        causal: bool | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, None, optimization, compile)
        if scorer not in ("squad", "cmrc"):
            raise UserError(f"scorer {scorer!r} is unknown: use squad or cmrc")
        if longest_answer < 1:
            raise UserError(f"longest_answer must be 1 or more, not {longest_answer}")
        self.scorer, self.unanswerable, self.threshold = scorer, unanswerable, threshold
        self.longest_answer, self.dropout, self.causal = longest_answer, dropout, causal
        self._documents: dict[str, list[Document]] = {}

    def build(self) -> None:
        self.head = token_head(self.encoder, 2, self.dropout)
        self.none = nn.Linear(self.encoder.dim, 2) if self.encoder.causal else None

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        if not isinstance(data.maker, Questions):
            raise UserError("QuestionAnswering reads questions with windows: set data.unit to ssl_nlp.data.Questions")

    def take_facts(self, data: TextDataModule, stage: str) -> None:
        super().take_facts(data, stage)
        self._documents = {}

    def take_counts(self, data: TextDataModule) -> None:
        """Warn if more than 1 % of the true answers are longer than `longest_answer`."""
        super().take_counts(data)
        store = data.counted
        contexts = range(0, len(store.starts) - 1, 2)  # the texts; their questions stand between them
        sizes = [stop - start for row in contexts for start, stop, _ in np.reshape(store.label(row), (-1, 3)).tolist()]
        longer = float(np.mean([size > self.longest_answer for size in sizes] or [False]))
        if longer > 0.01 and self.global_rank == 0:
            say(
                f"warning: longest_answer {self.longest_answer} is shorter than {longer:.0%} of the true answers, which "
                f"can never be found: set model.longest_answer, to {np.quantile(sizes, 0.99):.0f} for 99 % of them",
                file=sys.stderr,
            )

    def rows_and_parts(self, batch: TokenBatch) -> tuple[TokenBatch, Tensor]:
        """As `Task.rows_and_parts`: a question and a window, or a single text, which is the first part."""
        parts = torch.zeros_like(batch.input_ids)
        if batch.windows is not None:
            position = torch.arange(parts.shape[1], device=parts.device)
            parts = ((position >= batch.windows[:, :1]) & batch.is_text).long()
        return batch, parts

    def states(self, batch: TokenBatch) -> Tensor:
        """(B, T, D): those of a question and a window, or of a single text."""
        rows, parts = self.rows_and_parts(batch)
        return self.encoder(rows, added=added_by_parts(parts, self.encoder))

    def token_logits(self, hidden: Tensor, batch: TokenBatch) -> Tensor:
        """(B, T, 2) float32: the logits of the start and of the end at each token; at the first one, those of "no answer".

        Args:
            hidden: (B, T, D), the states of the batch.
            batch: B rows.
        """
        logits: Tensor = self.head(hidden).float()
        if self.none is None:
            return logits
        is_first = (torch.arange(hidden.shape[1], device=hidden.device) == 0).unsqueeze(-1)
        return torch.where(is_first, self.none(pool(hidden, batch, "last")).float().unsqueeze(1), logits)

    def outputs(self, batch: TokenBatch) -> Tensor:
        """(B, 2, T) float32: the logits of the start and of the end; -inf outside of the window and "no answer"."""
        if batch.windows is None:
            raise UserError("QuestionAnswering reads questions with windows: set data.unit to ssl_nlp.data.Questions")
        return self.from_logits(self.token_logits(self.states(batch), batch), batch)

    def from_logits(self, logits: Tensor, batch: TokenBatch) -> Tensor:
        """(B, 2, T): `token_logits` (B, T, 2), transposed, -inf outside of the window and "no answer"."""
        assert batch.windows is not None
        position = torch.arange(logits.shape[1], device=logits.device)
        possible = (position >= batch.windows[:, :1]) & (position < batch.windows[:, 1:2])
        possible[:, 0] = True
        return logits.masked_fill(~possible.unsqueeze(-1), -torch.inf).transpose(1, 2)

    def targets_of(self, batch: TokenBatch) -> Tensor:
        """(B, 2): the first and the last token of the answer, or both times the first position of the row."""
        assert batch.labels is not None
        first = F.pad(batch.labels, (0, 0, 0, 1), value=IGNORE_INDEX)[:, 0, :2]  # of several answers
        return torch.where(first == IGNORE_INDEX, 0, first - first.new_tensor([0, 1]))

    def loss_of(self, outputs: Tensor, batch: TokenBatch) -> Loss:
        total = F.cross_entropy(outputs.flatten(0, 1), self.targets_of(batch).flatten(), reduction="sum") / 2
        return Loss({"answer": Term(total, self.own_targets(batch)["answer"])})

    def own_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"answer": torch.tensor(len(batch), device=batch.input_ids.device)}

    def items(self, outputs: Tensor, batch: TokenBatch) -> list[Candidate]:
        assert batch.windows is not None and batch.documents is not None
        none, start, end = outputs[:, :, 0].sum(dim=1), outputs[:, 0].clone(), outputs[:, 1].clone()
        start[:, 0] = end[:, 0] = -torch.inf
        longest = min(self.longest_answer, start.shape[1])
        ends = F.pad(end, (0, longest - 1), value=-torch.inf).unfold(1, longest, 1)
        score, place = (start.unsqueeze(-1) + ends).flatten(1).max(dim=1)
        probability = (score - outputs.logsumexp(dim=2).sum(dim=1)).exp()
        first = place // longest - batch.windows[:, 0] + batch.windows[:, 2]
        columns = (batch.documents, first, first + place % longest, score, none, probability)
        return [Candidate(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def result(self, items: list[Candidate]) -> Result:
        """Exact match and F1 of the questions that were asked; with `unanswerable` also of each kind of question."""
        documents, best = self._split(), best_answers(items)
        asked = [documents[one.document] for one in best]
        rows, texts = [], []
        for document, one, (start, stop) in zip(asked, best, self._places(asked, best), strict=True):
            true = true_answers(document)
            if true is None:
                continue
            answered, refused = answer_scores(true, document.text[start:stop], self.scorer), float(not true)
            kept = (refused, refused) if self._refuses(one) else answered
            rows.append([*kept, one.none - one.score, answered.f1, refused])
            texts.append(document.text)
        if not rows:
            raise UserError("no question has answers to compare with: name their field in the corpus's `label`")
        exact, f1, margins, f1_answered, none = np.array(rows).T
        metrics = {"exact_match": float(exact.mean()), "f1": float(f1.mean())}
        if self.unanswerable:
            threshold, best_f1 = best_threshold(margins.tolist(), f1_answered.tolist(), none.tolist())
            metrics |= {"best_threshold": threshold, "best_f1": best_f1}
            for name, kind in (("answerable", 0.0), ("unanswerable", 1.0)):
                if (none == kind).any():
                    metrics[f"f1_{name}"] = float(f1[none == kind].mean())
        return Result("f1", metrics, items=f1, groups=groups_of(texts))

    def _refuses(self, best: Candidate) -> bool:
        return self.unanswerable and best.none - best.score > self.threshold

    def _split(self) -> list[Document]:
        """The documents of the split that is being validated, by number."""
        split: Split = "test" if self.trained and self.trainer.testing else "valid"
        if split not in self._documents:
            assert self._data is not None
            self._documents[split] = list(self._data.corpus.documents(split))
        return self._documents[split]

    def _places(self, documents: Sequence[Document], answers: Sequence[Candidate]) -> list[tuple[int, int]]:
        """The characters [start, stop) of the best answer in each document."""
        texts = list(dict.fromkeys(document.text for document in documents))  # several questions share one
        encoded = zip(texts, self.tokenizer.encode_with_offsets(texts), strict=True)
        tokens = {text: [token for token in offsets if token is not None] for text, (_, _, offsets) in encoded}
        places = []
        for one, document in zip(answers, documents, strict=True):
            inside = tokens[document.text][one.first : one.last + 1] if one.score > -np.inf else []
            places.append((inside[0][0], inside[-1][1]) if inside else (0, 0))
        return places

    # ------------------------------------------------------------------------------------------------------- predictions

    def document_of_line(self, line: str, number: int) -> Document:
        return pair_of_line(line, number, "a text and a question")

    def batches_of(
        self, documents: Sequence[Document], batch_size: int, data: TextDataModule | None = None
    ) -> Iterator[tuple[list[int], TokenBatch]]:
        """As `Task.batches_of`: batches of windows, and the places of their documents."""
        length = min(self.encoder.max_length, LENGTH if data is None else data.length)
        maker = Questions(overlap=min(64, length // 4), question=min(64, length // 3))
        if data is not None and isinstance(data.maker, Questions):
            maker = data.maker
        encoded = encode(documents, [maker.texts(document) for document in documents], self.tokenizer)
        windows = []
        for place, (text, question) in enumerate(encoded):
            windows += [(place, [row]) for row in maker.windows(text, question, self.tokenizer, length)]
        windows.sort(key=lambda item: len(item[1][0].ids))
        for start in range(0, len(windows), batch_size):
            some = windows[start : start + batch_size]
            yield [place for place, _ in some], maker.batch(some, self.tokenizer, length)

    @torch.no_grad()
    def predict_records(
        self, documents: Sequence[Document], batch_size: int = 64, data: TextDataModule | None = None
    ) -> list[dict[str, Any]]:
        """As `Task.predict_records`, of texts whose pair is a question.

        The `prediction` is a part of the text, from `start` to `stop`, or an empty text if there is no answer. Its
        `probability` is that in its window.
        """
        with self.evaluating():
            items: list[Candidate] = []
            for _, batch in self.batches_of(documents, batch_size, data):
                batch = batch.to(self.device)
                items += self.items(self.outputs(batch), batch)
        best = best_answers(items)
        records = []
        for document, one, (start, stop) in zip(documents, best, self._places(documents, best), strict=True):
            if self._refuses(one):
                start = stop = 0
            given = {"id": document.id, "text": document.text, "pair": document.pair, "label": true_answers(document)}
            found = {
                "prediction": document.text[start:stop],
                "start": start,
                "stop": stop,
                "probability": one.probability,
            }
            records.append({name: value for name, value in given.items() if value is not None} | found)
        return records

    def sample_documents(self, documents: list[Document]) -> list[dict[str, str]]:
        return [
            {"question": record["pair"], "answer": record["prediction"], "true": " | ".join(record.get("label", []))}
            for record in self.predict_records(documents)
        ]


def best_answers(items: Sequence[Candidate]) -> list[Candidate]:
    """The best answer of each document over all of its windows, and the lowest score of "no answer" among them."""
    best: dict[int, Candidate] = {}
    for one in sorted(items, key=lambda item: (item.document, -item.score, item.first)):
        first = best.setdefault(one.document, one)
        best[one.document] = first._replace(none=min(first.none, one.none))
    return list(best.values())


def true_answers(document: Document) -> list[str] | None:
    """The answers that a document has, none if its question is unanswerable; None if they are not known."""
    if not isinstance(document.label, tuple):
        return None
    return [document.text[span.start : span.stop] for span in document.label if isinstance(span, Span)]
