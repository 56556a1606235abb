"""Skip-gram: predict the words near a word (Mikolov et al., arXiv:1301.3781, section 3.2; arXiv:1310.4546, section 2).

    loss = - sum over pairs of words i and j near each other of log p(j | i), where with negative sampling

    log p(j | i)  becomes  log σ(u_i · v_j) + sum over k random words n of log σ(- u_i · v_n)

and with the hierarchical softmax p(j | i) is a product over the path to j in a Huffman tree. u are the vectors of the
encoder, v those of the method.

A step multiplies the vectors of 32 words in a row with those of all words near any of them and of 32 negatives, which they
share, in one matrix product, because two cores compute products fast and fetch vectors slowly.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data import TokenBatch
from ssl_nlp.methods.word_vectors.windowed import SHARED, Windowed, Windows
from ssl_nlp.objectives.word_vectors import hierarchical_softmax, skip_gram
from ssl_nlp.training.sums import Loss, Term


class SkipGram(Windowed):
    """Word vectors that predict the words near a word."""

    def loss(self, batch: TokenBatch) -> Loss:
        windows = self.windows(batch)
        with torch.autocast(batch.input_ids.device.type, enabled=False):
            total = self._by_paths(windows) if self.hierarchical else self._by_negatives(windows)
        return Loss({"pair": Term(total, windows.near.sum())})

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"pair": self.windows(batch).near.sum()}

    def _by_negatives(self, windows: Windows) -> Tensor:
        around = windows.around
        negatives = self.draw_negatives(len(around))
        inputs = self.encoder.look_up(windows.words)
        outputs = self.rows(self.outputs, torch.cat([around, negatives], dim=1))
        return skip_gram(inputs, outputs, windows.near, self.negatives / SHARED)

    def _by_paths(self, windows: Windows) -> Tensor:
        """The window of a word holds the words whose paths it predicts; seen from a path, it is the other way around."""
        reach, words = windows.reach, windows.words.flatten()
        near = F.pad(windows.near.flatten(0, 1), (0, 0, reach, reach))
        width = near.shape[1]
        chosen = near.as_strided((len(words), width), (width, width - 1), width - 1)
        inputs = self.encoder.look_up(windows.ids).unfold(0, width, 1)
        nodes = self.rows(self.outputs, self.frequencies.nodes[words])
        return hierarchical_softmax(nodes @ inputs, self.frequencies.signs[words], chosen)
