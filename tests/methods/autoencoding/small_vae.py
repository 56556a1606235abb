"""A small variational autoencoder."""

import torch

from ssl_nlp.methods import VAE
from tests.methods.sentences import encoder

PLAIN = {"free_bits": 0.0}


def connected(tokenizer, dim=32, spread=1.0, **arguments) -> VAE:
    """A VAE whose posteriors differ from sentence to sentence, and from the prior."""
    torch.manual_seed(0)
    method = VAE(encoder(dim), **arguments)
    method.connect(tokenizer)
    torch.nn.init.normal_(method.to_posterior.weight, std=spread)
    torch.nn.init.normal_(method.decoder.condition.weight, std=0.5 / method.vector_scale)
    return method
