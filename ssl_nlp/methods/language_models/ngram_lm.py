"""The n-gram language model with interpolated modified Kneser-Ney smoothing (Chen and Goodman, 1999).

    loss = - sum over t of log p(x_{t+1} | x_{t-n+2} ... x_t)

The probabilities follow from counts (`ssl_nlp.modules.kneser_ney`), which one pass over the training text gathers. Later
passes add nothing: text that is counted twice would hide which n-grams are rare. Like `CausalLM`, the model sees each
document from its start token on and predicts every token of it, the end included.

In training, the loss of a batch is that under the counts at the last validation, before which all tokens are equally
likely: in the first pass, it is the loss of text that is not counted yet.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.data.words import first_words
from ssl_nlp.encoders.no_encoder import NoEncoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.scoring import score_rows
from ssl_nlp.modules.generation import check_sampling, continue_rows, seeded, texts_of
from ssl_nlp.modules.kneser_ney import Array, KneserNey
from ssl_nlp.objectives.scores import Scores
from ssl_nlp.training.ranks import gather_objects
from ssl_nlp.training.sums import Loss, Term
from ssl_nlp.training.texts import listed


class NGramLM(Method):
    """n-gram language model: counts instead of weights. It has no encoder and embeds nothing.

    Args:
        order: n, tokens of the longest n-grams that are counted.
    """

    short_name = "ngram_lm"
    causal = True
    units = Method.all_units
    language_term = "next_token"
    likelihood = "likelihood"

    def __init__(self, order: int = 5) -> None:
        super().__init__(NoEncoder())
        if order < 1:
            raise UserError(f"order must be 1 or more, not {order}")
        self.order = order
        self._rows: list[Array] = []  # the training text so far
        self._validated = 0  # rows of it that had been read at the last validation
        self._models: dict[int, KneserNey] = {}  # by the number of rows that they count

    def count(self, rows: Iterable[Array]) -> None:
        """Add to the training text: documents from their start token to the one that ends them, or pieces of them."""
        self._rows += [row.astype(np.int32) for row in rows]

    def model(self, rows: int | None = None) -> KneserNey:
        """The probabilities after so many rows of the training text; None: all rows so far."""
        rows = len(self._rows) if rows is None else rows
        if rows not in self._models:
            self._models = {n: model for n, model in self._models.items() if n == self._validated}
            self._models[rows] = KneserNey.fit(self._rows[:rows], self.vocab_size, self.order)
        return self._models[rows]

    def loss(self, batch: TokenBatch) -> Loss:
        log_probs = self.model(self._validated if self.training else None).log_probs(*rows_of(batch))
        total = torch.tensor(-log_probs.sum(), device=self.device)
        return Loss({"next_token": Term(total, torch.tensor(len(log_probs), device=self.device))})

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.trainer.current_epoch == 0:
            self.count(gather_objects([*rows_of(batch)]))
        return loss

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._validated = len(self._rows)

    def get_extra_state(self) -> dict[str, Any]:
        """The counts, and the text that they count, with which a training goes on."""
        model = self.model()
        arrays = {
            "keys": model.keys,
            "counts": [counts.astype(np.int32) for counts in model.counts],
            "text": [np.concatenate([*self._rows, np.empty(0, np.int32)])],
            "lengths": [np.array([len(row) for row in self._rows], dtype=np.int32)],
        }
        state: dict[str, Any] = {name: [*map(torch.from_numpy, parts)] for name, parts in arrays.items()}
        return state | {"validated": self._validated}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the counts and the text of a checkpoint."""
        arrays = {name: [part.cpu().numpy() for part in state[name]] for name in ("keys", "counts", "text", "lengths")}
        ends = arrays["lengths"][0].cumsum()
        if ends.max(initial=0) != len(arrays["text"][0]):
            raise ValueError("its text is not complete")
        self._rows = np.split(arrays["text"][0], ends[:-1]) if len(ends) else []
        self._validated = state["validated"]
        self._models = {len(self._rows): KneserNey(self.vocab_size, arrays["keys"], arrays["counts"])}

    def score(self, texts: Iterable[str], batch_size: int = 64) -> Scores:
        """The negative log-likelihood of each text and its end."""

        def score_batch(batch: TokenBatch) -> tuple[Tensor, Tensor]:
            rows = [*rows_of(batch)]
            targets = np.array([len(row) - 1 for row in rows])
            text = np.repeat(np.arange(len(rows)), targets)
            nats = np.bincount(text, -self.model().log_probs(*rows), minlength=len(rows))
            return torch.from_numpy(nats), torch.from_numpy(targets)

        return score_rows(self, texts, batch_size, score_batch)

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        return (statistics.tokens + statistics.documents) / statistics.bytes  # each document's end is predicted too

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        prompts = [first_words(text, 8, 200) for text in texts]
        continuations = self.generate(prompts, max_new_tokens=32, temperature=0.8, top_p=0.95, seed=0)
        return [{"prompt": p, "continuation": c} for p, c in zip(prompts, continuations, strict=True)]

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """Continue each prompt; the results do not repeat the prompts.

        Args:
            prompts: texts, also empty ones.
            max_new_tokens: the longest continuation; a document that ends sooner is shorter.
            temperature: divides the log-probabilities; 0 takes the most probable token every time.
            top_k: sample from the k most probable tokens only.
            top_p: sample from the smallest set of tokens with at least this probability (arXiv:1904.09751).
            seed: makes the samples reproducible.
        """
        check_sampling(temperature, top_k, top_p, max_new_tokens)
        ends = -len(self.tokenizer.suffix) or None
        rows = [ids[:ends] for ids, _ in self.tokenizer.encode(listed(prompts))]
        if not rows:
            return []
        begun = CountedContinuation(self.model(), self.tokenizer, rows)
        generator = seeded(seed, torch.device("cpu"))
        return texts_of(self.tokenizer, continue_rows(begun, max_new_tokens, temperature, top_k, top_p, generator))

    def draw(
        self,
        number: int,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """Texts from the model's own distribution: continuations of nothing.

        Args:
            number: how many.
            max_new_tokens, temperature, top_k, top_p, seed: as in `generate`.
        """
        return self.generate([""] * number, max_new_tokens, temperature, top_k, top_p, seed)


class CountedContinuation:
    """Rows of tokens that an n-gram model continues, for `continue_rows`.

    Args:
        model: gives the probabilities.
        tokenizer: of its tokens.
        rows: B lists of at least one token id.
    """

    def __init__(self, model: KneserNey, tokenizer: Tokenizer, rows: list[list[int]]) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._rows = [list(row) for row in rows]
        self._never = [token for token in tokenizer.special_ids if token != tokenizer.end_id]

    def logits(self) -> Tensor:
        """(B, V) float32, for the next token of each row: -inf for special tokens except the end."""
        probabilities = np.stack([self.model.next_probs(np.array(row[-self.model.order :])) for row in self._rows])
        probabilities[:, self._never] = 0.0
        return torch.from_numpy(probabilities).log().float()

    def append(self, ids: Tensor) -> None:
        """Append a token to each row, given ids (B,)."""
        for row, token in zip(self._rows, ids.tolist(), strict=True):
            row.append(token)


def rows_of(batch: TokenBatch) -> Iterator[Array]:
    """The documents of a batch, or the pieces of them, with the token that follows each if it is known: (L,) int32."""
    if batch.next_ids is None:
        raise UserError("NGramLM needs the next tokens of a batch: views that change the text have none")
    for part in (batch, batch.pair):
        if part is None or part.next_ids is None:
            continue
        arrays = (part.input_ids, part.segment_ids, part.next_ids)
        for ids, segments, following in zip(*(array.cpu().numpy() for array in arrays), strict=True):
            starts = np.flatnonzero(np.diff(segments, prepend=0, append=-1))
            for start, stop in pairwise(starts):
                if segments[start] > 0:
                    after = following[stop - 1 : stop]
                    yield np.concatenate([ids[start:stop], after[after != IGNORE_INDEX]]).astype(np.int32)
