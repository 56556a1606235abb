"""A graph with weights of 8 bits, and what that costs and gains: quality on an evaluation, size and speed."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.comparison.numbers import format_number
from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.evaluation.suite import Suite
from ssl_nlp.export.onnx_format import MODEL
from ssl_nlp.tasks import Task
from ssl_nlp.training.texts import TextModule, listed

QUANTIZED = "model_int8.onnx"
ROUNDS = 5
"""How often each graph embeds the texts for the speed, in turn, of which the median counts."""
TEXTS = 256


class GraphEmbedder:
    """A graph as an embedder of texts, in one thread.

    Args:
        path: of the graph.
        tokenizer: of its model.
        max_length: the longest row; longer texts are cut.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, max_length: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._run = onnxruntime.RunOptions()
        self._run.only_execute_path_to_fetches = True  # no logits
        self._reads_parts = any(given.name == "token_type_ids" for given in self._session.get_inputs())
        self._tokenizer, self._max_length = tokenizer, max_length

    def embed(self, texts: Iterable[str], batch_size: int = 64) -> Tensor:
        """(N, E) float32 embeddings of texts."""
        ids = [self._tokenizer.cut(ids, self._max_length) for ids, _ in self._tokenizer.encode(listed(texts))]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        rows: list[Tensor | None] = [None] * len(ids)
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            batch = pad_rows([ids[i] for i in some], None, self._tokenizer, self._max_length)
            for i, vector in zip(some, self.values(batch, "sentence_embedding"), strict=True):
                rows[i] = vector
        return torch.stack([row for row in rows if row is not None])

    def values(self, rows: TokenBatch, output: str, parts: Tensor | None = None) -> Tensor:
        """An output of the graph.

        Args:
            rows: B of them, not packed.
            output: its name.
            parts: (B, T), 1 for tokens of the second text of a row; None: all are of the first.
        """
        inputs = {"input_ids": rows.input_ids.numpy(), "attention_mask": rows.segment_ids.numpy()}
        if self._reads_parts:
            inputs["token_type_ids"] = (torch.zeros_like(rows.input_ids) if parts is None else parts).numpy()
        return torch.from_numpy(self._session.run([output], inputs, self._run)[0])


@dataclass(frozen=True)
class Number:
    """A number of the full graph, and of the quantized one.

    Attributes:
        name: what it is.
        full: with weights of 32 bits.
        quantized: with weights of 8 bits.
    """

    name: str
    full: float
    quantized: float


def quantize(folder: Path) -> None:
    """Write the dynamically quantized graph of a folder beside the full one: weights of 8 bits, a scale for each column.

    Activations are quantized as they come. Weights keep 7 of their 8 bits, as processors without instructions for 8-bit
    products add up two of them in 16 bits.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a preparation that changes nothing here
    try:
        quantize_dynamic(
            folder / MODEL, folder / QUANTIZED, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )
    finally:
        logger.setLevel(level)


def embedding_quality(module: TextModule, folder: Path, suite: Suite) -> list[Number]:
    """The main numbers of a suite for the embeddings of both graphs of a folder."""
    texts, found = suite.texts, []
    for graph in _graphs(module, folder):
        vectors = dict(zip(texts, graph.embed(texts), strict=True))
        known = _Known(vectors)
        found.append(run_evaluators(suite.evaluators, known, Poolings({"own": known})).results)
    full, quantized = found
    return [
        Number(f"{suite.name}: {name} ({result.primary_metric})", result.primary, quantized[name].primary)
        for name, result in full.items()
        if name in quantized
    ]


def task_quality(task: Task, folder: Path, data: TextDataModule) -> list[Number]:
    """The main number of a task for both graphs of a folder, on the validation split of its data."""
    results = []
    for graph in _graphs(task, folder):
        items: list[Any] = []
        for batch in data.val_dataloader():
            assert batch.documents is not None
            rows, parts = task.rows_and_parts(batch)
            outputs = task.from_logits(graph.values(rows, "logits", parts), batch)
            items += zip(batch.documents.tolist(), task.items(outputs, batch), strict=True)
        results.append(task.result([item for _, item in sorted(items, key=lambda item: item[0])]))
    full, quantized = results
    return [Number(f"validation: {full.primary_metric}", full.primary, quantized.primary)]


def size_and_speed(module: TextModule, folder: Path, texts: Sequence[str]) -> list[Number]:
    """The sizes of both graphs of a folder, and how many texts each embeds in a second, measured in turn in one thread."""
    graphs, texts = _graphs(module, folder), list(texts)[:TEXTS]
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for graph, times in zip(graphs, seconds, strict=True):
            start = time.perf_counter()
            graph.embed(texts)
            times.append(time.perf_counter() - start)
    full, quantized = ((folder / name).stat().st_size / 1e6 for name in (MODEL, QUANTIZED))
    speeds = [len(texts) / float(np.median(times)) for times in seconds]
    return [Number("size (MB)", full, quantized), Number("texts a second, one thread", *speeds)]


def table(numbers: Sequence[Number]) -> list[str]:
    """Numbers as lines of a Markdown table."""
    lines = ["| | float32 | int8 | int8 / float32 | difference |", "|---|---|---|---|---|"]
    for number in numbers:
        ratio = f"{number.quantized / number.full:.2f}" if number.full else ""
        cells = [*map(format_number, (number.full, number.quantized)), ratio]
        lines.append(f"| {number.name} | {' | '.join(cells)} | {format_number(number.quantized - number.full)} |")
    return lines


class _Known:
    """Vectors that were computed before."""

    def __init__(self, vectors: dict[str, Tensor]) -> None:
        self._vectors = vectors

    def embed(self, texts: Iterable[str]) -> Tensor:
        return torch.stack([self._vectors[text] for text in texts])


def _graphs(module: TextModule, folder: Path) -> list[GraphEmbedder]:
    return [GraphEmbedder(folder / name, module.tokenizer, module.encoder.max_length) for name in (MODEL, QUANTIZED)]
