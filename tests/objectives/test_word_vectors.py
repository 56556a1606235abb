"""Losses of word vectors against slow loops over explicit pairs, and the Huffman tree against what defines it."""

import heapq
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_nlp.objectives.word_vectors import (
    band,
    context_windows,
    glove,
    hierarchical_softmax,
    huffman_paths,
    negative_sampling,
)


def test_windows_hold_the_words_of_the_same_document_within_reach():
    documents, widest = [1, 1, 1, 1, 4, 4, 4, 2, 0, 0], 3
    reach = [3, 1, 2, 3, 1, 2, 3, 3, 3, 1]
    padded = F.pad(torch.tensor(documents), (widest, widest))
    near = context_windows(padded, torch.tensor(reach), widest)
    pairs = {(i, i + column - widest) for i, column in near.nonzero().tolist()}
    assert pairs == {
        (i, j)
        for i, document in enumerate(documents)
        for j, other in enumerate(documents)
        if i != j and abs(i - j) <= reach[i] and document == other > 0
    }


def test_a_band_is_a_view_of_the_elements_beside_the_diagonal():
    matrices = torch.arange(2 * 4 * 9).view(2, 4, 9)
    found = band(matrices, 3)
    assert found.tolist() == [[[int(m[t, t + w]) for w in range(3)] for t in range(4)] for m in matrices]
    found.zero_()
    assert not matrices[1, 3, 3:6].any() and matrices[1, 3, 6]


def test_negative_sampling_is_a_sum_over_pairs_and_their_negatives():
    torch.manual_seed(0)
    true, noise, chosen = torch.randn(6, 4), torch.randn(6, 5), torch.rand(6, 4) < 0.5
    total = 0.0
    for i, p in chosen.nonzero().tolist():
        total -= math.log(1 / (1 + math.exp(-true[i, p])))
        for score in noise[i]:
            total -= 0.4 * math.log(1 - 1 / (1 + math.exp(-score)))
    assert float(negative_sampling(true, noise, chosen, 0.4)) == pytest.approx(total, rel=1e-5)
    assert negative_sampling(true.bfloat16(), noise.bfloat16(), chosen, 0.4).dtype == torch.float32


def test_the_hierarchical_softmax_is_a_distribution_over_the_words_that_occur():
    counts = np.array([5, 0, 3, 1, 1, 8, 2])
    nodes, signs = huffman_paths(counts)
    occurring = counts.nonzero()[0]
    assert nodes.max() == len(occurring) - 2
    assert not signs[1].any()
    torch.manual_seed(0)
    inputs, vectors = torch.randn(3, 4, dtype=torch.float64), torch.randn(len(occurring) - 1, 4, dtype=torch.float64)
    for u in inputs:
        logs = []
        for word in occurring:
            scores = (vectors[nodes[word]] @ u)[None, :, None]
            logs.append(-hierarchical_softmax(scores, signs[[word]], torch.ones(1, 1, dtype=torch.bool)))
            path = [(int(n), int(s)) for n, s in zip(nodes[word], signs[word], strict=True) if s]
            product = math.prod(1 / (1 + math.exp(-s * float(vectors[n] @ u))) for n, s in path)
            assert float(logs[-1].exp()) == pytest.approx(product)
        assert float(torch.stack(logs).exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("words", [1, 2, 3, 200])
def test_huffman_paths_cost_as_little_as_any_and_no_two_words_share_one(words):
    counts = np.random.default_rng(words).zipf(1.5, words).clip(max=10**6)
    nodes, signs = huffman_paths(counts)
    heap, least = [int(count) for count in counts], 0
    heapq.heapify(heap)
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        least += merged
        heapq.heappush(heap, merged)
    assert int((signs.abs().sum(dim=1) * torch.from_numpy(counts)).sum()) == least
    both = torch.stack([nodes, signs], dim=2).tolist()
    paths = {tuple((node, sign) for node, sign in path if sign) for path in both}
    assert len(paths) == words


def test_glove_is_a_weighted_sum_of_squares():
    estimates, counts = torch.tensor([0.5, -1.0, 3.0]), torch.tensor([0.1, 10.0, 500.0])
    total = sum(min(1, (x / 100) ** 0.75) * (s - math.log(x)) ** 2 for s, x in zip(estimates, counts, strict=True))
    assert float(glove(estimates, counts, 100, 0.75)) == pytest.approx(float(total), rel=1e-5)
