"""`export`: a trained model as a folder that other libraries load without this package."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from ssl_nlp import durable
from ssl_nlp.commands.models import Target, find_target
from ssl_nlp.commands.parser import CommandParser
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.cost import cost
from ssl_nlp.export import onnx_format, sentence_transformers_format, transformers_format
from ssl_nlp.export.card import Facts, model_card
from ssl_nlp.export.contents import Contents
from ssl_nlp.export.folder import check_free, new_folder
from ssl_nlp.modules.pooling import POOLINGS, Pooling
from ssl_nlp.quiet import progress_bars_hidden
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.terminal import say
from ssl_nlp.training.parts import parameter_counts

DESCRIPTION = "Write a trained model as a folder that other libraries load without this package."
MODEL = "a run (NAME or runs/NAME: its last checkpoint), a .ckpt file, or pretrained:PATH_OR_HUB_NAME"
Format = Literal["transformers", "sentence-transformers", "onnx"]
OPTIONS: dict[str, tuple[Any, Any, str]] = {  # type, default, help
    "format": (Format, "transformers", f"what the folder is for: {', '.join(get_args(Format))}"),
    "output": (str | None, None, "the new folder. Default: exports/MODEL-FORMAT"),
    "pooling": (Pooling | None, None, f"states that make the embedding: {', '.join(POOLINGS)}. Default: as in the run"),
    "normalize": (bool, False, "sentence-transformers: scale embeddings to length 1"),
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
    target = find_target(options.model)
    facts = _facts(target, options.license, options.language)
    with new_folder(output) as folder, progress_bars_hidden():
        contents = _write(target, folder, options)
        durable.write_text(folder / "README.md", model_card(target.method, facts, contents, output.name))
    say(f"{output}: {contents.summary}")
    for note in contents.notes:
        say(f"– {note}")


def _write(target: Target, folder: Path, options: Any) -> Contents:
    module = target.method
    if options.format == "sentence-transformers":
        return sentence_transformers_format.write(module, folder, options.pooling, options.normalize)
    if options.format == "onnx":
        return onnx_format.write(module, folder, options.pooling)
    return transformers_format.write(module, folder, options.pooling or module.pooling)


def _plain(name: str) -> str:
    """A name for a folder, from what the user called the model: of a path to a checkpoint, the run and the file."""
    path = Path(name.removeprefix("pretrained:"))
    parts = [path.stem if path.suffix == ".ckpt" else path.name]
    if path.suffix == ".ckpt" and path.parent.name == "checkpoints":
        parts.insert(0, path.absolute().parents[1].name)
    return re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip(".-") or "model"


def _facts(target: Target, license: str, language: str | None) -> Facts:
    """What the run directory says of a checkpoint, up to its step."""
    directory = target.run.directory if target.run is not None else target.record.parent.parent
    facts = Facts(target.name, target.digest, target.header["cost"], target.step, record=target.record)
    facts = replace(facts, license=license, language=language)
    if target.step is None or not (directory / "config.yaml").exists():
        return facts
    try:
        config = yaml.safe_load((directory / "config.yaml").read_text(encoding="utf-8"))
        rows = [row for row in read_numbers(directory / "metrics.csv") if row["step"] <= target.step]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{directory} is broken ({error}): copy the run again, or export a copy of its checkpoint"
        ) from error
    last = next((row for row in reversed(rows) if "val/loss" in row), {})
    metrics = {name: value for name, value in last.items() if name.startswith("val/")}
    return replace(facts, config=config, metrics=metrics, cost=cost(*parameter_counts(target.method), rows))
