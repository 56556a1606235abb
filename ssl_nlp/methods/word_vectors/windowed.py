"""The common part of skip-gram and CBOW: the words that are kept, the windows around them, and the ways to score a word.

Mikolov et al., "Efficient Estimation of Word Representations in Vector Space" (arXiv:1301.3781), and "Distributed
Representations of Words and Phrases and their Compositionality" (arXiv:1310.4546). Two details are those of their program,
which gensim follows: the formula of subsampling, and windows that are drawn after it, from what is left. Unlike there, a
negative counts even where it is the true word: that is one word among the many that share it.
"""

import sys
from typing import Literal, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import refuse
from ssl_nlp.methods.word_vectors.tables import WordVectors
from ssl_nlp.objectives.word_vectors import context_windows, huffman_paths
from ssl_nlp.terminal import say
from ssl_nlp.training.optimization import Optimization

BLOCK = 32
"""Words in a row whose products with all words near them are one matrix product."""
SHARED = 32
"""Negatives that a block shares."""
FEW = 0.15
"""Share of the words of a text that subsampling should leave."""

Output = Literal["negative_sampling", "hierarchical_softmax"]


class Frequencies(NamedTuple):
    """Numbers that follow from the counts of words.

    Attributes:
        kept: (V,) float32, the probability that an occurrence of a word is kept.
        noise: (V,) float64, in proportion to which negatives are drawn.
        nodes, signs: (V, L), the paths of the Huffman tree; empty with negative sampling.
    """

    kept: Tensor
    noise: Tensor
    nodes: Tensor
    signs: Tensor


class Windows(NamedTuple):
    """The kept words of a batch in C blocks of T words, with R places for words before and after them.

    Attributes:
        ids: (R + C T + R,) int64; the padding token where there is no word.
        near: (C, T, 2R + 1) bool, which words stand in the window of each word (`context_windows`).
    """

    ids: Tensor
    near: Tensor

    @property
    def reach(self) -> int:
        """R."""
        return self.near.shape[2] // 2

    @property
    def words(self) -> Tensor:
        """(C, T) int64: the words in the middle of the windows."""
        return self.ids[self.reach : len(self.ids) - self.reach].view(-1, BLOCK)

    @property
    def around(self) -> Tensor:
        """(C, T + 2R) int64: each block with the words before and after it."""
        return self.ids.unfold(0, BLOCK + 2 * self.reach, BLOCK)


class Windowed(WordVectors):
    """Word vectors from the words that stand near each other.

    Args:
        encoder: `BagOfWords`, whose vectors are the input vectors.
        window: the most words to either side that count as near; each word draws its own number from 1 to this.
        negatives: random words beside each true one, drawn in proportion to the power 0.75 of their counts.
        subsample: frequency from which on occurrences are left out at random in training; 0 keeps all. A validation
            keeps all, too.
        output: `negative_sampling`, or `hierarchical_softmax` over a Huffman tree, which has no negatives.
        optimization: optimizer and schedule.

    Raises:
        UserError: arguments are invalid; all of them are listed in one line.
    """

    loss_unit = "nats per pair"

    def __init__(
        self,
        encoder: Encoder | None = None,
        window: int = 5,
        negatives: int = 5,
        subsample: float = 1e-3,
        output: Output = "negative_sampling",
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(encoder, optimization)
        problems = {
            f"window must be at least 1, not {window}": window < 1,
            f"negatives must be at least 1, not {negatives}": negatives < 1,
            f"subsample must be between 0 and 1, not {subsample}": not 0 <= subsample <= 1,
            f"output {output!r} is unknown: use negative_sampling or hierarchical_softmax": (
                output not in ("negative_sampling", "hierarchical_softmax")
            ),
        }
        refuse(problems, type(self).__name__)
        self.window, self.negatives, self.subsample = window, negatives, subsample
        self.hierarchical = output == "hierarchical_softmax"
        self._frequencies: Frequencies | None = None

    def tables(self) -> None:
        """The output vectors of words, or of the nodes of the tree: 0 at first, as in word2vec."""
        self.outputs = nn.Embedding(self.vocab_size, self.encoder.embedding.embedding_dim)
        nn.init.zeros_(self.outputs.weight)

    def take_counts(self, data: TextDataModule) -> None:
        super().take_counts(data)
        if getattr(data.corpus, "streaming", False):  # the valid split is counted, which may lack words of the stream
            self.token_counts += self.maskable
        self._frequencies = None
        counts = self.word_counts
        left = float((counts * kept_shares(counts, self.subsample)).sum() / counts.sum())
        if left < FEW:
            warn_of_few_words(self.subsample, left)

    @property
    def word_counts(self) -> Tensor:
        """(V,) int64: how often each word occurs in the training split; once each where nothing was counted."""
        counts = torch.where(self.maskable, self.token_counts, 0)
        return torch.where(counts.any(), counts, self.maskable.long())

    @property
    def frequencies(self) -> Frequencies:
        """Computed once from the counts of words."""
        if self._frequencies is None or self._frequencies.kept.device != self.device:
            counts = self.word_counts
            paths = huffman_paths(counts.cpu().numpy()) if self.hierarchical else (counts[:0], counts[:0])
            numbers = kept_shares(counts, self.subsample), counts.double() ** 0.75, *paths
            self._frequencies = Frequencies(*(part.to(self.device) for part in numbers))
        return self._frequencies

    def windows(self, batch: TokenBatch) -> Windows:
        """Draw the words that are kept, and their windows. A validation keeps all words that the training split has."""
        ids, widest = batch.input_ids, self.window
        shares = self.frequencies.kept if self.training else (self.frequencies.kept > 0).float()
        kept = batch.is_text & (torch.rand(ids.shape, dtype=torch.float32, device=ids.device) < shares[ids])
        rows = torch.arange(len(ids), device=ids.device)[:, None] * (ids.shape[1] + 1)
        words, documents = ids[kept], (batch.segment_ids + rows)[kept]
        blocks = max(1, -(-len(words) // BLOCK))
        room = (widest, widest + blocks * BLOCK - len(words))
        reach = torch.randint(1, widest + 1, (blocks * BLOCK,), device=ids.device)
        near = context_windows(F.pad(documents, room), reach, widest).view(blocks, BLOCK, -1)
        return Windows(F.pad(words, room, value=self.tokenizer.pad_id), near)

    def draw_negatives(self, blocks: int) -> Tensor:
        """(blocks, SHARED) int64 words."""
        return torch.multinomial(self.frequencies.noise, blocks * SHARED, replacement=True).view(blocks, SHARED)


def kept_shares(counts: Tensor, subsample: float) -> Tensor:
    """(V,) float32: the probability that subsampling keeps an occurrence of each word; 0 for words that do not occur.

    Args:
        counts: (V,) int64, how often each word occurs.
        subsample: frequency from which on occurrences are left out; 0 keeps all.
    """
    ratio = subsample * counts.sum() / counts.double()
    kept = (ratio.sqrt() + ratio).clamp(max=1) if subsample else torch.ones_like(ratio)
    return torch.where(counts > 0, kept, 0).float()


@rank_zero_only
def warn_of_few_words(subsample: float, left: float) -> None:
    """Say that subsampling leaves only a share of the words of a text."""
    say(
        f"warning: subsample {subsample:g} keeps {100 * left:.0f} % of the words of this text, because each is frequent: "
        "set model.subsample to 0",
        sys.stderr,
    )
