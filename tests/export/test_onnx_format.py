"""`export --format onnx`: ONNX Runtime computes the same embeddings and logits for any number of texts of any length."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.encoders import Recurrent, TextCNN, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import Result
from ssl_nlp.export import onnx_format
from ssl_nlp.export.onnx_format import Graph, write
from ssl_nlp.export.quantization import GraphEmbedder, task_quality
from ssl_nlp.export.stock import base_model
from ssl_nlp.methods import MaskedLM
from ssl_nlp.modules.pooling import pool
from ssl_nlp.tasks import Classification, QuestionAnswering, Regression, Tagging, Task
from tests.data import test_questions
from tests.export.conftest import GRAPHS, NAMES, TEXTS
from tests.export.test_task_heads import batch_of, connected, ours, published
from tests.export.test_transformers_format import method_of
from tests.tasks.corpora import topics


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.filterwarnings("ignore:.*are cut")
def test_it_embeds_texts_as_we_do(name, loaded):
    found = loaded[f"{name}-onnx"]
    torch.testing.assert_close(found["sentence_embedding"], method_of(name).embed(TEXTS), rtol=1e-4, atol=1e-4)
    assert ("logits" in found) == (name == "causal_lm")


def test_the_graph_says_nothing_of_this_machine(exports):
    content = (exports / "exports" / "vae-onnx" / "model.onnx").read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert b"ssl_nlp" not in content


def values(folder: Path, rows: TokenBatch) -> dict[str, torch.Tensor]:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    inputs = {"input_ids": rows.input_ids.numpy(), "attention_mask": rows.segment_ids.numpy()}
    return dict(zip(names, map(torch.from_numpy, session.run(names, inputs)), strict=True))


def rows_of(size: tuple[int, int], vocabulary: int) -> TokenBatch:
    ids = torch.randint(vocabulary, size)
    lengths = torch.randint(1, size[1] + 1, (size[0], 1))
    return TokenBatch(ids, (torch.arange(size[1]) < lengths).long(), packed=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in GRAPHS])
def test_every_method_has_a_graph(name, tmp_path):
    method = method_of(name)
    write(method, tmp_path)
    rows = rows_of((4, 11), 20)
    with torch.no_grad():
        torch.testing.assert_close(
            values(tmp_path, rows)["sentence_embedding"], method.embed_batch(rows), rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("kind", ["classes", "scores", "tags", "pairs"])
def test_a_task_has_a_graph_also_with_a_window(kind, tmp_path):
    encoder, tokenizer = Transformer(None, 8, 2, 2, max_length=40, window=2, global_every=2), ours()[1]
    task = {
        "classes": Classification(encoder, classes=["a", "b", "c"]),
        "scores": Regression(encoder, range=(0, 5)),
        "tags": Tagging(encoder, classes=["a", "b"]),
        "pairs": Classification(encoder, classes=["a", "b"], pairs=True),
    }[kind]
    task = connected(task, tokenizer)
    write(task, tmp_path)
    for size in ((1, 1), (5, 3), (2, 40)):  # shorter and longer than the window
        rows = rows_of(size, tokenizer.vocab_size)
        places = rows.is_text if kind == "tags" else slice(None)
        expected = task.read(pool(task.states(rows), rows, "mean")) if kind == "pairs" else task.outputs(rows)
        torch.testing.assert_close(values(tmp_path, rows)["logits"][places], expected[places], rtol=1e-4, atol=1e-4)


class Session:
    """Stands in for an ONNX session: what the graph of a task computes, without tracing it, which takes seconds."""

    def __init__(self, task: Task) -> None:
        self.graph = Graph(task)

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self.graph.inputs]

    @torch.no_grad()
    def run(self, outputs: list[str], inputs: dict[str, np.ndarray], options: object = None) -> list[np.ndarray]:
        assert set(inputs) == set(self.graph.inputs)
        values = self.graph(*(torch.from_numpy(inputs[name]) for name in self.graph.inputs))
        return [dict(zip(self.graph.outputs, values, strict=True))[name].numpy() for name in outputs]


def paired(kind: str, folder: Path) -> tuple[Task, TextDataModule]:
    """A task on two texts, and data for it."""
    encoder, tokenizer = published("bert", folder / "published") if "bert" in kind else ours()
    data = topics("score", pairs=True) if "scores" in kind else test_questions.module(length=40)
    data.continue_with(tokenizer, {})
    task = Regression(encoder) if "scores" in kind else QuestionAnswering(encoder)
    task = connected(task, tokenizer, causal="causal" in kind)
    task.connect_data(data, "validate")
    return task, data


@torch.no_grad()
@pytest.mark.parametrize("kind", ["scores", "scores bert", "answers", "answers bert", "answers causal"])
def test_graphs_of_two_texts_are_measured_and_used_as_the_task_reads_them(kind, tmp_path, monkeypatch):
    task, data = paired(kind, tmp_path)
    expected, measured = [], []
    for batch in data.val_dataloader():
        expected += zip(batch.documents.tolist(), task.items(task.outputs(batch), batch), strict=True)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *arguments, **settings: Session(task))
    monkeypatch.setattr(task, "result", lambda items: measured.append(items) or Result("f1", {"f1": 0.0}))
    task_quality(task, tmp_path, data)
    wanted = np.array([item for _, item in sorted(expected, key=lambda item: item[0])])
    np.testing.assert_allclose(measured, [wanted, wanted], rtol=1e-4, atol=1e-4)
    embedder = GraphEmbedder(tmp_path / "model.onnx", task.tokenizer, 40)
    torch.testing.assert_close(embedder.embed(["a", "the dog"]), task.embed(["a", "the dog"]), rtol=1e-4, atol=1e-4)

    for name in ("_trace", "check"):
        monkeypatch.setattr(onnx_format, name, lambda *arguments: None)
    used: dict = {}
    exec(write(task, tmp_path).code.replace("{path}", str(tmp_path)), used)
    if "scores" in kind:
        logits = torch.from_numpy(used["logits"])
        torch.testing.assert_close(logits, task.outputs(batch_of(task, ["A text."], ["Another one."])))
    else:
        assert used["logits"].shape == (1, used["inputs"]["input_ids"].shape[1], 2)


@pytest.mark.slow
@torch.no_grad()
def test_convolutions_have_a_graph_and_recurrent_layers_are_refused(tmp_path):
    method = connected(MaskedLM(TextCNN(dim=9, max_length=40)), ours()[1])
    write(method, tmp_path)
    for size in ((1, 1), (5, 3), (2, 40)):
        rows = rows_of(size, method.vocab_size)
        found, expected = values(tmp_path, rows)["last_hidden_state"], method.states(rows)
        torch.testing.assert_close(found[rows.is_text], expected[rows.is_text], rtol=1e-4, atol=1e-4)
    recurrent = connected(MaskedLM(Recurrent(dim=8, max_length=40)), ours()[1])
    with pytest.raises(
        UserError, match="torch.onnx cannot export this Recurrent encoder correctly: use the checkpoint instead"
    ):
        write(recurrent, tmp_path / "none")
    with pytest.raises(
        UserError, match="no class for the encoder Recurrent: it cannot be exported, so use its checkpoint"
    ):
        base_model(recurrent.encoder)
