"""The encoder of a model that has none."""

import sys
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ssl_nlp.encoders.base import Encoder
from ssl_nlp.errors import UserError


class NoEncoder(Encoder):
    """Takes the place of an encoder in a model that counts instead of learning by gradients.

    It reads rows of any length and has no hidden states, so that the model embeds nothing. Its only parameter is empty:
    optimizers and strategies refuse a model without one.
    """

    dim = 0

    def _create(self) -> None:
        self.max_length = sys.maxsize
        self.nothing = nn.Parameter(torch.empty(0))

    def penalty(self) -> Tensor:
        """0, with the gradient of nothing: something to begin a backward pass with."""
        return self.nothing.sum()

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UserError("this model has no encoder and embeds no text: use one that has")

    @property
    def embedding(self) -> nn.Embedding:
        raise UserError("this model has no encoder, and so no token embedding: use one that has")

    def hparams(self) -> dict[str, Any]:
        return {}
