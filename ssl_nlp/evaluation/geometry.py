"""Geometry: how embeddings lie in their space."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import sparse

from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.result import Result
from ssl_nlp.evaluation.vectors import Matrix, embed
from ssl_nlp.objectives.geometry import alignment, effective_rank, embedding_spread, uniformity, unit_vectors


@dataclass(frozen=True)
class Geometry(Evaluator):
    """Effective rank, uniformity, mean cosine and standard deviation by dimension of texts; alignment of pairs.

    `ssl_nlp.objectives.geometry` explains the numbers. Higher is not better for any of them: they help to understand the
    scores.
    """

    data: Sequence[str]
    pairs: Sequence[tuple[str, str]] = field(default_factory=tuple)

    @property
    def texts(self) -> list[str]:
        return [*self.data, *(text for pair in self.pairs for text in pair)]

    def __call__(self, model: Embedder) -> Result:
        x = _dense(embed(model, self.data))
        units = unit_vectors(x)
        n = len(x)
        deviations = x.std(dim=0)
        metrics = {
            "effective_rank": float(effective_rank(x)),
            "uniformity": float(uniformity(x)),
            "mean_cosine": float((units.sum(dim=0).square().sum() - units.square().sum()) / (n * (n - 1))),
            "embedding_spread": float(embedding_spread(x)),
            "dimension_std": float(deviations.mean()),
        }
        if self.pairs:
            sides = ([pair[side] for pair in self.pairs] for side in (0, 1))
            metrics["alignment"] = float(alignment(*(_dense(embed(model, side)) for side in sides)))
        spread = np.quantile(deviations.numpy(), (0, 0.25, 0.5, 0.75, 1)).tolist()
        return Result("effective_rank", metrics, {"width": x.shape[1], "dimension_std_quartiles": spread})


def _dense(matrix: Matrix) -> torch.Tensor:
    return torch.from_numpy(matrix.toarray() if sparse.issparse(matrix) else matrix).float()
