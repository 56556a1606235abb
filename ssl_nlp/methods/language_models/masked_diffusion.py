"""MDLM: put back hidden tokens (Sahoo et al., "Simple and Effective Masked Diffusion Language Models", arXiv:2406.07524).

    loss = - log q(L) + L/k * sum over hidden i of -log p(x_i | visible tokens),   k uniform in 1 ... L

Of the L tokens of a text, k are hidden, with all choices of k tokens equally likely. On average over these choices the
second term is an upper bound of -log p(x | L), where p(x | L) is the probability that the model writes x into L masks,
token by token in random order. It equals the integral over all times of a diffusion, as
`ssl_nlp.objectives.masked_diffusion` explains. Visible tokens cost nothing, and the mask has probability 0 (the paper's
SUBS, section 3.2.3). The encoder is not told the time, because the number of masks shows it (arXiv:2406.03736, section 3).

This model is told the length of a text, where one that reads from left to right predicts the end. To be comparable, the
length costs what a smoothed count of the lengths of training texts gives it: q (`ssl_nlp.objectives.lengths`). So
q(L) p(x | L) adds up to 1 over all texts of all lengths, and the loss bounds the negative logarithm of it, in nats per
token. The end of a text counts as a token, as for `CausalLM`. A stream cannot be counted beforehand, and q must not be
fitted to validation texts instead: there q is geometric with a mean of about the encoder's `max_length`.

In training all hidden tokens of a text have the same weight, 2L/(M + 1) instead of L/k, where M is the largest k, unless
`weighting` is `bound`: otherwise a few tokens dominate the gradient (`ssl_nlp.objectives.masked_diffusion`). M is L, or the
share `max_masking_rate` of L, so that a training may begin with texts that are hidden in part only. A validation always
measures the bound.

Documents in a packed row do not see each other, so each is a text with its own k. Where the border of a row cuts a
document, the part before it costs its tokens and -log of the probability that a text is longer. The loss of packed rows is
that of a model that writes every part without the others.
"""

from collections.abc import Iterable, Sequence
from typing import Unpack, get_args

import torch
from torch import Tensor

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX, concatenate
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.prompts import score_words
from ssl_nlp.methods.scoring import score_masked, score_rows
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.modules.sampling import Sampling, SamplingOptions, check_amount
from ssl_nlp.modules.unmasking import unmask
from ssl_nlp.objectives.lengths import length_log_probabilities
from ssl_nlp.objectives.masked_diffusion import (
    Hidden,
    Weighting,
    count_by_text,
    hide_tokens,
    number_texts,
    spread_times,
)
from ssl_nlp.objectives.predictions import Unmaskings
from ssl_nlp.objectives.scores import Prompt, Scores, WordScores
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.ramp import Ramp
from ssl_nlp.training.sums import Loss, Term
from ssl_nlp.training.texts import listed

SAMPLE_STEPS = 32  # of unmasking, for samples during training


