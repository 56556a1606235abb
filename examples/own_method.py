"""A method in a file of its own: Barlow Twins (Zbontar et al., arXiv:2103.03230, equation 1).

loss = sum over i of (1 - C_ii)^2 + redundancy * sum over i != j of C_ij^2

C_ij is the correlation, over a batch, between dimension i of one view of each sentence and dimension j of the other.
"""

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.encoders import Encoder
from ssl_nlp.methods import Loss, Method, Optimization, Term
from ssl_nlp.objectives.views import Delete, apply_views


class BarlowTwins(Method):
    """Two views of a sentence agree in every dimension, and no two dimensions carry the same information."""

    units = ("sentence",)
    loss_unit = "sum of squares"

    def __init__(self, encoder: Encoder, redundancy: float = 0.01, optimization: Optimization | None = None) -> None:
        super().__init__(encoder, optimization)
        self.redundancy = redundancy

    def loss(self, batch: TokenBatch) -> Loss:
        first, second = self.view(batch), self.view(batch)
        correlation = first.T @ second / len(first)
        on, total = (1 - correlation.diagonal()).square().sum(), correlation.square().sum()
        off, sentences = total - correlation.diagonal().square().sum(), torch.tensor(len(first), device=first.device)
        terms = {"invariance": Term(on * sentences, sentences)}
        return Loss(terms | {"redundancy": Term(off * sentences, sentences, weight=self.redundancy)})

    def view(self, batch: TokenBatch) -> Tensor:
        """(B, D): embeddings of the sentences with a fifth of their tokens deleted, standardised over the batch."""
        vectors = self.embed_batch(apply_views([Delete(0.2)], batch, self.vocabulary))
        return (vectors - vectors.mean(dim=0)) / (vectors.std(dim=0, correction=0) + 1e-4)
