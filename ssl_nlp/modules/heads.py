"""Layers on top of an encoder: the output of a language model, the projection of a contrastive method."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_nlp.encoders import Encoder
from ssl_nlp.encoders.language_head import HeadLayers, our_layers
from ssl_nlp.errors import UserError
from ssl_nlp.modules.pooling import Pooling
from ssl_nlp.objectives.cross_entropy import linear_cross_entropy, token_losses


class LanguageModelHead(nn.Module):
    """Hidden states to token probabilities: dense, activation, norm, then the transposed token embedding and a bias.

    By default BERT's head (arXiv:1810.04805, released code) with GELU and without a bias in the dense layer, as in
    ModernBERT: the weights load one to one into `ModernBertForMaskedLM` and `ModernBertDecoderForCausalLM`. A copy of the
    whole method shares the copied embedding; a copy of the head alone has an embedding of its own that nobody trains.

    Args:
        dim: width D of the hidden states.
        embedding: the token embedding (V, E) whose weights the output layer shares (arXiv:1608.05859).
        layers: of a head of another form, whose output layer may have weights of its own.
        never: (V,) bool, the tokens that have probability 0; None: every token has a positive one.
    """

    never: Tensor | None

    def __init__(
        self, dim: int, embedding: nn.Embedding, layers: HeadLayers | None = None, never: Tensor | None = None
    ) -> None:
        super().__init__()
        layers = layers or our_layers(dim, embedding)
        self.register_buffer("never", never, persistent=False)
        self.dense, self.activation, self.norm = layers.dense, layers.activation, layers.norm
        self.weight, self.bias = (None if x is None else nn.Parameter(x.detach()) for x in (layers.weight, layers.bias))
        self._embedding = [embedding]  # in a list because the encoder owns it: it must not appear twice in a checkpoint

    @property
    def output_weight(self) -> Tensor:
        """(V, E): the shared embedding, or the output layer's own weights."""
        return self._embedding[0].weight if self.weight is None else self.weight

    @property
    def output_bias(self) -> Tensor | None:
        """(V,): the bias of the output layer, -inf for the tokens that have probability 0; None if there is neither."""
        if self.never is None:
            return self.bias
        bias = torch.zeros_like(self.output_weight[:, 0]) if self.bias is None else self.bias
        return bias.masked_fill(self.never, -torch.inf)

    def _transform(self, hidden: Tensor) -> Tensor:
        if self.dense is None or self.norm is None:
            return hidden
        transformed: Tensor = self.norm(self.activation(self.dense(hidden)))
        return transformed

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) to logits (..., V)."""
        return F.linear(self._transform(hidden), self.output_weight, self.output_bias)

    def loss(
        self, hidden: Tensor, targets: Tensor, smoothing: float = 0.0, factors: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of `targets` (N,) at `hidden` (N, D), summed, and the number of targets that are not -100.

        Args:
            smoothing: this share of each target's probability is spread evenly over the vocabulary.
            factors: (N,), by which the losses are multiplied before they are summed; None: 1.
        """
        states = self._transform(hidden)
        return linear_cross_entropy(states, self.output_weight, self.output_bias, targets, smoothing, factors)

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(N,): the cross-entropy of each target, 0 where it is -100. Arguments as those of `loss`; no gradient."""
        return token_losses(self._transform(hidden), self.output_weight, self.output_bias, targets)[0]

    @torch.no_grad()
    def joint_losses(
        self, contexts: Sequence[tuple[Tensor, Tensor]], log_prior: Tensor, possible: Tensor, targets: Tensor
    ) -> Tensor:
        """(N,): the cross-entropy of each target given n contexts that are independent of each other given the token.

        By Bayes' rule, and up to a factor that makes the sum over the possible tokens 1,

            p(x | c_1 ... c_n)  is proportional to  p(x) * product over k of p(x | c_k) / p(x)

        Args:
            contexts: of each, the hidden states (N, D) and where there are any, (N,) bool. A target without any context
                has its prior probability.
            log_prior: (V,) log p(x), up to a constant.
            possible: (V,) bool, the tokens that a target may be.
            targets: (N,) int64, -100 where nothing is predicted.

        Returns:
            Nats, 0 where nothing is predicted; no gradient.
        """
        # The logits of a product are sums of logits, and the output layer is linear: one product of matrices for all.
        states = sum(self._transform(hidden).masked_fill(~known[:, None], 0) for hidden, known in contexts)
        number = sum(known.long() for _, known in contexts)
        assert isinstance(states, Tensor) and isinstance(number, Tensor)
        losses = torch.zeros_like(states[:, 0])
        for n in range(len(contexts) + 1):
            rows = number == n
            bias = (1 - n) * log_prior
            if n and self.output_bias is not None:
                bias = bias + n * self.output_bias
            bias = bias.masked_fill(~possible, -torch.inf)
            losses[rows] = token_losses(states[rows], self.output_weight, bias, targets[rows])[0]
        return losses


class ClassifierHead(nn.Module):
    """States to logits of classes: dense, GELU, norm, linear, as in ModernBERT for sequence classification.

    Args:
        dim: width D of the pooled states.
        classes: C of them.
        dropout: rate before the last layer.
    """

    def __init__(self, dim: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim, bias=False)
        self.drop = checked_dropout(dropout)
        self.classifier = class_layer(dim, classes)
        nn.init.trunc_normal_(self.dense.weight, std=0.02, a=-0.04, b=0.04)

    def forward(self, states: Tensor) -> Tensor:
        """(..., D) to logits (..., C)."""
        logits: Tensor = self.classifier(self.drop(self.norm(F.gelu(self.dense(states)))))
        return logits


class TanhHead(nn.Module):
    """Pooled states to logits of classes: dense, tanh, linear, as in BERT and RoBERTa for sequence classification.

    Args:
        dim: width D of the pooled states.
        classes: C of them.
        dropout: rate before the last layer.
    """

    def __init__(self, dim: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.drop = checked_dropout(dropout)
        self.classifier = class_layer(dim, classes)
        nn.init.trunc_normal_(self.dense.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.dense.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) to logits (B, C)."""
        logits: Tensor = self.classifier(self.drop(torch.tanh(self.dense(pooled))))
        return logits