class MaskedDiffusion(Method):
    """Masked diffusion over a bidirectional encoder. Its embedding is the mean of the states.

    Training hides tokens once in each text. Validation does so `draws` times, the same ones every time, and logs, beside
    `loss`, its standard error `loss_se` that comes from the drawing; `perplexity` and `bits_per_byte` are upper bounds.

    Args:
        encoder: bidirectional.
        draws: how often a validation hides tokens in each text, 2 or more.
        weighting: how hidden tokens are weighted in training: `even` (all of a text alike) or `bound` (L/k, as in MDLM).
        max_masking_rate: the largest share of a text that is hidden in training: a number, or a `Ramp` over the steps.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: `draws` is below 2, `weighting` is unknown, or `max_masking_rate` is not in (0, 1]; or, in `connect`, the
            tokenizer has no mask token.
    """

    units = Method.all_units
    language_term = "bound"
    likelihood = "bound"

    predicted: Tensor  # (rows of the embedding,) bool, the tokens that texts consist of
    length_counts: Tensor  # (max_length + 2,) int64, how many training texts have 0, 1, ... max_length tokens, and more

    def __init__(
        self,
        encoder: Encoder | None = None,
        draws: int = 4,
        weighting: Weighting = "even",
        max_masking_rate: float | Ramp = 1.0,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        self.draws = checked_draws(draws)
        if weighting not in get_args(Weighting):
            raise UserError(f"weighting {weighting!r} is unknown: use even or bound")
        self.weighting = weighting
        self.max_masking_rate = Ramp.of(max_masking_rate, "max_masking_rate")
        for name, rate in self.max_masking_rate.ends("max_masking_rate").items():
            if not 0 < rate <= 1:
                raise UserError(f"{name} must be greater than 0 and at most 1, not {rate}")

    def build(self) -> None:
        tokenizer, embedding = self.tokenizer, self.encoder.embedding
        if tokenizer.mask_id is None:
            raise UserError("this tokenizer has no mask token: MaskedDiffusion needs one, CausalLM does not")
        self.mask_id = tokenizer.mask_id
        predicted = torch.arange(embedding.num_embeddings) < self.vocab_size
        predicted[[tokenizer.pad_id, self.mask_id, *tokenizer.prefix, *tokenizer.suffix]] = False
        self.register_buffer("predicted", predicted, persistent=False)
        self.register_buffer("length_counts", torch.zeros(self.encoder.max_length + 2, dtype=torch.int64))
        self.head = LanguageModelHead(self.encoder.dim, embedding, self.encoder.language_head(), ~predicted)

    def take_counts(self, data: TextDataModule) -> None:
        super().take_counts(data)
        self.length_counts.zero_()
        if not getattr(data.corpus, "streaming", False):  # there, only validation texts can be counted
            lengths = torch.from_numpy(data.text_lengths()).clamp(max=len(self.length_counts) - 1)
            self.length_counts.copy_(torch.bincount(lengths, minlength=len(self.length_counts)))

    def loss(self, batch: TokenBatch) -> Loss:
        batch = self._with_pair_below(batch)
        targets = self._targets(batch).sum()
        if self.training:
            most = self.max_masking_rate.at(self.step, self.total_steps)
            [hidden] = self._hide(batch, 1, self.weighting, most)
            states, tokens, factors, _ = self._predict(batch, hidden)
            nats = self.head.loss(states, tokens, factors=factors)[0] + self._length_nats(batch).sum()
            return Loss({"bound": Term(nats, targets)})
        bounds, variances = self.bounds(batch, self.draws)
        totals = {"_variance": variances.sum(), "_targets": targets}
        return Loss({"bound": Term(bounds.sum(), targets)}, totals=totals)

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        parts = [self._targets(part).sum() for part in (batch, batch.pair) if part is not None]
        return {"bound": torch.stack(parts).sum()}

    @torch.no_grad()
    def bounds(self, batch: TokenBatch, draws: int) -> tuple[Tensor, Tensor]:
        """The bound of each row, in nats: the mean over draws of hidden tokens, whose numbers are spread evenly.

        Args:
            batch: B rows.
            draws: 2 or more.

        Returns:
            (B,) nats; and (B,): their variances, estimated as if the draws were independent, which is too much rather than
            too little.

        Raises:
            UserError: `draws` is below 2.
        """
        return self._bounds(batch, self._hide(batch, checked_draws(draws)))

    @torch.no_grad()
    def explain_loss(self, batch: TokenBatch) -> Unmaskings:
        """The hidden tokens of each draw of a validation, and the lengths of the texts."""
        batch = self._with_pair_below(batch)
        drawn = self._hide(batch, self.draws)
        hidden, weights = (torch.stack(each) for each in zip(*drawn, strict=True))
        return Unmaskings(batch, hidden, weights, self._targets(batch), self._bounds(batch, drawn)[0])

    def _with_pair_below(self, batch: TokenBatch) -> TokenBatch:
        return batch if batch.pair is None else concatenate([batch, batch.pair], self.tokenizer.pad_id)

    def _hide(self, batch: TokenBatch, draws: int, weighting: Weighting = "bound", most: float = 1.0) -> list[Hidden]:
        """The hidden tokens of each draw."""
        texts, content = number_texts(batch.segment_ids), self._content(batch)
        times = spread_times(texts.numel(), draws, texts.device)
        return [hide_tokens(texts, content, each, weighting, most) for each in times]

    def _bounds(self, batch: TokenBatch, drawn: Sequence[Hidden]) -> tuple[Tensor, Tensor]:
        found = []
        for hidden in drawn:
            states, tokens, factors, rows = self._predict(batch, hidden)
            losses = self.head.losses(states, tokens).double() * factors
            found.append(losses.new_zeros(len(batch)).index_add(0, rows, losses))
        nats = torch.stack(found)
        return nats.mean(dim=0) + self._length_nats(batch), nats.var(dim=0) / len(drawn)

    def _content(self, batch: TokenBatch) -> Tensor:
        """(B, T) bool: the tokens of texts, without those of their frames."""
        return batch.is_text & self.predicted[batch.input_ids]

    def _ends(self, batch: TokenBatch) -> Tensor:
        """(B, T) bool: where a text ends that is not cut off."""
        return batch.following("MaskedDiffusion") == self.tokenizer.end_id

    def _targets(self, batch: TokenBatch) -> Tensor:
        """(B,): the number of tokens and ends of each row."""
        return (self._content(batch).long() + self._ends(batch).long()).sum(dim=1)

    def _predict(self, batch: TokenBatch, hidden: Hidden) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The states (K, D) that predict hidden tokens, these tokens (K,), their weights (K,) and their rows (K,)."""
        seen = torch.where(hidden.tokens, self.mask_id, batch.input_ids)
        states = self.encoder(batch.with_input_ids(seen)).flatten(0, 1)
        tokens = torch.where(hidden.tokens, batch.input_ids, IGNORE_INDEX).flatten()
        factors = hidden.weights.flatten()
        places = torch.arange(len(tokens), device=tokens.device)
        if tokens.device.type == "cpu":  # an accelerator would have to wait for their number
            places = hidden.tokens.flatten().nonzero().squeeze(1)
            states, tokens, factors = states[places], tokens[places], factors[places]
        return states, tokens, factors, places // batch.input_ids.shape[1]

    def _length_nats(self, batch: TokenBatch) -> Tensor:
        """(B,): -log q of the lengths of the texts in each row, or of being longer where a text is cut off."""
        texts = number_texts(batch.segment_ids)
        lengths = count_by_text(texts, self._content(batch))
        ended = count_by_text(texts, self._ends(batch)) > 0
        log_p, log_at_least = self._length_distribution()
        nats = -torch.where(ended, log_p[lengths], log_at_least[lengths + 1])
        last = batch.is_text
        last[:, :-1] &= batch.segment_ids[:, :-1] != batch.segment_ids[:, 1:]
        # A row may begin with the closing token of a text whose end the row before has predicted.
        last &= ended[texts] | (batch.next_ids != IGNORE_INDEX)
        return torch.where(last, nats[texts], 0.0).sum(dim=1)

    def _length_distribution(self) -> tuple[Tensor, Tensor]:
        """`length_log_probabilities` of the texts that were counted; without any, those of a mean of about `max_length`."""
        tokens = (self.token_counts * self.predicted[: self.vocab_size]).sum()
        tokens = torch.where(self.length_counts.any(), tokens, len(self.length_counts) - 2)
        return length_log_probabilities(self.length_counts, tokens)

    def score(self, texts: Iterable[str], batch_size: int = 64, draws: int = 16) -> Scores:
        """An upper bound of -log p of each text, its length included, with the variance of its estimate.

        Args:
            texts: N of them.
            batch_size: texts at a time.
            draws: how often tokens are hidden in each text, 2 or more.

        Raises:
            UserError: `texts` is a single text or holds anything but texts, `batch_size` is below 1, or
                `draws` is below 2.
        """

        def score_batch(batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
            nats, variances = self.bounds(batch, draws)
            return nats, self._targets(batch), variances

        return score_rows(self, texts, batch_size, score_batch)

    def pseudo_score(self, texts: Iterable[str], batch_size: int = 64) -> Scores:
        """The negative pseudo-log-likelihood of texts: each token and the later ones of its word are hidden together.

        Raises:
            UserError: `texts` is a single text or holds anything but texts, or `batch_size` is below 1.
        """
        return score_masked(self, self.head, texts, batch_size, within_words=True)

    def score_words(self, prompts: Sequence[Prompt], batch_size: int = 64) -> WordScores:
        """The log-probability with which each word of a prompt is written into its masks from left to right."""
        return score_words(self, self.head, prompts, batch_size, causal=False)

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        return (statistics.tokens + statistics.documents) / statistics.bytes  # a text's length counts as its end

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        means = dict(means)
        error = means.pop("_variance").sqrt() / means.pop("_targets")
        return super().summarize(means, statistics) | {"loss_se": error}

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        """The middle third of each text hidden and filled in, and as many texts drawn from nothing."""
        rows, middles = [], []
        before, after = len(self.tokenizer.prefix), len(self.tokenizer.suffix)
        for ids, _ in self.tokenizer.encode(texts):
            ids = self.tokenizer.cut(ids, min(64, self.encoder.max_length))
            third = (len(ids) - before - after + 2) // 3
            middle = slice(before + third, min(before + 2 * third, len(ids) - after))
            middles.append((middle, ids))
            rows.append([*ids[: middle.start], *[self.mask_id] * len(ids[middle]), *ids[middle.stop :]])
        filled = self._write(rows, Sampling(self.device, seed=0), SAMPLE_STEPS)
        decode = self.tokenizer.decode
        drawn = self.draw(len(texts), 32, seed=0, steps=SAMPLE_STEPS)
        return [
            {
                "text": f"{decode(ids[: middle.start])} [...] {decode(ids[middle.stop :])}",
                "hidden": decode(ids[middle]),
                "filled": decode(new[middle]),
                "drawn": text,
            }
            for (middle, ids), new, text in zip(middles, filled, drawn, strict=True)
        ]

    @torch.no_grad()
    def draw(
        self,
        number: int,
        max_new_tokens: int = 64,
        *,
        steps: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[str]:
        """Texts of the model: a length from that of the training texts for each, then its tokens in random order.

        Args:
            number: how many, 0 or more.
            max_new_tokens: longer texts are cut off there, or where the encoder has no more room.
            steps: the most passes through the encoder for a text. The tokens that one pass draws do not see each other:
                fewer steps are faster and worse. None: a token in each pass, which is the model's own distribution,
                apart from the unknown token and sentinels, which are never drawn.
            options: `temperature`, `top_k`, `top_p` and `seed`, as in `SamplingOptions`.

        Raises:
            UserError: an argument is out of its range.
        """
        check_amount(max_new_tokens, number)
        sampling = Sampling(self.device, **options)
        longest = min(max_new_tokens, self.encoder.max_length - len(self.tokenizer.prefix) - len(self.tokenizer.suffix))
        log_p, log_at_least = self._length_distribution()
        shares = torch.cat([log_p[: longest + 1], log_at_least[longest + 1 : longest + 2]]).exp()
        lengths = torch.multinomial(shares.expand(number, -1), 1, generator=sampling.generator)
        rows = [[*self.tokenizer.prefix, *[self.mask_id] * n, *self.tokenizer.suffix] for n in range(longest + 1)]
        rows.append([*self.tokenizer.prefix, *[self.mask_id] * longest])  # a text that is cut off, as in training
        rows = [rows[n] for n in lengths.flatten().tolist()]
        return [self.tokenizer.decode(ids) for ids in self._write(rows, sampling, steps)]

    @torch.no_grad()
    def infill(
        self, texts: Iterable[str], *, steps: int | None = None, **options: Unpack[SamplingOptions]
    ) -> list[str]:
        """Texts in which each mask (written `[MASK]`) is replaced by a token; the rest stays.

        Args:
            texts: with one or more masks each, a run of them where several tokens are missing.
            steps, options: as for `draw`.

        Raises:
            UserError: an argument is out of its range, or a text has no mask or is too long for the encoder.
        """
        sampling = Sampling(self.device, **options)
        rows = [self.tokenizer.encode_with_masks(text) for text in listed(texts)]
        if (longest := max(map(len, rows), default=0)) > self.encoder.max_length:
            raise UserError(
                f"a text of {longest} tokens exceeds the encoder's max_length of {self.encoder.max_length}: shorten it"
            )
        return [self.tokenizer.decode(ids) for ids in self._write(rows, sampling, steps)]

    def _write(self, rows: list[list[int]], sampling: Sampling, steps: int | None) -> list[list[int]]:
        """Framed texts with tokens in place of their masks."""
        with self.evaluating():
            return unmask(self.encoder, self.head, self.tokenizer, rows, sampling, steps)


def checked_draws(draws: int) -> int:
    """A number of draws that have a standard error.

    Raises:
        UserError: there are fewer than 2.
    """
    if draws < 2:
        raise UserError(f"draws must be 2 or more, for a standard error, not {draws}")
    return draws
