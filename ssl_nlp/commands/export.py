"""`export`: a trained model as a folder that other libraries load without this package."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from ssl_nlp import durable
from ssl_nlp.commands.models import Target, find_result
from ssl_nlp.commands.parser import CommandParser
from ssl_nlp.commands.suite_options import check_suite_options
from ssl_nlp.commands.task_results import read_results
from ssl_nlp.commands.trust import settings_of_run
from ssl_nlp.data import TextDataModule
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.cost import cost
from ssl_nlp.evaluation.suites import SUITES, get_suite
from ssl_nlp.export import onnx_format, peft_format, sentence_transformers_format, transformers_format, word2vec_format
from ssl_nlp.export.card import Facts, evaluations, model_card
from ssl_nlp.export.contents import Contents
from ssl_nlp.export.folder import check_free, new_folder
from ssl_nlp.export.hub import check_push, push
from ssl_nlp.export.tokenizer import tokenizer_notes
from ssl_nlp.modules.pooling import POOLINGS, Pooling
from ssl_nlp.quiet import progress_bars_hidden
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.tasks import Task
from ssl_nlp.terminal import say
from ssl_nlp.training.texts import TextModule

DESCRIPTION = "Write a trained model as a folder that other libraries load without this package."
MODEL = "a run (its last checkpoint or, of a task, its best one), a .ckpt file, or pretrained:PATH_OR_HUB_NAME"
Format = Literal["transformers", "sentence-transformers", "onnx", "peft", "word2vec"]
OPTIONS: dict[str, tuple[Any, Any, str]] = {  # type, default, help
    "format": (Format, "transformers", f"what the folder is for: {', '.join(get_args(Format))}"),
    "output": (str | None, None, "the new folder. Default: exports/MODEL-FORMAT"),
    "pooling": (Pooling | None, None, f"states that make the embedding: {', '.join(POOLINGS)}. Default: as in the run"),
    "normalize": (bool, False, "sentence-transformers: scale embeddings to length 1"),
    "quantize": (bool, False, "onnx: add a graph with weights of 8 bits, and measure its quality, size and speed"),
    "suite": (str | None, None, f"for --quantize: the suite, {', '.join(SUITES)} or files. Default: docs, or the task"),
    "config": (str | None, None, "for --quantize: a YAML file that describes a suite of your own files"),
    "push": (str | None, None, "also upload it to the Hugging Face hub, as a new private model USER/MODEL"),
    "license": (str, "unknown", "the license in the model card, by its name on the hub, such as apache-2.0"),
    "language": (str | None, None, "the language in the model card, such as en"),
}


def export(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Export a run or checkpoint.

    Raises:
        UserError: the user made a mistake, or the format has no place for the model; nothing is written then.
    """
    parser = CommandParser(prog="ssl-nlp export", description=DESCRIPTION)
    parser.add_argument("model", type=str, metavar="MODEL", help=MODEL)
    for name, (kind, default, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)
    options = parser.parse_args(list(arguments))
    output = Path(options.output or Path("exports") / f"{_plain(options.model)}-{options.format}")
    check_free(output)
    check_suite_options(options.suite, options.config)
    if options.quantize and options.format != "onnx":
        raise UserError("--quantize makes a second graph: use it with --format onnx")
    if options.push is not None:
        check_push(options.push)
    target = find_result(options.model)
    if not target.method.embedding_dim:
        raise UserError(f"{options.model} holds a model without an encoder, and no format has a place for it")
    facts = _facts(target, options.license, options.language)
    with new_folder(output) as folder, progress_bars_hidden():
        contents = _write(target, folder, options)
        if options.quantize:
            contents = replace(contents, measured=_quantized(target, folder, options))
        durable.write_text(
            folder / "README.md", model_card(target.method, facts, contents, options.push or output.name)
        )
    say(f"{output}: {contents.summary}")
    if not any(evaluations(facts)):
        say(
            f"the card has no evaluation of this checkpoint: {_remedy(target, options.model)} adds it to the next export"
        )
    for line in [*(f"– {note}" for note in contents.notes), *contents.measured]:
        say(line)
    if options.push is not None:
        say(f"pushed to {push(output, options.push)}")


