"""`--format onnx`: one graph for ONNX Runtime, for any number of texts of any length and any encoder."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl_nlp.data import TokenBatch
from ssl_nlp.errors import UserError
from ssl_nlp.export.contents import Contents
from ssl_nlp.export.tokenizer import save_tokenizer
from ssl_nlp.methods import CausalLM, MaskedLM
from ssl_nlp.modules.parts import added_by_parts
from ssl_nlp.modules.pooling import Pooling, pool
from ssl_nlp.packages import need
from ssl_nlp.tasks import QuestionAnswering, Tagging, Task
from ssl_nlp.tasks.whole_texts import WholeTexts
from ssl_nlp.training.texts import TextModule

MODEL = "model.onnx"
TOLERANCE = 1e-4
"""The largest difference of the outputs from ours, where these are of the order of 1."""
SHAPES = ((1, 1), (3, 9), (2, 32))
"""Rows and columns on which they are compared."""
OPSET = 18
USE = """\
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{path}")
session = onnxruntime.InferenceSession("{path}/model.onnx")
inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np")
only_path = onnxruntime.RunOptions()
only_path.only_execute_path_to_fetches = True  # compute nothing else
[OUTPUT] = session.run(["OUTPUT"], dict(inputs), only_path)"""

CLASSES = """\
with open("{path}/classes.json", encoding="utf-8") as file:
    classes = json.load(file)  # the last axis of the logits"""


class Graph(nn.Module):
    """The computation of the graph: the states of rows, their embeddings and, where the model has a head, its logits.

    Args:
        module: a method or task.
        pooling: of the states; None: the module's own embedding.

    Raises:
        UserError: the module reads more than rows of text, or its encoder has no graph.
    """

    def __init__(self, module: TextModule, pooling: Pooling | None = None) -> None:
        super().__init__()
        if not module.encoder.exportable:
            kind = type(module.encoder).__name__
            raise UserError(f"torch.onnx cannot export this {kind} encoder correctly: use the checkpoint instead")
        if isinstance(module, Task) and not isinstance(module, WholeTexts | Tagging | QuestionAnswering):
            raise UserError(
                f"--format onnx has no graph for {type(module).__name__}: export its encoder alone with --format "
                "sentence-transformers"
            )
        self.module, self.pooling = module, pooling
        self.parts = bool(getattr(module, "pairs", False)) and module.encoder.part_embedding is not None
        self.inputs = ["input_ids", *["token_type_ids"] * self.parts, "attention_mask"]
        self.outputs = ["last_hidden_state", "sentence_embedding"]
        if isinstance(module, MaskedLM | CausalLM | Task):
            self.outputs.append("logits")

    def forward(self, input_ids: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """The outputs for `inputs`, (B, T) int64 each: ids, the parts of pairs where the encoder has them, and the mask."""
        module, rows = self.module, TokenBatch(input_ids, others[-1], packed=False)
        if self.parts:
            hidden = module.encoder(rows, added=added_by_parts(others[0], module.encoder))
        else:
            hidden = module.encoder(rows) if isinstance(module, QuestionAnswering) else module.states(rows)
        own = module.own_embedding(hidden, rows) if self.pooling is None else None
        embedding = pool(hidden, rows, self.pooling or module.pooling) if own is None else own
        if isinstance(module, WholeTexts):
            return hidden, embedding, module.read(pool(hidden, rows, module.pooling))
        if isinstance(module, QuestionAnswering):
            return hidden, embedding, module.token_logits(hidden, rows)
        if isinstance(module, MaskedLM | CausalLM | Tagging):
            return hidden, embedding, module.head(hidden)
        return hidden, embedding


def write(module: TextModule, folder: Path, pooling: Pooling | None = None) -> Contents:
    """Write the graph, the tokenizer and, for a task, the names of the classes.

    Args:
        module: a method or task.
        folder: to write into.
        pooling: of the states; None: the module's own embedding.

    Raises:
        UserError: a package is missing, or the model has no graph.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, extra="onnx", what="--format onnx")
    graph = Graph(module, pooling).cpu().eval()
    _trace(graph, folder / MODEL)
    check(graph, folder / MODEL)
    save_tokenizer(module.tokenizer, folder, module.encoder.max_length, parts=graph.parts)
    use = USE
    if classes := getattr(module, "classes", None):
        (folder / "classes.json").write_text(json.dumps(classes, ensure_ascii=False) + "\n", encoding="utf-8")
        use = f"import json\n\n{USE}\n{CLASSES}"
    texts = '["A text.", "Another one."]'
    if isinstance(module, Task) and getattr(module, "pairs", False):
        texts = (
            '["A question?"], ["A text."]' if isinstance(module, QuestionAnswering) else '["A text."], ["Another one."]'
        )
    output = "logits" if isinstance(module, Task) else "sentence_embedding"
    names = ", ".join(f"`{name}`" for name in graph.outputs)
    summary = f"A graph for ONNX Runtime with the outputs {names}, for any number of texts of any length."
    tasks = {
        WholeTexts: "text-classification",
        Tagging: "token-classification",
        QuestionAnswering: "question-answering",
    }
    task = next((name for kind, name in tasks.items() if isinstance(module, kind)), "feature-extraction")
    return Contents("onnx", task, summary, use.replace("OUTPUT", output).replace("TEXTS", texts))


@torch.no_grad()
def _trace(graph: Graph, path: Path) -> None:
    rows, columns = torch.export.Dim("batch"), torch.export.Dim("length", max=graph.module.encoder.max_length)
    given = _rows(graph, 2, min(7, graph.module.encoder.max_length))
    shape = {0: rows, 1: columns}
    with _quiet():
        program = torch.onnx.export(
            graph,
            given,
            dynamo=True,
            dynamic_shapes=(shape, (shape,) * (len(given) - 1)),
            input_names=graph.inputs,
            output_names=graph.outputs,
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # paths of this machine
        program.save(str(path))


@torch.no_grad()
def check(graph: Graph, path: Path) -> None:
    """Compare a written graph with the model on rows of several shapes, padding included.

    Raises:
        UserError: their outputs differ.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in SHAPES:
        given = _rows(graph, shape[0], min(shape[1], graph.module.encoder.max_length))
        mask = given[-1]
        found = session.run(graph.outputs, {name: t.numpy() for name, t in zip(graph.inputs, given, strict=True)})
        for name, theirs, ours in zip(graph.outputs, map(torch.from_numpy, found), graph(*given), strict=True):
            places = mask > 0 if ours.shape[:2] == mask.shape else slice(None)
            if not torch.allclose(theirs[places], ours[places], rtol=TOLERANCE, atol=TOLERANCE):
                kind = type(graph.module).__name__
                raise UserError(f"the ONNX graph does not reproduce the {name} of this {kind}: please report this")


def _rows(graph: Graph, rows: int, columns: int) -> tuple[Tensor, ...]:
    """Inputs of (rows, columns) for random texts, each shorter than the one before, as far as possible."""
    module = graph.module
    ids = torch.randint(module.vocab_size, (rows, columns), generator=torch.Generator().manual_seed(0))
    lengths = (columns - 3 * torch.arange(rows)).clamp(min=1)
    mask = (torch.arange(columns) < lengths[:, None]).long()
    parts = ((torch.arange(columns) > 1) & (mask > 0)).long()
    return torch.where(mask > 0, ids, module.tokenizer.pad_id), *[parts] * graph.parts, mask


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporter of torch says about packages that are not needed, and about names of axes."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
