"""ARAE, an adversarially regularized autoencoder (Zhao, Kim, Zhang, Rush & LeCun, arXiv:1706.04223, algorithm 1).

    autoencoder  - log p(x | c + noise) + weight * W,            c = code(x) on the unit sphere
    critic       - W + 10 * mean of (|grad f(point)| - 1)^2,     W = mean of f(c) - mean of f(g(z))
    generator    - mean of f(g(z)),                              z drawn from N(0, I)

The encoder puts a sentence x on the unit sphere, and the decoder writes it back from there. Noise around the code, which
falls during training, makes near codes mean similar sentences. The generator g turns noise into codes, and the critic f
tells them from those of sentences: W estimates the Wasserstein distance of the two, because the gradient penalty keeps the
slope of f near 1 (arXiv:1704.00028). Encoder and generator reduce W from both sides. Then sentences can be drawn: first a
code g(z), then its sentence, token by token from p(x | g(z)).

Each of the three has an optimizer of its own, and acts in every step or in every few. Those that act in a step take their
gradients from the same forward pass, on the same batch, and then all step at once. As in the authors' code
(github.com/jakezhaojb/ARAE), the critic acts more often than the generator and sees codes without noise. Unlike there:

- They act in turn in algorithm 1 and in the code, each time on a new batch: one step of the reconstruction, 5 of the
  critic, and one each of encoder (W alone) and generator, against the critic that has just been updated. Here these two
  move against the critic as it was before the step.
- The autoencoder acts in every step, on the sum of its terms, which learns more in a short training. There, each of the
  terms has one step for 5 of the critic: `autoencoder_every: 5` has this share. The generator's share is that of the code.
- `weight` is 0.1 and that of the gradient penalty 10. The code has 0.1 and 1 for SNLI, and 1 and 10 for One Billion Word.
- The generator's codes are put on the sphere, too, and no layer is normalized over the batch.

A validation has no noise, and its loss is the reconstruction alone, in nats per token, as that of an `Autoencoder`.
"""

import math

import torch
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import refuse
from ssl_nlp.methods.autoencoding.sentence_decoding import SentenceDrawing, examined, take_rows
from ssl_nlp.modules.decoder import DecoderKind
from ssl_nlp.modules.pooling import pool
from ssl_nlp.objectives.adversarial import gradient_penalties
from ssl_nlp.objectives.geometry import unit_vectors, widened
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.players import Player
from ssl_nlp.training.sums import Loss, Term

PENALTY_WEIGHT = 10.0
"""Lambda of arXiv:1704.00028, section 4, and of the authors' script for One Billion Word; that for SNLI has 1."""


