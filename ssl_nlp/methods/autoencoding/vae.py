"""A variational autoencoder of sentences (Kingma & Welling, arXiv:1312.6114; Bowman et al., arXiv:1511.06349).

    loss = - log p(x | z) + weight * KL(q(z | x) || N(0, 1)),   z drawn from q(z | x) = N(mean(x), variance(x))

The encoder sees a sentence x and says where in the latent space it lies; the decoder sees a point z drawn from there and
the tokens that it has to continue, some of them hidden (word dropout). Both terms are sums, over tokens and over latent
dimensions, averaged over sentences: with weight 1 the loss is the negative ELBO. The decoder could do without z, and the
posterior would collapse to the prior. Against that, some of the KL is free (free bits), or its weight rises from 0
(annealing).

A validation has weight 1, no free bits, no word dropout and a single draw of z: its loss is the negative ELBO of a sentence
in nats, an upper bound of -log p(x).
"""

import math
from collections.abc import Iterable
from typing import get_args

import torch
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX, concatenate
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.methods.autoencoding.sentence_decoding import SentenceDrawing, examined, take_rows
from ssl_nlp.methods.scoring import score_rows
from ssl_nlp.modules.decoder import DecoderKind
from ssl_nlp.modules.pooling import pool
from ssl_nlp.objectives.gaussian import (
    Annealing,
    FreeBitsPer,
    annealing,
    free_bits,
    gaussian_log_density,
    importance_weighted_nll,
    kl_to_standard_normal,
    mutual_information,
    reparameterize,
)
from ssl_nlp.objectives.geometry import widened
from ssl_nlp.objectives.predictions import Predictions
from ssl_nlp.objectives.scores import Scores
from ssl_nlp.objectives.views import Mask
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term

ACTIVE = 0.01
"""Variance over the data above which the posterior mean of a dimension is active (arXiv:1509.00519, section 5.2)."""
TOKENS = 2**14
"""The most that the decoder reads at a time when each sentence has several draws of z; a single draw is never divided."""


