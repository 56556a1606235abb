"""CBOW: predict a word from the mean of the vectors of the words near it (Mikolov et al., arXiv:1301.3781, section 3.1).

    loss = - sum over words j of log p(j | mean of u_i over the words i near j)

with p as in skip-gram: negative sampling, or the hierarchical softmax. Each word near j gets the exact gradient of the
mean. The program of the paper, and gensim after it, does not divide it by the number of these words (arXiv:2012.15332).
Where words have n-grams (`BagOfWords`), each word counts equally in the mean; in fastText's program, each n-gram does.
"""

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.methods.word_vectors.windowed import SHARED, Windowed, Windows
from ssl_nlp.objectives.word_vectors import band, hierarchical_softmax, negative_sampling
from ssl_nlp.training.sums import Loss, Term


class CBOW(Windowed):
    """Word vectors whose mean predicts the word between them."""

    loss_unit = "nats per word"

    def loss(self, batch: TokenBatch) -> Loss:
        windows = self.windows(batch)
        chosen = windows.near.any(dim=2)  # a word alone has nothing to be predicted from
        with torch.autocast(batch.input_ids.device.type, enabled=False):
            means = self._means(windows)
            total = (self._by_paths if self.hierarchical else self._by_negatives)(means, windows.words, chosen)
        return Loss({"word": Term(total, chosen.sum())})

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"word": self.windows(batch).near.any(dim=2).sum()}

    def _means(self, windows: Windows) -> Tensor:
        """(C, T, D): the mean input vector of each window; 0 for an empty one."""
        inputs = self.encoder.look_up(windows.around)
        weights = windows.near / windows.near.sum(dim=2, keepdim=True).clamp(min=1)
        matrices = inputs.new_zeros(*windows.words.shape, inputs.shape[1])
        band(matrices, weights.shape[2]).copy_(weights)
        return matrices @ inputs

    def _by_negatives(self, means: Tensor, words: Tensor, chosen: Tensor) -> Tensor:
        negatives = self.draw_negatives(len(words))
        outputs = self.rows(self.outputs, torch.cat([words, negatives], dim=1))
        own, drawn = outputs.split([words.shape[1], SHARED], dim=1)
        true = (means * own).sum(dim=2, keepdim=True)
        return negative_sampling(true, means @ drawn.transpose(1, 2), chosen[..., None], self.negatives / SHARED)

    def _by_paths(self, means: Tensor, words: Tensor, chosen: Tensor) -> Tensor:
        nodes, signs = self.frequencies.nodes[words], self.frequencies.signs[words]
        scores = self.rows(self.outputs, nodes) @ means[..., None]
        return hierarchical_softmax(scores.flatten(0, 1), signs.flatten(0, 1), chosen.view(-1, 1))
