"""Fine-tune runs on a task with equal settings, for `compare --task`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_nlp.cache import fingerprint
from ssl_nlp.commands.models import PRETRAINED
from ssl_nlp.commands.shipped import find_config
from ssl_nlp.commands.task_scores import is_task
from ssl_nlp.commands.train_runs import plan, train_planned
from ssl_nlp.comparison.compared_runs import find_runs
from ssl_nlp.encoders import PretrainedEncoder, Trained
from ssl_nlp.errors import UserError
from ssl_nlp.names import as_name
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.runs.class_paths import public_path
from ssl_nlp.runs.run import RUNS, Run, checkpoint_of


@dataclass(frozen=True)
class Start:
    """A run, checkpoint or published model that an encoder is taken from.

    Attributes:
        label: in the names of runs.
        run: as `Trained` takes it; or the name of a published model.
        encoder: a key of the encoder without its weights.
        digest: of the checkpoint; None for a published model.
        published: the name of the published model that the encoder is, or once was.
    """

    label: str
    run: str
    encoder: str
    digest: str | None = None
    published: str | None = None

    def arguments(self, untrained: bool = False) -> list[str]:
        """The arguments of `fit` that start from it."""
        kind, option = (PretrainedEncoder, "name") if self.digest is None else (Trained, "run")
        more = ["--model.encoder.untrained=true"] if untrained else []
        return [f"--model.encoder={checkpoints.path_of(kind)}", f"--model.encoder.{option}={self.run}", *more]


def fine_tune(
    task: str, names: Sequence[str], seeds: int, name: str, extra: Sequence[str], imports: Sequence[str] = ()
) -> list[str]:
    """Fine-tune each run on a task with each seed, and each distinct encoder untrained; return the folders of the runs.

    Args:
        task: the configuration of a task: a YAML file, or the name of a shipped one.
        names: runs, folders of runs, checkpoints, and published models as `pretrained:NAME`.
        seeds, name, extra, imports: as for `train`.

    Raises:
        UserError: the configuration is not that of a task, a run is one or is unfinished or has changed since it was
            fine-tuned, or a training failed.
    """
    config = find_config(task)
    starts = [start for given in names for start in _starts(given)]
    labels = [start.label for start in starts]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"{twice[0]} is named twice, and would give its fine-tuned runs the same names: name it once")
    stem = as_name(Path(config).stem)
    common = ["--config", config, f"--wandb.group={name}", *extra]
    fits = {f"{stem}-{start.label}": [*common, *start.arguments()] for start in starts}
    distinct: dict[str, Start] = {}
    of_runs = {start.published for start in starts if start.digest is not None}
    for start in starts:
        if start.digest is not None or start.published not in of_runs:  # a run that came from it has the same encoder
            distinct.setdefault(start.encoder, start)
    for start in distinct.values():
        fits[f"{stem}-untrained-{start.label}"] = [*common, *start.arguments(untrained=True)]
    plans = plan(fits, seeds, imports)
    for planned in plans.values():
        if not is_task(planned):
            kind = str(planned["model"]["class_path"]).rpartition(".")[2]
            raise UserError(
                f"--task {task} configures {kind}, which is not a task: see configs/tasks for those that are"
            )
    for start in starts:
        _check_unchanged(start, [f"{name}-{stem}-{start.label}-seed{seed}" for seed in range(seeds)])
    return train_planned(fits, plans, seeds, name, imports)


def _starts(given: str) -> list[Start]:
    """The starts that a name, a folder or a path refers to.

    Raises:
        UserError: there is nothing, it is a task, or it is not finished.
    """
    if given.startswith(PRETRAINED):
        model = given.removeprefix(PRETRAINED)
        return [Start(as_name(Path(model).name), model, fingerprint(model), published=_place(model))]
    if Path(given).suffix == ".ckpt":
        return [_start(as_name(Path(given).stem), given, Path(given))]
    found = find_runs([given])
    alone = len(found) == 1 and found[0].folder.name == Path(given).name
    starts = []
    for run in found:
        if is_task(run.config) or not run.config:
            if alone:
                kind = "was fine-tuned already" if run.config else "is no run that was trained here"
                raise UserError(f"{given} {kind}: name a pretrained run, or a published model as {PRETRAINED}NAME")
            continue
        if not run.finished:
            raise UserError(f"{run.name} is not finished: resume it with ssl-nlp fit, or leave it out")
        if run.folder.parent.resolve() != RUNS.absolute().resolve():
            raise UserError(
                f"{run.folder} is not in {RUNS.absolute()}: call compare beside runs/, or name a checkpoint"
            )
        starts.append(_start(run.name, run.name, checkpoint_of(run.name)[0]))
    if not starts:
        raise UserError(f"{given} holds no pretrained run: name one")
    return starts


def _start(label: str, run: str, path: Path) -> Start:
    saved, digest = checkpoints.read_with_digest(path)
    if is_task({"model": saved["ssl_nlp"]["method"]}):
        raise UserError(f"{run} was fine-tuned already: name a pretrained run")
    encoder = saved["ssl_nlp"]["method"]["init_args"].get("encoder")
    known = isinstance(encoder, dict) and public_path(encoder["class_path"]) == checkpoints.path_of(PretrainedEncoder)
    published = _place(encoder["init_args"]["name"]) if known else None
    return Start(label, run, _encoder_key(saved), digest, published)


def _place(name: str) -> str:
    """The name of a published model, or the full path of its folder."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _encoder_key(saved: dict[str, Any]) -> str:
    """A key of the encoder of a checkpoint, its tokenizer and its direction of sight, without the weights."""
    described = saved["ssl_nlp"]
    encoder = described["method"]["init_args"].get("encoder")
    return fingerprint(repr(encoder), described.get("causal"), described["tokenizer"])


def _check_unchanged(start: Start, runs: Sequence[str]) -> None:
    """Check that runs that were fine-tuned before came from the checkpoint that is there now.

    Raises:
        UserError: one did not.
    """
    for name in runs:
        ancestry = Run(name).read_state().get("ancestry")
        if start.digest is not None and ancestry and ancestry[-1]["digest"] != start.digest:
            raise UserError(
                f"runs/{name} was fine-tuned from another checkpoint of {start.run}, which has been trained since: choose "
                "another --output"
            )