class VAE(SentenceDrawing):
    """Sentence to Gaussian to sentence. Its embedding is the mean of the posterior.

    Training logs the terms that are minimised, and the true KL as `kl`. Validation logs, in nats a sentence unless said
    otherwise:

    - `loss/reconstruction`, `kl` and `elbo` = -`loss`;
    - `iw_nll`, the importance-weighted upper bound of -log p(x), tighter than `loss`: that less what K draws of z gain
      over one, which is measured on 8 sentences of each batch;
    - `perplexity` and `bits_per_byte` that follow from `iw_nll`: upper bounds as well;
    - `active_units`, how many latent dimensions have a posterior mean that varies over the split (by more than 0.01);
    - `mutual_information` of sentence and z, estimated within batches: it cannot exceed the log of their size;
    - `token_accuracy` and `exact_match` of what the decoder writes from the posterior mean, on the same 8 sentences.

    Args:
        encoder: bidirectional.
        latent_dim: number Z of latent dimensions.
        beta: weight of the KL (beta-VAE), once annealing is over.
        annealing: how the weight gets there: `linear` from 0, `cyclical` several times from 0, or `none`, at once.
        annealing_steps: steps of the optimizer until then: a number if whole (1000), a share of all steps if not (0.4);
            null for `none`.
        annealing_cycles: how often `cyclical` rises.
        free_bits: nats of KL that cost nothing, on the average of a batch.
        free_bits_per: whether each latent `dimension` has so many, or all of them together (`total`).
        word_dropout: share of the tokens that the mask token hides from the decoder in training.
        importance_samples: draws K of z for `iw_nll` and for `score`, whose time grows with K.
        decoder_layers: number of layers of the decoder.
        decoder_kind: `transformer`, or a recurrent network: `lstm` (as Bowman's), `gru` or `rnn`.
        tied_embeddings: let encoder and decoder share their token embeddings.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: arguments are invalid; or, in `connect`, the tokenizer puts nothing in front of a sentence, or
            has no mask token for `word_dropout`.
    """

    loss_unit = "nats per sentence"
    against_collapse = "free bits, slower annealing or a smaller decoder"
    vector_scale = 0.02  # the vector is mostly noise at first and must not drown the tokens
    likelihood = "bound"
    latent_dim: int

    def __init__(
        self,
        encoder: Encoder | None = None,
        latent_dim: int = 16,
        beta: float = 1.0,
        annealing: Annealing = "none",
        annealing_steps: int | float | None = None,
        annealing_cycles: int = 4,
        free_bits: float = 4.5,
        free_bits_per: FreeBitsPer = "total",
        word_dropout: float = 0.0,
        importance_samples: int = 32,
        decoder_layers: int = 2,
        decoder_kind: DecoderKind = "transformer",
        tied_embeddings: bool = False,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, latent_dim, decoder_layers, decoder_kind, tied_embeddings, optimization, compile)
        problems = {
            f"annealing {annealing!r} is unknown: use none, linear or cyclical": annealing not in get_args(Annealing),
            f"free_bits_per {free_bits_per!r} is unknown: use dimension or total": (
                free_bits_per not in get_args(FreeBitsPer)
            ),
            f"beta must be 0 or more, not {beta}": not 0 <= beta < math.inf,
            f"annealing_steps {annealing_steps} is neither a number of steps, 1 or more, nor a share in (0, 1]": (
                annealing_steps is not None
                and not (0 < annealing_steps <= 1 if isinstance(annealing_steps, float) else annealing_steps >= 1)
            ),
            f"annealing_steps {annealing_steps} contradicts annealing none: set it to null": (
                annealing_steps is not None and annealing == "none"
            ),
            f"annealing {annealing} needs annealing_steps": annealing != "none" and annealing_steps is None,
            f"annealing_cycles must be 1 or more, not {annealing_cycles}": annealing_cycles < 1,
            f"free_bits must be 0 or more, not {free_bits}": not 0 <= free_bits < math.inf,
            f"free_bits {free_bits} contradicts annealing cyclical, which frees all of the KL again and again: "
            "set one of them to 0 or none": free_bits > 0 and annealing == "cyclical",
            f"word_dropout must be between 0 and 1, not {word_dropout}": not 0 <= word_dropout <= 1,
            f"importance_samples must be 1 or more, not {importance_samples}": importance_samples < 1,
        }
        refuse(problems, "VAE")
        self.beta = beta
        self.annealing = annealing
        self.annealing_steps = annealing_steps
        self.annealing_cycles = annealing_cycles
        self.free_bits = free_bits
        self.free_bits_per = free_bits_per
        self.word_dropout = word_dropout
        self.importance_samples = importance_samples

    def build(self) -> None:
        if self.tokenizer.mask_id is None and self.word_dropout > 0:
            raise UserError(
                "word_dropout hides words with the mask token, which this tokenizer lacks: set word_dropout to 0"
            )
        super().build()
        self.to_posterior = nn.Linear(self.encoder.dim, 2 * self.latent_dim)

    def posterior(self, batch: TokenBatch, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, Z) each: mean and log variance of q(z | x).

        Args:
            batch: B sentences.
            hidden: (B, T, D), their states, where they are known.
        """
        pooled = pool(self.states(batch) if hidden is None else hidden, batch, self.pooling)
        mean, log_variance = widened(self.to_posterior(pooled)).chunk(2, dim=1)
        return mean, log_variance

    def own_embedding(self, hidden: Tensor, batch: TokenBatch) -> Tensor:
        return self.posterior(batch, hidden)[0]

    def from_prior(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(number, self.latent_dim, generator=generator, device=self.device)

    def collapse(self, embeddings: Tensor) -> str | None:
        # Means that differ by less than the posterior's deviation tell the decoder nothing, whatever their scale.
        if (embeddings.var(dim=0) > ACTIVE).any():
            return None
        return f"no latent dimension's mean varies by more than {ACTIVE}: the posterior is the prior"

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the current optimizer step.

        Raises:
            UserError: it rises over a share of all steps, and these are not known.
        """
        steps = self.annealing_steps or 0
        if isinstance(steps, float) and self.trained:
            steps *= self.total_steps
            if steps == math.inf:
                raise UserError(
                    f"annealing_steps {self.annealing_steps} as a share of all steps needs the number of steps: set "
                    "trainer.max_steps"
                )
        return self.beta * annealing(self.step, self.annealing, steps, self.annealing_cycles)

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        return dict.fromkeys(("reconstruction", "kl"), torch.tensor(len(batch), device=batch.input_ids.device))

    def loss(self, batch: TokenBatch) -> Loss:
        mean, log_variance = self.posterior(batch)
        z = reparameterize(mean, log_variance)
        by_dimension = kl_to_standard_normal(mean, log_variance)
        kl = by_dimension.sum(dim=1)
        sentences = torch.tensor(len(batch), device=z.device)
        seen, cost, weight = batch, kl, 1.0
        if self.training:
            weight = self.kl_weight
            if self.word_dropout > 0:
                seen = Mask(self.word_dropout)(batch, self.vocabulary)
            if self.free_bits > 0:
                cost = free_bits(by_dimension, self.free_bits, self.free_bits_per)
        reconstruction, tokens = self.decoder.loss(z, seen, self.targets(batch))
        terms = {"reconstruction": Term(reconstruction, sentences), "kl": Term(cost.sum(), sentences, weight)}
        loss = Loss(terms, {"kl": (kl.sum(), sentences)})
        if self.training:
            loss.metrics["kl_weight"] = torch.tensor(weight, device=z.device), torch.tensor(1, device=z.device)
            return loss
        rows = examined(len(batch)).to(z.device)
        some = take_rows(batch, rows)
        elbo_nll, iw_nll = self.nll_bounds(some, mean[rows], log_variance[rows], self.importance_samples)
        loss.metrics |= self.accuracies(mean[rows], some) | {
            "mutual_information": (mutual_information(z, mean, log_variance).sum(), sentences),
            "_gain": ((elbo_nll - iw_nll).sum(), torch.tensor(len(rows), device=z.device)),
            "_tokens": (tokens, sentences),
            "_mean": (mean.sum(dim=0), sentences),
            "_mean_square": (mean.square().sum(dim=0), sentences),
        }
        return loss

    @torch.no_grad()
    def nll_bounds(self, batch: TokenBatch, mean: Tensor, log_variance: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Two upper bounds of -log p(x), from the same draws of z, in nats.

        Args:
            batch: B sentences.
            mean: (B, Z), of their posteriors.
            log_variance: (B, Z).
            samples: number K of draws.

        Returns:
            (B,): the negative ELBO, averaged over the draws; (B,): the importance-weighted bound, which is never larger.
        """
        log_p_x = []
        z = torch.stack([reparameterize(mean, log_variance) for _ in range(samples)])
        for group in z.split(max(TOKENS // batch.input_ids.numel(), 1)):
            rows = concatenate([batch] * len(group), self.tokenizer.pad_id)
            log_p_x.append(-self.decoder.sentence_losses(group.flatten(0, 1), rows, self.targets(rows)))
        zero = torch.zeros_like(mean)
        parts = (
            torch.cat(log_p_x).view(samples, len(batch)),
            gaussian_log_density(z, zero, zero),
            gaussian_log_density(z, mean, log_variance),
        )
        return -(parts[0] + parts[1] - parts[2]).mean(dim=0), importance_weighted_nll(*parts)

    @torch.no_grad()
    def explain_loss(self, batch: TokenBatch) -> Predictions:
        """Each sentence, of whose negative log-probability the negative ELBO is an upper bound."""
        mean, log_variance = self.posterior(batch)
        nats = self._negative_elbo(batch, mean, log_variance)
        return Predictions(batch, self.targets(batch), nats, per_row=True)

    def _negative_elbo(self, batch: TokenBatch, mean: Tensor, log_variance: Tensor) -> Tensor:
        """(B,) nats of sentences for one draw of z from their posteriors."""
        z = reparameterize(mean, log_variance)
        kl = kl_to_standard_normal(mean, log_variance).sum(dim=1)
        return kl + self.decoder.sentence_losses(z, batch, self.targets(batch))

    def score(self, texts: Iterable[str], batch_size: int = 64) -> Scores:
        """The importance-weighted upper bound of -log p of each text, from `importance_samples` draws of z.

        A validation estimates the mean of this bound over texts (`iw_nll`), from other draws and, in part, fewer sentences.

        Raises:
            UserError: `texts` is a single text or holds anything but texts, or `batch_size` is below 1.
        """

        def score_batch(batch: TokenBatch) -> tuple[Tensor, Tensor]:
            _, nats = self.nll_bounds(batch, *self.posterior(batch), self.importance_samples)
            return nats, (self.targets(batch) != IGNORE_INDEX).sum(dim=1)

        return score_rows(self, texts, batch_size, score_batch)

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        return (statistics.tokens + statistics.documents) / statistics.bytes  # each sentence's end is predicted too

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        negative_elbo = means["loss/reconstruction"] + means["loss/kl"]
        iw_nll = negative_elbo - means["_gain"]
        nats = iw_nll / means["_tokens"]
        variance = means["_mean_square"] - means["_mean"].square()
        summary = {name: mean for name, mean in means.items() if not name.startswith("_")}
        summary |= {"elbo": -negative_elbo, "iw_nll": iw_nll, "perplexity": nats.exp()}
        if statistics is not None:
            summary["bits_per_byte"] = nats * (self.targets_per_byte(statistics) / math.log(2))
        return summary | {"active_units": (variance > ACTIVE).sum()}
