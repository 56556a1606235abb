"""Smooth inverse frequency (Arora, Liang and Ma, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", ICLR 2017).

    v_s = 1/|s| sum over w in s of a / (a + p(w)) v_w,    embedding of s = v_s - u u^T v_s

p(w) is the share of a word among the words of the training text, and u the first right singular vector of the v_s of
training sentences (algorithm 1). The paper takes u from the sentences that are then embedded; here it is fixed by training.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data.batch import TokenBatch


class SIF(nn.Module):
    """A weighted mean of token vectors without their common component. Before `fit`, it is the mean of all vectors.

    Args:
        vocab_size: V.
        dim: width D of the vectors.
        a: the smaller it is, the less do frequent words count; the paper recommends 1e-4 to 1e-3.
    """

    weights: Tensor  # (V,): a / (a + p(w)), and 0 for tokens that are no words
    component: Tensor  # (D,): u, of length 1; 0 before it is known

    def __init__(self, vocab_size: int, dim: int, a: float) -> None:
        super().__init__()
        self.a = a
        self.register_buffer("weights", torch.ones(vocab_size))
        self.register_buffer("component", torch.zeros(dim))

    def forward(self, states: Tensor, batch: TokenBatch) -> Tensor:
        """(B, D): the embeddings of B texts, one a row, from the vectors (B, T, D) of their tokens."""
        means = self._means(states, batch)
        return means - (means @ self.component).unsqueeze(1) * self.component

    @torch.no_grad()
    def fit(self, counts: Tensor, texts: Iterable[tuple[Tensor, TokenBatch]]) -> None:
        """Take frequencies and the common component from the training text.

        Args:
            counts: (V,) on the CPU, how often each token occurs; below 0 for tokens that are no words, such as those of the
                frame.
            texts: batches of texts, one a row, with the vectors (B, T, D) of their tokens.
        """
        share = counts.clamp(min=0).double() / counts.clamp(min=0).sum().clamp(min=1)
        self.weights.copy_(torch.where(counts < 0, 0.0, self.a / (self.a + share)))
        squares = torch.zeros(len(self.component), len(self.component), dtype=torch.float64)
        for states, batch in texts:
            means = self._means(states, batch).cpu().double()
            squares += means.T @ means
        self.component.copy_(torch.linalg.eigh(squares).eigenvectors[:, -1])

    def _means(self, states: Tensor, batch: TokenBatch) -> Tensor:
        """(B, D): the weighted sum of the vectors of each text, divided by the number of its words."""
        known = F.pad(self.weights, (0, 1), value=1.0)  # the weight of words that the training text lacks, p(w) = 0
        weights = known[batch.input_ids.clamp(max=len(self.weights))] * batch.is_text
        return (states * weights.unsqueeze(-1)).sum(dim=1) / (weights > 0).sum(dim=1, keepdim=True).clamp(min=1)
