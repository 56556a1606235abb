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
from ssl_nlp.training.callbacks.weights_per_part import parts_apart

PREDICTIONS, EMBEDDINGS = ".jsonl", ".npy"  # endings of the two kinds of files


def default_output(kind: type[Module] | None) -> str:
    """The name of the file in the directory of a run, whose model is of this class."""
    return "predictions.jsonl" if kind is not None and issubclass(kind, Task) else "embeddings.npy"


def task_in(model: Module) -> Task | None:
    """The task whose predictions are wanted: the model itself, or the only task among its objectives."""
    if isinstance(model, Task):
        return model
    tasks = [part for part in getattr(model, "objectives", {}).values() if isinstance(part, Task)]
    return tasks[0] if len(tasks) == 1 else None


def check_output(output: str, model: Module) -> Path:
    """The path of the file to write, whose ending says what goes into it.

    Args:
        output: as it was typed.
        model: a task predicts, a method embeds, and a method with a task among its objectives does either.

    Raises:
        UserError: it has an ending that the model has nothing for, or it exists.
    """
    endings = [PREDICTIONS] * (task_in(model) is not None) + [EMBEDDINGS] * (not isinstance(model, Task))
    path = Path(output)
    if path.suffix not in endings:
        wanted = " or ".join(endings)
        raise UserError(f"--output {path} is not a {wanted} file: name one that ends with {wanted}")
    if path.exists():
        raise UserError(f"--output {path} already exists: name another file, or move it away")
    return path


def write_predictions(
    task: Task, data: TextDataModule, trainer: Trainer, input: str | None, path: Path, batch_size: int = 64
) -> None:
    """Write the predictions for texts, one JSON record a line, in the order of the texts.

    Args:
        task: with its weights, on the device of the trainer.
        data: texts are cut, and windows made, as in a test on them; without `input`, their test split is predicted.
        trainer: the precision to compute with.
        input: a file with one text a line, or two with a tab between them where the task reads pairs.
        path: the `.jsonl` file.
        batch_size: texts at a time.

    Raises:
        UserError: each part of the data has weights of its own, and the parts of texts are not known; or there is neither
            `input` nor a test split.
    """
    if parts_apart(trainer):
        raise UserError(
            "each part has weights of its own (WeightsPerPart), and predict does not know the parts of texts: ssl-nlp test "
            "scores each part with its weights, and docs/continual.md says how to load those of one"
        )
    if input is None:
        if not getattr(data.corpus, "has", lambda split: True)("test"):
            raise UserError(
                f"{data.corpus} has no test split to predict: name one with --data.corpus.test, or a file of texts with "
                "--input FILE"
            )
        documents: Sequence[Document] = list(data.corpus.documents("test"))
    else:
        documents = [task.document_of_line(line, number) for number, line in enumerate(read_lines(input), start=1)]
    with trainer.precision_plugin.forward_context():
        records = task.predict_records(documents, batch_size, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records))
    say(f"{path}: {len(records):,} prediction{'s' * (len(records) != 1)}")