class LinearHead(nn.Module):
    """States to logits of classes by one linear layer, as in stock models for token classification.

    Args:
        dim: width D of the states.
        classes: C of them.
        dropout: rate before the layer.
        bias: whether the layer has one.
    """

    def __init__(self, dim: int, classes: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        self.drop = checked_dropout(dropout)
        self.classifier = class_layer(dim, classes, bias)

    def forward(self, states: Tensor) -> Tensor:
        """(..., D) to logits (..., C)."""
        logits: Tensor = self.classifier(self.drop(states))
        return logits


def class_layer(dim: int, classes: int, bias: bool = True) -> nn.Linear:
    """The last layer of a head: states (..., dim) of unit scale to logits (..., classes) of unit scale.

    Its weights have the standard deviation dim^-1/2, as in ModernBERT's stock classes. With BERT's 0.02 (arXiv:1810.04805,
    released code), logits begin near zero, and the encoder learns slowly at the low rates of fine-tuning.
    """
    layer = nn.Linear(dim, classes, bias=bias)
    std = dim**-0.5
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def checked_dropout(rate: float) -> nn.Dropout:
    """Dropout before the last layer of a head.

    Raises:
        UserError: the rate is not at least 0 and below 1.
    """
    if not 0 <= rate < 1:
        raise UserError(f"dropout of the head must be at least 0 and less than 1, not {rate}")
    return nn.Dropout(rate)


def text_head(encoder: Encoder, classes: int, dropout: float = 0.0) -> tuple[nn.Module, Pooling]:
    """A head that classifies texts, and the pooling that it reads: those of the stock class of the encoder's model.

    So `ssl-nlp export` can write the fine-tuned model for `AutoModelForSequenceClassification`.
    """
    if encoder.stock_head == "prediction":
        return ClassifierHead(encoder.dim, classes, dropout), "last" if encoder.causal else "mean"
    if encoder.stock_head == "tanh":
        return TanhHead(encoder.dim, classes, dropout), "first"
    if encoder.stock_head == "maximum":
        return LinearHead(encoder.dim, classes, dropout), "max"
    return LinearHead(encoder.dim, classes, dropout, bias=False), "last" if encoder.causal else "mean"


def token_head(encoder: Encoder, classes: int, dropout: float = 0.0) -> nn.Module:
    """A head that classifies each token: that of the stock class of the encoder's model, as in `text_head`."""
    if encoder.stock_head == "prediction":
        return ClassifierHead(encoder.dim, classes, dropout)
    return LinearHead(encoder.dim, classes, dropout)


class PairHead(nn.Module):
    """Classify whether the two texts of a row belong together in this order: first token's state, dense, tanh, two classes.

    It is BERT's pooler and classifier (arXiv:1810.04805, section 3.1, Task 2, and released code). The first token is a
    special one in every frame of ours, so its state is free to say something about the row.

    Args:
        dim: width D of the hidden states.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, 2)
        for layer in (self.dense, self.output):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) to logits (B, 2)."""
        logits: Tensor = self.output(torch.tanh(self.dense(hidden[:, 0])))
        return logits


@dataclass
class Projection:
    """Layers between the embedding and the loss, which keep its invariances out of the embedding (SimCLR, section 4.2)."""

    depth: int = 0
    """Number of linear layers, with a ReLU between two. 0: the embedding itself is compared."""
    width: int = 256
    """Outputs of each layer."""

    def __post_init__(self) -> None:
        if self.depth < 0 or self.width < 1:
            raise UserError(
                f"projection: depth must be 0 or more and width 1 or more, not {self.depth} and {self.width}"
            )

    def build(self, dim: int) -> nn.Sequential:
        """The layers, from embeddings (B, dim) to (B, width)."""
        layers: list[nn.Module] = []
        for _ in range(self.depth):
            layers += [nn.Linear(dim, self.width), nn.ReLU()]
            dim = self.width
        return nn.Sequential(*layers[:-1])
