"""GPT-BERT: a causal and a masked language model in one (Charpentier and Samuel, arXiv:2410.24159; arXiv:2512.14549).

    loss = k/B * mean over all t of - log p(x_{t+1} | x_1 ... x_t)                             in k rows of a batch
           + (1 - k/B) * mean over masked t+1 of - log p(x_{t+1} | x with some tokens masked)  in the other B - k

In k rows the model sees what precedes a position, as in GPT. In the others it sees a text with some tokens hidden, as in
BERT, but predicts a hidden token from the state of the token before it: masked next-token prediction. So the state of a
token means the same in both, and trunk and head are shared. k follows `causal_share`; where that is no whole number of
rows, the rest is carried on to the next step. Where several processes share a batch, k and B are those of all of them.

The state of the prefix, such as `<s>`, predicts the first token of a text. A token with nothing before it in its row is
never hidden: the first of a row that goes on with a document, or of any text where the tokenizer has no prefix.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import floor, log
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.methods.filling import Fillings, fill_masks, filled_samples
from ssl_nlp.methods.language_models.causal_lm import CausalLM
from ssl_nlp.methods.language_models.masked_lm import VALIDATION_RATE
from ssl_nlp.methods.scoring import check_kind, score_masked
from ssl_nlp.objectives.masking import choose_positions, mask_tokens
from ssl_nlp.objectives.scores import Likelihood, Scores
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.ramp import Ramp
from ssl_nlp.training.ranks import sum_over_ranks
from ssl_nlp.training.sums import Loss, Term

SHIFT = 1  # the state of a token predicts the next one, also where that is masked


class CausalMaskedLM(CausalLM):
    """A causal and a masked language model in one. Its embedding is the mean of the states that see the whole text.

    Its causal side generates and gives likelihoods; the other side fills masks, and gives pseudo-likelihoods on request
    (`score(texts, kind="pseudo-likelihood")`). `embed(texts, causal=True)` gives the states of the causal side.

    A validation runs both sides on all rows, and `loss` is the mean of the two: `loss/next_token`, `perplexity` and
    `bits_per_byte` as a `CausalLM` has them, `loss/masked_token`, `masked_perplexity` and `masked_bits_per_byte` as a
    `MaskedLM` has them, of 15 % of the tokens.

    Args:
        encoder: one that can be causal and bidirectional.
        causal_share: share of the rows of a batch that are causal: a number, or a `Ramp` over the steps.
        masking_rate: share of the tokens to predict in the other rows: a number, or a `Ramp` over the steps.
        masking_unit: hide single tokens, whole words, or spans of words, as `MaskedLM` does.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: arguments are invalid; all of them are listed in one line. In `connect`, the tokenizer has no mask token.
    """

    causal = False
    units = ("block", "sentence")
    pooling = "mean"
    likelihoods: ClassVar[tuple[Likelihood, ...]] = ("likelihood", "pseudo-likelihood")

    def __init__(
        self,
        encoder: Encoder | None = None,
        causal_share: float | Ramp = 0.5,
        masking_rate: float | Ramp = 0.3,
        masking_unit: Literal["token", "word", "span"] = "token",
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        self.causal_share = Ramp.of(causal_share, "causal_share")
        self.masking_rate = Ramp.of(masking_rate, "masking_rate")
        self.masking_unit: Literal["token", "word", "span"] = masking_unit
        problems = {
            f"{name} must be between 0 and 1, not {share}": not 0 <= share <= 1
            for name, share in self.causal_share.ends("causal_share").items()
        }
        problems |= {
            f"{name} must be between 0 and 1, not {rate}": not 0 < rate < 1
            for name, rate in self.masking_rate.ends("masking_rate").items()
        }
        unknown = masking_unit not in ("token", "word", "span")
        problems |= {f"masking_unit {masking_unit!r} is unknown: use token, word or span": unknown}
        refuse(problems, "CausalMaskedLM")

    def build(self) -> None:
        if self.tokenizer.mask_id is None:
            raise UserError("this tokenizer has no mask token: CausalMaskedLM needs one, CausalLM does not")
        super().build()

    def loss(self, batch: TokenBatch) -> Loss:
        sides = self._sides(batch)
        terms = {name: self._term(name, rows) for name, rows in sides.items()}
        if not self.training:
            return Loss({name: term._replace(weight=1 / len(terms)) for name, term in terms.items()})
        numbers = torch.tensor([len(sides.get("next_token", ())), len(batch)], device=batch.input_ids.device)
        causal, rows = sum_over_ranks(numbers)  # those of this process need not be in the same proportion
        weights = {"next_token": causal / rows, "masked_token": (rows - causal) / rows}
        terms = {name: term._replace(weight=weights[name]) for name, term in terms.items()}
        return Loss(terms, {"causal_share": (numbers[0], numbers[1])})

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        counts: dict[str, Tensor] = {}
        for name, rows in self._sides(batch).items():
            counts |= super().count_targets(rows) if name == "next_token" else {name: self._choose(rows)[1].sum()}
        return counts

    def _sides(self, batch: TokenBatch) -> dict[str, TokenBatch]:
        """The rows that each side trains on, by the name of its term; all rows in a validation.

        A side that has no share in this step is left out. One whose share rounds to nothing has no rows: which terms there
        are must depend on the step alone, because all processes have to agree on them.
        """
        if not self.training:
            return {"masked_token": batch, "next_token": batch}
        share = self.causal_share.at(self.step, self.total_steps)
        if share in (0, 1):
            return {"next_token" if share else "masked_token": batch}
        sums = (self.causal_share.sum_before(step, self.total_steps) for step in (self.step, self.step + 1))
        done, due = (floor(len(batch) * shares + 0.5) for shares in sums)  # causal rows before this step and after it
        causal = due - done
        rows = torch.randperm(len(batch), device=batch.input_ids.device)  # batches may be sorted by length
        return {"masked_token": batch.select(rows[causal:]), "next_token": batch.select(rows[:causal])}

    def _term(self, name: str, batch: TokenBatch) -> Term:
        if len(batch) == 0:
            nothing = torch.zeros((), device=batch.input_ids.device)
            return Term(nothing, nothing.long())
        return self.next_token(batch) if name == "next_token" else self.masked_token(batch)

    def masked_token(self, batch: TokenBatch) -> Term:
        """The loss of masked tokens, each predicted from the state before it."""
        positions, chosen = self._choose(batch)
        mask_id = self.tokenizer.mask_id
        assert mask_id is not None
        corrupted, targets = mask_tokens(batch.input_ids, positions, chosen, mask_id, self.replacements)
        hidden = self.encoder(replace(batch, input_ids=corrupted, causal=False))
        return Term(*self.head.loss(hidden.flatten(0, 1)[positions - SHIFT], targets))

    def _choose(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """The positions to mask, as `choose_positions` gives them, without those that have nothing before them."""
        rate = self.masking_rate.at(self.step, self.total_steps) if self.training else VALIDATION_RATE
        unit = self.masking_unit if self.training else "token"
        count = min(max(1, round(rate * batch.n_tokens)), batch.input_ids.numel())
        positions, chosen = choose_positions(batch, self.maskable, count, unit)
        same = batch.segment_ids[:, SHIFT:] == batch.segment_ids[:, :-SHIFT]
        return positions, chosen & F.pad(same, (SHIFT, 0)).flatten()[positions]

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        means = super().summarize(means, statistics)
        nats = means["loss/masked_token"]
        means["masked_perplexity"] = nats.exp()
        if statistics is not None:
            means["masked_bits_per_byte"] = nats * (statistics.tokens / statistics.bytes / log(2))
        return means

    def score(self, texts: Iterable[str], batch_size: int = 64, kind: Likelihood | None = None) -> Scores:
        """The negative log-likelihood of each text and its end, or its negative pseudo-log-likelihood.

        Args:
            texts: N of them.
            batch_size: texts that are computed together, or copies of them with a mask each.
            kind: one of `likelihoods`; None: the first.

        Raises:
            UserError: `kind` is none of `likelihoods`, `texts` is a single text or holds anything but texts, or
                `batch_size` is below 1.
        """
        check_kind(kind, self.likelihoods)
        if kind == "pseudo-likelihood":
            return score_masked(self, self.head, texts, batch_size, SHIFT)
        return super().score(texts, batch_size)

    def pseudo_score(self, texts: Iterable[str], batch_size: int = 64) -> Scores:
        """As `score`, but the later tokens of its word are masked together with each token (arXiv:2305.10588).

        Raises:
            UserError: `texts` is a single text or holds anything but texts, or `batch_size` is below 1.
        """
        return score_masked(self, self.head, texts, batch_size, SHIFT, within_words=True)

    def fill_mask(self, text: str, top_k: int = 5) -> Fillings:
        """For each mask in `text` (written `[MASK]`), the `top_k` most probable tokens and their probabilities.

        Raises:
            UserError: `top_k` is below 1, there is no mask, the text is too long for the encoder, or no token
                precedes a mask.
        """
        return fill_masks(self, self.head, text, top_k, SHIFT)

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        filled = filled_samples(self, self.fill_mask, texts)
        return [one | other for one, other in zip(super().samples(texts), filled, strict=True)]
