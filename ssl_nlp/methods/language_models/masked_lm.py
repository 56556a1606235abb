"""BERT's masked language model (Devlin et al., arXiv:1810.04805, section 3.1, Task 1).

    loss = - sum over masked t of log p(x_t | x with some tokens masked)

The model sees a text in which some tokens are hidden: of those, 80 % become `<mask>`, 10 % a random token, 10 % stay.
The default rate is 0.3, which trains better than BERT's 0.15 (Wettig et al., arXiv:2202.08005); validation always masks
15 %, so that runs with different rates are comparable.

With `sentence_pairs` a row is two texts, and the tokens of each have an embedding of their part (0 or 1) added. The loss
has a second term of weight 1, the cross-entropy of whether the second text follows the first one:

    next: half of the second texts come from another document (section 3.1, Task 2)
    order: half of the pairs are swapped (ALBERT: Lan et al., arXiv:1909.11942, section 3.1)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.filling import Fillings, fill_masks, filled_samples
from ssl_nlp.methods.prompts import score_words
from ssl_nlp.methods.scoring import score_masked
from ssl_nlp.modules.heads import LanguageModelHead, PairHead
from ssl_nlp.objectives.masking import PROBABILITIES, choose_positions, mask_tokens
from ssl_nlp.objectives.pairs import join_pairs, next_sentence_pairing, pair_loss, sentence_order_pairing
from ssl_nlp.objectives.predictions import Corruption, Predictions
from ssl_nlp.objectives.scores import Prompt, Scores, Unable, WordScores
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term

VALIDATION_RATE = 0.15
PAIRS = {"next": ("next_sentence", next_sentence_pairing), "order": ("sentence_order", sentence_order_pairing)}


class MaskedLM(Method):
    """Masked language model over a bidirectional encoder. Its embedding is the mean of the states.

    Args:
        encoder: turns tokens into hidden states.
        masking_rate: share of the tokens to predict in training.
        masking_unit: hide single tokens, whole words, or spans of words (SpanBERT, arXiv:1907.10529, section 3.1).
        sentence_pairs: read pairs of texts (`unit: pair`), and predict whether the second one is the next sentence, or
            whether the two are in order.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: an argument is invalid; or, in `connect`, the tokenizer has no mask token.
    """

    language_term = "masked_token"
    likelihood = "pseudo-likelihood"

    def __init__(
        self,
        encoder: Encoder | None = None,
        masking_rate: float = 0.3,
        masking_unit: Literal["token", "word", "span"] = "token",
        sentence_pairs: Literal["next", "order"] | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        if not 0 < masking_rate < 1:
            raise UserError(f"masking_rate must be between 0 and 1, not {masking_rate}")
        if masking_unit not in ("token", "word", "span"):
            raise UserError(f"masking_unit {masking_unit!r} is unknown: use token, word or span")
        if sentence_pairs not in (None, *PAIRS):
            raise UserError(f"sentence_pairs {sentence_pairs!r} is unknown: use {' or '.join(PAIRS)}, or leave it out")
        self.masking_rate = masking_rate
        self.masking_unit: Literal["token", "word", "span"] = masking_unit
        self.sentence_pairs = sentence_pairs
        if sentence_pairs is not None:
            self.units = ("pair",)
            self.loss_unit = "nats per token + nats per pair"

    def build(self) -> None:
        if self.tokenizer.mask_id is None:
            raise UserError("this tokenizer has no mask token: MaskedLM needs one, CausalLM does not")
        self.head = LanguageModelHead(self.encoder.dim, self.encoder.embedding, self.encoder.language_head())
        if self.sentence_pairs is not None:
            self.part_embedding = nn.Embedding(2, self.encoder.embedding.embedding_dim)
            nn.init.trunc_normal_(self.part_embedding.weight, std=0.02, a=-0.04, b=0.04)
            self.pair_head = PairHead(self.encoder.dim)

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        if self.sentence_pairs == "next" and data.batch_size < 2:
            raise UserError(
                f"sentence_pairs next exchanges texts within a batch, and data.batch_size {data.batch_size} leaves "
                "nothing to exchange: use at least 2"
            )

    def loss(self, batch: TokenBatch) -> Loss:
        if self.sentence_pairs is None:
            return Loss({"masked_token": self._masked_token(batch)[0]})
        if batch.pair is None or batch.documents is None:
            raise UserError(f"sentence_pairs {self.sentence_pairs} needs pairs of texts: set data.unit to pair")
        name, draw = PAIRS[self.sentence_pairs]
        pairing = draw(batch)
        drop = len(self.tokenizer.prefix) if self.tokenizer.suffix else 0  # [CLS] A [SEP] B [SEP], but <s> A <s> B
        rows, parts = join_pairs(batch, pairing, self.tokenizer.pad_id, drop)
        masked_token, hidden = self._masked_token(rows, parts)
        total, correct, pairs = pair_loss(self.pair_head(hidden), pairing.true)
        return Loss({"masked_token": masked_token, name: Term(total, pairs)}, {f"{name}_accuracy": (correct, pairs)})

    def count_targets(self, batch: TokenBatch) -> Mapping[str, Tensor]:
        return super().count_targets(batch) if self.sentence_pairs else {"masked_token": self._choose(batch)[1].sum()}

    def _choose(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """The positions to mask, as `choose_positions` gives them."""
        rate, unit = (self.masking_rate, self.masking_unit) if self.training else (VALIDATION_RATE, "token")
        count = max(1, round(rate * batch.n_tokens))  # fixed for a batch: no shape depends on the data
        return choose_positions(batch, self.maskable, count, unit)

    def _masked_token(self, batch: TokenBatch, parts: Tensor | None = None) -> tuple[Term, Tensor]:
        """The loss of masked tokens, and the hidden states (B, T, D) of the rows with the masks in them."""
        seen, positions, targets = self._mask(batch)
        hidden = self._encode(seen, parts)
        return Term(*self.head.loss(hidden.flatten(0, 1)[positions], targets)), hidden

    def _mask(self, batch: TokenBatch) -> tuple[TokenBatch, Tensor, Tensor]:
        """The rows with masks in them, and the positions (K,) and targets (K,) of the tokens to predict."""
        positions, chosen = self._choose(batch)
        corrupted, targets = mask_tokens(batch.input_ids, positions, chosen, self.tokenizer.mask_id, self.replacements)
        return batch.with_input_ids(corrupted), positions, targets

    @torch.no_grad()
    def explain_loss(self, batch: TokenBatch) -> Predictions:
        """The chosen tokens, from the text with masks in it."""
        if self.sentence_pairs is not None:
            raise Unable("sentence_pairs puts two texts into a row, whose limit is not known")
        seen, positions, targets = self._mask(batch)
        losses = self.head.losses(self._encode(seen).flatten(0, 1)[positions], targets).double()
        chosen = torch.full_like(batch.input_ids, IGNORE_INDEX).flatten().scatter(0, positions, targets)
        rows = positions // batch.input_ids.shape[1]
        eligible = (batch.is_text & self.maskable[batch.input_ids]).sum()
        rate = float((targets != IGNORE_INDEX).sum() / eligible)
        return Predictions(
            seen,
            chosen.view_as(batch.input_ids),
            losses.new_zeros(len(batch)).index_add(0, rows, losses),
            Corruption(rate, *PROBABILITIES[1:], self.replacements),
        )

    def _encode(self, batch: TokenBatch, parts: Tensor | None = None) -> Tensor:
        """(B, T, D) hidden states. Where there are embeddings of parts, a text alone is the first part."""
        if self.sentence_pairs is None:
            return self.encoder(batch)
        parts = torch.zeros_like(batch.input_ids[:, :1]) if parts is None else parts
        return self.encoder(batch, added=self.part_embedding(parts))

    def states(self, batch: TokenBatch) -> Tensor:
        return self._encode(batch)

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        return statistics.tokens / statistics.bytes

    def score(self, texts: Iterable[str], batch_size: int = 64) -> Scores:
        """The negative pseudo-log-likelihood of texts, each token masked in turn (arXiv:1910.14659, equation 2).

        Args:
            texts: N of them; their ends beyond the encoder's `max_length` are left out.
            batch_size: copies of texts, with one mask each, that are computed together.

        Raises:
            UserError: `texts` is a single text or holds anything but texts, or `batch_size` is below 1.
        """
        return score_masked(self, self.head, texts, batch_size)

    def pseudo_score(self, texts: Iterable[str], batch_size: int = 64) -> Scores:
        """As `score`, but the later tokens of its word are masked together with each token (arXiv:2305.10588).

        Raises:
            UserError: `texts` is a single text or holds anything but texts, or `batch_size` is below 1.
        """
        return score_masked(self, self.head, texts, batch_size, within_words=True)

    def score_words(self, prompts: Sequence[Prompt], batch_size: int = 64) -> WordScores:
        """The pseudo-log-likelihood of each word of a prompt, its tokens filled in from left to right."""
        return score_words(self, self.head, prompts, batch_size, causal=False)

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        return filled_samples(self, self.fill_mask, texts)

    def fill_mask(self, text: str, top_k: int = 5) -> Fillings:
        """For each mask in `text` (written `[MASK]`), the `top_k` most probable tokens and their probabilities.

        Raises:
            UserError: `top_k` is below 1, there is no mask, or the text is too long for the encoder.
        """
        return fill_masks(self, self.head, text, top_k)
