"""The file that `predict` writes for a task, and the line that it says."""

from types import SimpleNamespace

from lightning.pytorch import Trainer

from ssl_nlp.commands.predictions import write_predictions
from ssl_nlp.corpora import Document
from tests.tasks.made import QUIET, data_of

TASK = SimpleNamespace(
    document_of_line=lambda line, number: Document(line),
    predict_records=lambda documents, batch_size, data: [{"text": document.text} for document in documents],
)


def test_one_prediction_is_no_plural(tmp_path, capsys):
    data, trainer = data_of([Document("a")]), Trainer(accelerator="cpu", **QUIET)
    for lines, said in (("a\n", "1 prediction"), ("a\nb\n", "2 predictions")):
        (tmp_path / "lines.txt").write_text(lines)
        write_predictions(TASK, data, trainer, str(tmp_path / "lines.txt"), tmp_path / "found.jsonl")
        assert capsys.readouterr().out == f"{tmp_path / 'found.jsonl'}: {said}\n"
