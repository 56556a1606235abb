"""A method that tests of costs train."""

import torch

from ssl_nlp.methods import Method
from ssl_nlp.training.sums import Loss, Term


class States(Method):
    """A method whose loss is the sum of the encoder's states."""

    def loss(self, batch):
        states = self.encoder(batch)
        return Loss({"states": Term(states.sum(), torch.tensor(len(states)))})
