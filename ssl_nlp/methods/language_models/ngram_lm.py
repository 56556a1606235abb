"""The n-gram language model with interpolated modified Kneser-Ney smoothing (Chen and Goodman, 1999).

    loss = - sum over t of log p(x_{t+1} | x_{t-n+2} ... x_t)

The probabilities follow from counts (`ssl_nlp.modules.kneser_ney`), which one pass over the training text gathers. Later
passes add nothing: text that is counted twice would hide which n-grams are rare. Like `CausalLM`, the model sees each
document from its start token on and predicts every token of it, the end included. A checkpoint holds the counts alone: not
the text, but any n tokens in a row that occur in it.

In training, the loss of a batch is that under the counts at the last validation, before which all tokens are equally
likely: in the first pass, it is the loss of text that is not counted yet.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.data import ContinualDataModule, TextDataModule, TokenBatch, Tokenizer
from ssl_nlp.data.batch import IGNORE_INDEX, concatenate
from ssl_nlp.encoders.no_encoder import NoEncoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.language_models.left_to_right import LeftToRight
from ssl_nlp.methods.prompts import fill
from ssl_nlp.methods.scoring import score_rows
from ssl_nlp.modules.kneser_ney import Array, KneserNey
from ssl_nlp.objectives.predictions import Predictions
from ssl_nlp.objectives.scores import Prompt, Scores, WordScores
from ssl_nlp.training.ranks import gather_objects
from ssl_nlp.training.sums import Loss, Term


class NGramLM(LeftToRight):
    """n-gram language model: counts instead of weights. It has no encoder and embeds nothing.

    Args:
        order: tokens of the longest n-grams that are counted, n.

    Raises:
        UserError: `order` is below 1.
    """

    short_name = "ngram_lm"

    def __init__(self, order: int = 5) -> None:
        super().__init__(NoEncoder())
        if order < 1:
            raise UserError(f"order must be 1 or more, not {order}")
        self.order = order
        self._rows: list[Array] = []  # text that is not counted yet

    def build(self) -> None:
        self._nothing = KneserNey.fit([], self.vocab_size, self.order)
        self._validated = self._nothing  # the counts at the last validation
        self._recent = self._nothing  # those of the text since then
        self._all: KneserNey | None = self._nothing  # of both; None: not yet computed

    def count(self, rows: Iterable[Array]) -> None:
        """Count more text: documents from their start token to the one that ends them, or pieces of them."""
        if more := [row.astype(np.int32) for row in rows]:
            self._rows += more
            self._all = None

    def recent(self) -> KneserNey:
        """The probabilities after the text since the last validation alone."""
        if self._rows:
            self._recent = self._recent.merged(KneserNey.fit(self._rows, self.vocab_size, self.order))
            self._rows = []
        return self._recent

    def model(self) -> KneserNey:
        """The probabilities after all text so far."""
        if self._all is None:
            self._all = self._validated.merged(self.recent())
        return self._all

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        if not isinstance(data, ContinualDataModule):
            return
        repeating = {
            "data.steps_per_part": data.steps_per_part is not None,
            "data.epochs_per_part": (data.epochs_per_part or 1) > 1,
            "data.replay": data.replay > 0,
            "data.joint": data.joint,
            "trainer.accumulate_grad_batches": self.trained and self.trainer.accumulate_grad_batches > 1,
        }
        if found := [name for name, is_set in repeating.items() if is_set]:  # one long epoch would count texts again
            raise UserError(f"NGramLM counts each text once: leave {' and '.join(found)} out")

    def parameter_counts(self) -> tuple[int, int]:
        """The number of n-grams, twice: they are what it has learned."""
        return self.model().size, self.model().size

    def loss(self, batch: TokenBatch) -> Loss:
        model = self._validated if self.training else self.model()
        log_probs = model.log_probs(*rows_of(batch))
        total = torch.tensor(-log_probs.sum(), device=self.device)
        return Loss({"next_token": Term(total, torch.tensor(len(log_probs), device=self.device))})

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        # A stream counts its passes itself: to the trainer they are one epoch, or as many as it is told. The batch in which
        # the second pass begins is left out.
        done = self.trainer.current_epoch if batch.cursor is None else batch.cursor["epoch"]
        self.count(gather_objects([] if done else [*rows_of(batch)]))
        return loss

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._validated, self._recent = self.model(), self._nothing

    def get_extra_state(self) -> dict[str, Any]:
        """The counts at the last validation and those of the text since then, with which a training goes on.

        The text itself is not there, but each of its n-grams is.
        """
        return {"validated": tables_of(self._validated), "recent": tables_of(self.recent())}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the counts of a checkpoint."""
        names = ("validated", "recent")
        self._validated, self._recent = (model_of(state[name], self.vocab_size, self.order) for name in names)
        self._rows, self._all = [], None

    def explain_loss(self, batch: TokenBatch) -> Predictions:
        """Every next token, from the n - 1 tokens before it."""
        if batch.pair is not None:
            batch = concatenate([batch, batch.pair], self.tokenizer.pad_id)
        log_probs = torch.from_numpy(self.model().log_probs(*rows_of(batch)))
        assert batch.next_ids is not None  # or `rows_of` would have refused the batch
        predicted = batch.next_ids.cpu() != IGNORE_INDEX
        nats = torch.zeros(predicted.shape, dtype=torch.float64)
        nats[predicted] = -log_probs
        return Predictions(batch, batch.next_ids, nats.sum(dim=1), context=self.order - 1)

    def score(self, texts: Iterable[str], batch_size: int = 64) -> Scores:
        """The negative log-likelihood of each text and its end.

        Raises:
            UserError: `texts` is a single text or holds anything but texts, or `batch_size` is below 1.
        """

        def score_batch(batch: TokenBatch) -> tuple[Tensor, Tensor]:
            rows = [*rows_of(batch)]
            targets = np.array([len(row) - 1 for row in rows])
            text = np.repeat(np.arange(len(rows)), targets)
            nats = np.bincount(text, -self.model().log_probs(*rows), minlength=len(rows))
            return torch.from_numpy(nats), torch.from_numpy(targets)

        return score_rows(self, texts, batch_size, score_batch)

    def score_words(self, prompts: Sequence[Prompt]) -> WordScores:
        """The log-likelihood of each word of a prompt and the text after it, given the text before it."""
        model, words = self.model(), len(prompts[0].words) if prompts else 0
        found = [fill(self.tokenizer, prompt, self.encoder.max_length, causal=True) for prompt in prompts]
        numbers = [
            (
                model.log_probs(np.array(row))[one.start - 1 :].sum(),
                len(row) - one.start,
                len((word + p.after).encode()),
            )
            for p, one in zip(prompts, found, strict=True)
            for word, row in zip(p.words, one.rows, strict=True)
        ]
        scores = torch.tensor(numbers, dtype=torch.float64).view(len(prompts), words, 3)
        nothing_cut = torch.zeros(len(prompts), dtype=torch.int64)  # it reads texts of any length
        return WordScores(
            "likelihood", scores[..., 0], scores[..., 1].long(), scores[..., 2].long(), nothing_cut, nothing_cut
        )

    def begin(self, rows: list[list[int]], steps: int) -> "CountedContinuation":
        return CountedContinuation(self.model(), self.tokenizer, rows, self.device)


