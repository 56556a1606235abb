"""Embeddings as arrays: dense, or sparse as those of TF-IDF."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.preprocessing import normalize
from torch import Tensor

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.result import Array

Matrix = Any
"""(N, E): a NumPy array, or a SciPy CSR matrix."""


def embed(embedder: Embedder, texts: Sequence[str]) -> Matrix:
    """(N, E) float64 embeddings of texts, by `embed` or, for a model of sentence-transformers, by `encode`.

    Raises:
        UserError: an embedding contains a number that is not finite.
    """
    compute = getattr(embedder, "embed", None) or embedder.encode  # type: ignore[attr-defined]  # one of the two is there
    embeddings = torch.as_tensor(compute(list(texts)))
    matrix = to_sparse(embeddings) if embeddings.layout is torch.sparse_coo else embeddings.double().numpy()
    if not np.isfinite(matrix.data if sparse.issparse(matrix) else matrix).all():
        raise UserError("the embeddings are not all finite: the training has diverged")
    return matrix


def coverage_of(embedder: object) -> Callable[[str], bool]:
    """Tells which words an embedder knows: its `covers`; without one its vocabulary is open, and it knows all."""
    covers: Callable[[str], bool] = getattr(embedder, "covers", lambda word: True)
    return covers


def to_tensor(matrix: Matrix) -> Tensor:
    """A SciPy CSR matrix as a tensor."""
    entries = matrix.tocoo()
    places = torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64))
    data = torch.from_numpy(entries.data.astype(np.float32))
    return torch.sparse_coo_tensor(places, data, matrix.shape, check_invariants=True)


def to_sparse(tensor: Tensor) -> Matrix:
    """A sparse tensor as a SciPy CSR matrix of float64."""
    entries = tensor.coalesce()
    rows, columns = entries.indices().numpy()
    return sparse.csr_matrix((entries.values().double().numpy(), (rows, columns)), shape=tuple(tensor.shape))


def cosines(x: Matrix, y: Matrix) -> Array:
    """(N,): the cosine of each row of `x` with the same row of `y`; 0 if one of them is zero."""
    x, y = normalize(x), normalize(y)
    product = x.multiply(y) if sparse.issparse(x) else x * y
    return np.asarray(product.sum(axis=1)).ravel()


def all_cosines(x: Matrix, y: Matrix) -> Array:
    """(N, M): the cosine of each row of `x` with each row of `y`, both of unit length."""
    product = x @ y.T
    return product.toarray() if sparse.issparse(product) else product
