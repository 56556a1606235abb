"""Losses of word vectors: negative sampling, hierarchical softmax, and the least squares of GloVe.

A word has an input vector u and an output vector v; the probability that word j stands near word i depends on u_i · v_j.
The windows in which words stand near each other, and the Huffman tree of the hierarchical softmax, are here too.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def context_windows(documents: Tensor, reach: Tensor, widest: int) -> Tensor:
    """Which words stand in the windows around N consecutive words.

    Args:
        documents: (R + N + R,) int64, the document of each word, and of the R before and after them; 0: no word.
        reach: (N,) int64, how many words to either side each window holds, from 1 to R.
        widest: R.

    Returns:
        (N, 2R + 1) bool: column R + d is the word d places after the one in the middle, which is not in its own window.
        Windows end where documents do.
    """
    middle = documents[widest : len(documents) - widest, None]
    distance = torch.arange(-widest, widest + 1, device=documents.device)
    near = (distance != 0) & (distance.abs() <= reach[:, None])
    return near & (documents.unfold(0, 2 * widest + 1, 1) == middle) & (middle > 0)


def band(matrices: Tensor, width: int) -> Tensor:
    """(C, T, width): the elements (c, t, t + w) of C matrices (C, T, columns), as a view of them."""
    blocks, rows, columns = matrices.shape
    return matrices.as_strided((blocks, rows, width), (rows * columns, columns + 1, 1))


def negative_sampling(true: Tensor, noise: Tensor, chosen: Tensor, share: float) -> Tensor:
    """The loss of negative sampling (arXiv:1310.4546, equation 4), summed over pairs, as a float32 scalar or wider.

        Σ over pairs p with input vector u_n:  - log σ(true_p) - share · Σ_k log σ(-noise_nk)

    Where each pair has k negatives of its own, share is 1. Here K negatives serve all pairs of an input vector, and k / K
    is the share that leaves the expectation as it was.

    Args:
        true: (..., P) scores u · v of an input vector with up to P words that stand near it.
        noise: (..., K) scores of the same vector with K words that were drawn at random.
        chosen: (..., P) bool, True where a score of `true` is that of a pair.
        share: weight of each negative in each pair.
    """
    true, noise = _wide(true), _wide(noise)
    pairs = chosen.sum(dim=-1)
    return -(F.logsigmoid(true) * chosen).sum() - share * (F.logsigmoid(-noise).sum(dim=-1) * pairs).sum()


def skip_gram(inputs: Tensor, outputs: Tensor, near: Tensor, share: float) -> Tensor:
    """The loss of skip-gram with negative sampling, summed over the pairs of C blocks of T words.

    It is `negative_sampling` of each word and its window. All products of a block are one matrix product, and so is each
    gradient; autograd would copy them several times on the way.

    Args:
        inputs: (C, T, D), the input vectors of the words of a block.
        outputs: (C, T + 2R + K, D), the output vectors of the words from R before a block to R after it, and then those of
            K negatives.
        near: (C, T, 2R + 1) bool, which words stand in the window of each word (`context_windows`).
        share: weight of each negative in each pair.
    """
    total: Tensor = _SkipGram.apply(inputs, outputs, near, share)
    return total


class _SkipGram(torch.autograd.Function):
    """Keeps the gradient of the scores, which takes less memory than what autograd would keep to compute it."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, outputs: Tensor, near: Tensor, share: float) -> Tensor:
        words, width = near.shape[1:]
        scores = _wide(inputs @ outputs.transpose(1, 2))
        true, noise = band(scores, width), scores[:, :, words + width - 1 :]
        if any(ctx.needs_input_grad):
            slopes = torch.zeros_like(scores)
            band(slopes, width).copy_((true.sigmoid() - 1) * near)
            pairs = near.sum(dim=2, keepdim=True)
            torch.mul(noise.sigmoid(), share * pairs, out=slopes[:, :, words + width - 1 :])
            ctx.save_for_backward(inputs, outputs, slopes)
        return negative_sampling(true, noise, near, share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        inputs, outputs, slopes = ctx.saved_tensors
        slopes = (slopes * gradient).to(inputs.dtype)
        return slopes @ outputs, slopes.transpose(1, 2) @ inputs, None, None


def hierarchical_softmax(scores: Tensor, signs: Tensor, chosen: Tensor) -> Tensor:
    """The loss of words by their paths in a binary tree, summed over pairs (arXiv:1310.4546, equation 3).

        - Σ over pairs, and over the nodes on the path to the word:  log σ(sign · score)

    Args:
        scores: (N, L, P) of the nodes on the path to each of N words with each of P input vectors.
        signs: (N, L), 1 or -1: to which side the path goes on at a node; 0 after its end.
        chosen: (N, P) bool, True where a word and an input vector are a pair.
    """
    losses = F.logsigmoid(_wide(scores) * signs[:, :, None])
    return -(losses * (signs != 0)[:, :, None] * chosen[:, None, :]).sum()


def huffman_paths(counts: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """The paths of the Huffman tree over the words that occur: frequent words have short ones.

    Args:
        counts: (V,) how often each word occurs.

    Returns:
        nodes: (V, L) int64, from a word up to the root; the nodes are numbered from 0, and are one fewer than the words.
        signs: (V, L) int64, 1 or -1 for the two sides of a node; 0 after the end of a path, and of words that do not occur.
    """
    occurring = np.flatnonzero(counts)
    words = occurring[np.argsort(counts[occurring], kind="stable")]
    number = len(words)
    weights = [*counts[words].tolist(), *[0] * max(number - 1, 0)]
    parents, sides = np.arange(2 * number - 1), np.zeros(2 * number - 1, dtype=np.int64)
    leaf, node = 0, number  # the lightest leaf and inner node without a parent: both lists are sorted by weight
    for parent in range(number, 2 * number - 1):
        for side in (1, -1):
            if leaf < number and (node == parent or weights[leaf] <= weights[node]):
                child, leaf = leaf, leaf + 1
            else:
                child, node = node, node + 1
            weights[parent] += weights[child]
            parents[child], sides[child] = parent, side
    nodes, signs = [], []
    place = np.arange(number)
    while sides[place].any():  # the root has no side
        signs.append(sides[place])
        place = parents[place]
        nodes.append(np.maximum(place - number, 0))
    paths = np.zeros((2, len(counts), len(nodes)), dtype=np.int64)
    if nodes:
        paths[:, words] = np.stack(nodes, axis=1), np.stack(signs, axis=1)
    return torch.from_numpy(paths[0]), torch.from_numpy(paths[1])


def glove(estimates: Tensor, counts: Tensor, enough: float, power: float) -> Tensor:
    """The loss of GloVe (Pennington, Socher and Manning 2014, equations 8 and 9), summed over the entries of a matrix.

        Σ min(1, (X_ij / enough)^power) (w_i · w̃_j + b_i + b̃_j - log X_ij)²

    Args:
        estimates: (N,) of log X_ij.
        counts: (N,) X_ij, above 0.
        enough: the count from which on all entries have the same weight.
        power: of smaller counts.
    """
    estimates, counts = _wide(estimates), _wide(counts)
    weights = (counts / enough).clamp(max=1) ** power
    return (weights * (estimates - counts.log()) ** 2).sum()


def _wide(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