class ARAE(SentenceDrawing):
    """Sentence to a point on a sphere to sentence, and noise to points that a critic cannot tell from those of sentences.

    Training logs the loss of the autoencoder and all terms; `loss/critic_distance` is W. Validation logs, beside its loss:

    - `critic_distance`: W on the split. Where the critic has found the best slope between codes at a distance of d, that is
      1 + d / 20, so that W is a little more than d;
    - `token_accuracy` and `exact_match` of what the decoder writes from the code, on 8 sentences of each batch;
    - `code_spread` and `drawn_spread`, of the codes of sentences and of the generator: 0 if all are the same, about 1 if
      they point in all directions.

    Args:
        encoder: bidirectional.
        latent_dim: width Z of the code, 2 or more.
        noise: length of the noise in the first step, about: its standard deviation in each dimension times sqrt(Z). The
            code has length 1.
        noise_left: share of it that is left in the last step; it falls by the same factor in each step. With an unknown
            number of steps it stays.
        distance_weight: weight of W for the encoder, by default that of the authors' script for SNLI. With much more, all
            codes come together before the encoder can tell sentences apart; at 0, only the generator reduces W.
        autoencoder_every: the autoencoder acts in the last of every so many steps; the critic acts in each. The authors'
            share is 5.
        generator_every: the generator acts in the last of every so many steps, by default in the authors' share.
        noise_dim: width of z.
        width: of the two hidden layers of generator and critic.
        decoder_layers: number of layers of the decoder.
        decoder_kind: `transformer`, or a recurrent network: `lstm`, `gru` or `rnn`.
        tied_embeddings: let encoder and decoder share their token embeddings.
        critic_learning_rate: of the critic, which Adam trains at a constant rate. The authors train far longer, at 1e-4.
        generator_learning_rate: likewise of the generator.
        optimization: optimizer and schedule of the autoencoder.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: arguments are invalid; or, in `connect`, the tokenizer puts nothing in front of a sentence.
    """

    short_name = "arae"
    against_collapse = "less noise or a lower distance_weight"
    latent_dim: int

    def __init__(
        self,
        encoder: Encoder | None = None,
        latent_dim: int = 64,
        noise: float = 0.3,
        noise_left: float = 0.2,
        distance_weight: float = 0.1,
        autoencoder_every: int = 1,
        generator_every: int = 5,
        noise_dim: int = 32,
        width: int = 256,
        decoder_layers: int = 2,
        decoder_kind: DecoderKind = "transformer",
        tied_embeddings: bool = False,
        critic_learning_rate: float = 1e-3,
        generator_learning_rate: float = 1e-3,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, latent_dim, decoder_layers, decoder_kind, tied_embeddings, optimization, compile)
        counts = {
            "autoencoder_every": autoencoder_every,
            "generator_every": generator_every,
            "noise_dim": noise_dim,
            "width": width,
        }
        rates = {"critic_learning_rate": critic_learning_rate, "generator_learning_rate": generator_learning_rate}
        problems = {
            f"latent_dim must be 2 or more, not {latent_dim}: a sphere of one dimension is two points, which no gradient "
            "moves": latent_dim < 2,
            **{f"{name} must be 1 or more, not {value}": value < 1 for name, value in counts.items()},
            f"noise must be 0 or more, not {noise}": not 0 <= noise < math.inf,
            f"noise_left must be above 0 and at most 1, not {noise_left}": not 0 < noise_left <= 1,
            **{f"{name} must be positive, not {rate}": not 0 < rate < math.inf for name, rate in rates.items()},
            f"distance_weight must be 0 or more, not {distance_weight}": not 0 <= distance_weight < math.inf,
        }
        refuse(problems, "ARAE")
        self.noise, self.noise_left = noise, noise_left
        self.distance_weight = distance_weight
        self.autoencoder_every, self.generator_every = autoencoder_every, generator_every
        self.noise_dim, self.width = noise_dim, width
        self.critic_optimization, self.generator_optimization = (
            adam(critic_learning_rate),
            adam(generator_learning_rate),
        )

    @property
    def vector_scale(self) -> float:  # type: ignore[override]  # the components of a code are of about 1 / sqrt(Z)
        return 0.1 * math.sqrt(self.latent_dim)

    def build(self) -> None:
        super().build()
        self.bottleneck = nn.Linear(self.encoder.dim, self.latent_dim)
        self.generator = layers(self.noise_dim, self.width, self.latent_dim, nn.ReLU())
        self.critic = layers(self.latent_dim, self.width, 1, nn.LeakyReLU(0.2))

    def players(self) -> dict[str, Player]:
        autoencoder = nn.ModuleList([self.encoder, self.bottleneck, self.decoder])
        terms = ("reconstruction", "critic_distance")
        return {
            "autoencoder": Player(autoencoder, self.optimization, terms, self.autoencoder_every),
            "critic": Player(self.critic, self.critic_optimization, ("critic", "gradient_penalty")),
            "generator": Player(self.generator, self.generator_optimization, ("generator",), self.generator_every),
        }

    def own_embedding(self, hidden: Tensor, batch: TokenBatch) -> Tensor:
        return unit_vectors(self.bottleneck(pool(hidden, batch, self.pooling)))

    def scores(self, codes: Tensor) -> Tensor:
        """(B,): f of codes (B, Z), in float32 or as wide as the weights."""
        return computed(self.critic, codes).squeeze(1)

    def codes(self, noise: Tensor) -> Tensor:
        """(B, Z): the codes that the generator makes of noise (B, `noise_dim`)."""
        return unit_vectors(computed(self.generator, noise))

    def between(self, first: Tensor, last: Tensor, share: Tensor) -> Tensor:
        return unit_vectors(super().between(first, last, share))

    def from_prior(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        return self.codes(torch.randn(number, self.noise_dim, generator=generator, device=self.device))

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise in each dimension, in the current step."""
        left = 1.0 if self.total_steps == math.inf else self.noise_left ** (self.step / max(self.total_steps - 1, 1))
        return self.noise * left / math.sqrt(self.latent_dim)

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        rows = torch.tensor(len(batch), device=batch.input_ids.device)
        found = {"reconstruction": (self.targets(batch) != IGNORE_INDEX).sum(), "critic_distance": rows}
        found = found if self.acts("autoencoder") else {}
        found |= {"critic": rows, "gradient_penalty": rows}
        return found | ({"generator": rows} if self.acts("generator") else {})

    def loss(self, batch: TokenBatch) -> Loss:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.acts("autoencoder")):
            codes = self.embed_batch(batch)
        made = self.from_prior(len(batch))
        real, drawn = self.scores(codes), self.scores(made)
        rows = torch.tensor(len(batch), device=codes.device)
        terms = {}
        if self.acts("autoencoder"):
            vectors = codes + self.deviation * torch.randn_like(codes)
            terms["reconstruction"] = Term(*self.decoder.loss(vectors, batch, self.targets(batch)))
            terms["critic_distance"] = Term((real - drawn.detach()).sum(), rows, self.distance_weight)
        terms["critic"] = Term((drawn - real).sum(), rows)
        terms["gradient_penalty"] = Term(gradient_penalties(self.scores, codes, made).sum(), rows, PENALTY_WEIGHT)
        if self.acts("generator"):
            terms["generator"] = Term(-drawn.sum(), rows)
        return Loss(terms)

    def validation_loss(self, batch: TokenBatch) -> Loss:
        codes, made = self.embed_batch(batch), self.from_prior(len(batch))
        rows = torch.tensor(len(batch), device=codes.device)
        chosen = examined(len(batch)).to(codes.device)
        metrics = self.accuracies(codes[chosen], take_rows(batch, chosen))
        metrics["critic_distance"] = (self.scores(codes) - self.scores(made)).sum(), rows
        for name, vectors in {"code": codes, "drawn": made}.items():
            metrics |= {f"_{name}": (vectors.sum(dim=0), rows), f"_{name}_square": (vectors.square().sum(dim=0), rows)}
        return Loss({"reconstruction": Term(*self.decoder.loss(codes, batch, self.targets(batch)))}, metrics)

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        summary = {name: mean for name, mean in means.items() if not name.startswith("_")}
        for name in ("code", "drawn"):
            variance = means[f"_{name}_square"] - means[f"_{name}"].square()
            summary[f"{name}_spread"] = variance.clamp(min=0).sqrt().mean() * math.sqrt(self.latent_dim)
        return summary


def adam(rate: float) -> Optimization:
    """Adam at a constant rate, with the betas in the code of Gulrajani et al. (arXiv:1704.00028)."""
    return Optimization(learning_rate=rate, betas=(0.5, 0.9), weight_decay=0.0, schedule="constant", warmup=0)


def layers(inputs: int, width: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    """Two hidden layers, as generator and critic have in the paper."""
    return nn.Sequential(
        nn.Linear(inputs, width), activation, nn.Linear(width, width), activation, nn.Linear(width, outputs)
    )


def computed(network: nn.Sequential, x: Tensor) -> Tensor:
    """The output of a network for inputs (B, I), in the precision of its weights, because second derivatives need it."""
    with torch.autocast(x.device.type, enabled=False):
        return widened(network(x.to(next(network.parameters()).dtype)))
