"""Our models as models of `mteb` (Massive Text Embedding Benchmark, arXiv:2210.07316): `pip install mteb`.

import mteb
from ssl_nlp.evaluation.mteb import MtebModel
from ssl_nlp.methods import Method

method = Method.load_from_checkpoint("runs/mine/checkpoints/last.ckpt")
mteb.evaluate(MtebModel(method, "mine"), mteb.get_tasks(tasks=["STSBenchmark"]))
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.evaluation.capabilities import Embedder
from ssl_nlp.evaluation.result import Array
from ssl_nlp.objectives.geometry import unit_vectors


class MtebModel:
    """An embedder with the interface of `mteb.EncoderProtocol`; prompts are ignored, because our models have none.

    Args:
        embedder: anything with `embed(texts)`.
        name: under which `mteb` keeps results; a name without an organisation gets `ssl_nlp/`.
        revision: of the weights, such as the digest of the checkpoint.
    """

    def __init__(self, embedder: Embedder, name: str, revision: str | None = None) -> None:
        self._embedder = embedder
        self._name, self._revision = name if "/" in name else f"ssl_nlp/{name}", revision

    @property
    def mteb_model_meta(self) -> Any:
        """The description of the model, a `mteb.models.ModelMeta`."""
        from mteb.models import ModelMeta

        return ModelMeta.create_empty(
            {"name": self._name, "revision": self._revision, "similarity_fn_name": "cosine", "framework": ["PyTorch"]}
        )

    def encode(self, inputs: Iterable[Mapping[str, Any]], **settings: Any) -> Array:
        """(N, E) float32, in the order of the texts.

        Args:
            inputs: batches, each with a list `text`.
            settings: task, split, prompt and batch size, which are ignored.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        embeddings: Array = self._embedder.embed(texts).float().numpy()
        return embeddings

    def similarity(self, embeddings1: Array | Tensor, embeddings2: Array | Tensor) -> Tensor:
        """(N, M): the cosine of each row of the first with each row of the second."""
        return _units(embeddings1) @ _units(embeddings2).T

    def similarity_pairwise(self, embeddings1: Array | Tensor, embeddings2: Array | Tensor) -> Tensor:
        """(N,): the cosine of each row of the first with the same row of the second."""
        return (_units(embeddings1) * _units(embeddings2)).sum(dim=1)


def _units(embeddings: Array | Tensor) -> Tensor:
    return unit_vectors(torch.from_numpy(np.atleast_2d(np.asarray(embeddings))))
