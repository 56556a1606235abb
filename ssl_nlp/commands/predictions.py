"""The files that `predict` writes: embeddings of a method, predictions of a task."""

import json
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Trainer

from ssl_nlp import durable
from ssl_nlp.commands.text_lines import read_lines
from ssl_nlp.corpora import Document
from ssl_nlp.data import TextDataModule
from ssl_nlp.errors import UserError
from ssl_nlp.tasks import Task
from ssl_nlp.terminal import say
from ssl_nlp.training import Module

ENDINGS = {True: ".jsonl", False: ".npy"}  # of the file of a task, of a method


def default_output(kind: type[Module] | None) -> str:
    """The name of the file in the directory of a run, whose model is of this class."""
    return "predictions.jsonl" if kind is not None and issubclass(kind, Task) else "embeddings.npy"


def check_output(output: str, predicts: bool) -> Path:
    """The path of the file to write.

    Args:
        output: as it was typed.
        predicts: whether it is for the predictions of a task.

    Raises:
        UserError: it has another ending, or it exists.
    """
    path, ending = Path(output), ENDINGS[predicts]
    if path.suffix != ending:
        raise UserError(f"--output {path} is not a {ending} file: name one that ends with {ending}")
    if path.exists():
        raise UserError(f"--output {path} already exists: name another file, or move it away")
    return path


def write_predictions(
    task: Task, data: TextDataModule, trainer: Trainer, input: str | None, path: Path, batch_size: int = 64
) -> None:
    """Write the predictions for texts, one JSON record a line, in the order of the texts.

    Args:
        task: with its weights.
        data: texts are cut, and windows made, as in a test on them; without `input`, their test split is predicted.
        trainer: the device and the precision to compute with.
        input: a file with one text a line, or two with a tab between them where the task reads pairs.
        path: the `.jsonl` file.
        batch_size: texts at a time.
    """
    if input is None:
        documents: Sequence[Document] = list(data.corpus.documents("test"))
    else:
        documents = [task.document_of_line(line, number) for number, line in enumerate(read_lines(input), start=1)]
    task.to(trainer.strategy.root_device)
    with trainer.precision_plugin.forward_context():
        records = task.predict_records(documents, batch_size, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records))
    say(f"{path}: {len(records):,} predictions")