class CountedContinuation:
    """Rows of tokens that an n-gram model continues, for `continue_rows`.

    Args:
        model: gives the probabilities.
        tokenizer: of its tokens.
        rows: B lists of token ids.
        device: where the logits are wanted.
    """

    def __init__(self, model: KneserNey, tokenizer: Tokenizer, rows: list[list[int]], device: torch.device) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self._rows = [list(row) for row in rows]
        self._never = [token for token in tokenizer.special_ids if token != tokenizer.end_id]

    def logits(self) -> Tensor:
        """(B, V) float32, for the next token of each row: -inf for special tokens except the end."""
        probabilities = np.stack([self.model.next_probs(np.array(row[-self.model.order :])) for row in self._rows])
        probabilities[:, self._never] = 0.0
        return torch.from_numpy(probabilities).log().float().to(self.device)

    def append(self, ids: Tensor) -> None:
        """Append a token to each row, given ids (B,)."""
        for row, token in zip(self._rows, ids.tolist(), strict=True):
            row.append(token)


def tables_of(model: KneserNey) -> dict[str, list[Tensor]]:
    """An n-gram model as tensors."""
    counts = [counts.astype(np.int32) for counts in model.counts]
    return {"keys": [*map(torch.from_numpy, model.keys)], "counts": [*map(torch.from_numpy, counts)]}


def model_of(tables: dict[str, list[Tensor]], vocab_size: int, order: int) -> KneserNey:
    """The n-gram model of tensors.

    Raises:
        ValueError: they are not those of n-grams of up to `order` tokens.
    """
    keys, counts = ([part.cpu().numpy() for part in tables[name]] for name in ("keys", "counts"))
    if len(counts) != order:
        raise ValueError(f"it holds n-grams of up to {len(counts)} tokens, not {order}")
    return KneserNey(vocab_size, keys, counts)


def rows_of(batch: TokenBatch) -> Iterator[Array]:
    """The documents of a batch, or the pieces of them, with the token that follows each if it is known: (L,) int32."""
    for part in (batch,) if batch.pair is None else (batch, batch.pair):
        arrays = (part.input_ids, part.segment_ids, part.following("NGramLM"))
        for ids, segments, following in zip(*(array.cpu().numpy() for array in arrays), strict=True):
            starts = np.flatnonzero(np.diff(segments, prepend=0, append=-1))
            for start, stop in pairwise(starts):
                if segments[start] > 0:
                    after = following[stop - 1 : stop]
                    yield np.concatenate([ids[start:stop], after[after != IGNORE_INDEX]]).astype(np.int32)