def _remedy(target: Target, model: str) -> str:
    """The command that evaluates a model, for its card."""
    if target.run is not None and isinstance(target.method, Task):
        return f"ssl-nlp test --run {target.name}, or ssl-nlp compare {target.name},"
    return f"ssl-nlp evaluate {model}"


def _write(target: Target, folder: Path, options: Any) -> Contents:
    module = target.method
    if options.format == "word2vec":
        return word2vec_format.write(module, folder)
    contents = _write_model(module, folder, options)
    return replace(contents, notes=[*contents.notes, *tokenizer_notes(module.tokenizer)])


def _write_model(module: TextModule, folder: Path, options: Any) -> Contents:
    if options.format == "sentence-transformers":
        return sentence_transformers_format.write(module, folder, options.pooling, options.normalize)
    if options.format == "onnx":
        return onnx_format.write(module, folder, options.pooling)
    if options.format == "peft":
        return peft_format.write(module, folder)
    return transformers_format.write(module, folder, options.pooling or module.pooling)


def _quantized(target: Target, folder: Path, options: Any) -> list[str]:
    """Add the quantized graph, and compare it with the full one.

    Raises:
        UserError: the data of a task are missing.
    """
    from ssl_nlp.export import quantization

    quantization.quantize(folder)
    module = target.method
    if isinstance(module, Task) and (options.suite, options.config) == (None, None):
        data = _data_of(target)
        module.connect_data(data, "validate")
        quality = quantization.task_quality(module, folder, data)
        texts = [document.text for document in islice(data.corpus.documents("valid"), quantization.TEXTS)]
    else:
        suite = get_suite(options.suite or "docs", options.config)
        quality, texts = quantization.embedding_quality(module, folder, suite), suite.texts
    return quantization.table([*quality, *quantization.size_and_speed(module, folder, texts)])


def _data_of(target: Target) -> TextDataModule:
    """The data that a run was trained on.

    Raises:
        UserError: the target is not a run.
    """
    if target.run is None:
        raise UserError("--quantize measures a task on the data of its run: export the run, or name a --suite")
    parser = CommandParser()
    parser.add_subclass_arguments(TextDataModule, "data", instantiate=True)
    settings = yaml.safe_load(settings_of_run(target.run))["data"]
    data: TextDataModule = parser.instantiate(parser.parse_object({"data": settings})).data
    data.continue_with(target.method.tokenizer, {})
    return data


def _plain(name: str) -> str:
    """A name for a folder, from what the user called the model: of a path to a checkpoint, the run and the file."""
    path = Path(name.removeprefix("pretrained:"))
    parts = [path.stem if path.suffix == ".ckpt" else path.name]
    if path.suffix == ".ckpt" and path.parent.name == "checkpoints":
        parts.insert(0, path.absolute().parents[1].name)
    return re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip(".-") or "model"


def _facts(target: Target, license: str, language: str | None) -> Facts:
    """Read the facts about a checkpoint from its run directory, up to its step."""
    in_run = target.record.parent.name == "checkpoints"  # a .ckpt file of a run
    directory = target.record.parent.parent if in_run else target.record.parent
    facts = Facts(target.name, target.digest, target.header["cost"], target.step, record=target.record)
    facts = replace(facts, license=license, language=language)
    if target.step is None or not (directory / "config.yaml").exists():
        return facts
    try:
        config = yaml.safe_load((directory / "config.yaml").read_text(encoding="utf-8"))
        rows = [row for row in read_numbers(directory / "metrics.csv") if row["step"] <= target.step]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{directory} is broken ({error}): copy the run again, or move its checkpoint away") from error
    last = next((row for row in reversed(rows) if "val/loss" in row), {})
    metrics = {name: value for name, value in last.items() if name.startswith("val/")}
    costs = cost(*target.method.parameter_counts(), rows, target.method.encoder.ancestry)
    facts = replace(facts, config=config, metrics=metrics, cost=costs)
    if not isinstance(target.method, Task):
        return facts
    validation, test = (read_results(directory, name, target.digest, target.step) for name in ("validation", "test"))
    return replace(facts, validation=validation, test=test)
