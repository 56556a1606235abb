"""The models that `evaluate` and `compare` take: runs, checkpoints and published models, with their weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ssl_nlp.cache import fingerprint, own_sources
from ssl_nlp.commands.trained_splits import digests_of
from ssl_nlp.commands.trust import settings_of_run
from ssl_nlp.data.tokenizer import load_pretrained
from ssl_nlp.encoders import Encoder, PretrainedEncoder
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import PROTOCOL
from ssl_nlp.evaluation.cost import cost
from ssl_nlp.evaluation.record import record_beside
from ssl_nlp.methods import CausalLM, MaskedLM, Method
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.runs.bases import weights_digest
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.runs.run import RUNS, Run, checkpoint_of
from ssl_nlp.tasks import Task
from ssl_nlp.training.texts import TextModule

PRETRAINED = "pretrained:"
SEED = 0  # of the random baselines beside a model that is no run


@dataclass(frozen=True)
class Target:
    """A model to evaluate.

    Attributes:
        name: in tables.
        method: with its weights.
        record: path of its `evaluation.json`.
        file: that the weights came from.
        digest: a key of the weights.
        description: the method without its weights, as plain data.
        untrained: creates the method at random initialisation.
        run: that it belongs to, if any.
        text: the digests of the splits that it was trained on, as far as they are known.
        step: steps of the optimizer before the checkpoint; None for a published model.
        kept: whether it is a checkpoint from the middle of the run.
    """

    name: str
    method: TextModule
    record: Path
    file: str
    digest: str
    description: Any
    untrained: Callable[[], TextModule]
    run: Run | None = None
    text: dict[str, str] = field(default_factory=dict)
    step: int | None = None
    kept: bool = False

    @cached_property
    def seed(self) -> int:
        """That of its run, with which the random baselines beside it are drawn, so that those of several runs vary, too."""
        if self.run is None or not self.run.config.exists():
            return SEED
        seed = (yaml.safe_load(settings_of_run(self.run)) or {}).get("seed_everything")
        return seed if isinstance(seed, int) else SEED

    @property
    def random_key(self) -> str:
        """A key of the method at random initialisation: runs of one seed that differ in their training only share it."""
        return fingerprint("untrained", PROTOCOL, self.seed, self.description, *self._own_code)

    @property
    def key(self) -> str:
        """A key of the method with its weights, for its embeddings."""
        return fingerprint(self.digest, *self._own_code) if self._own_code else self.digest[:32]

    @cached_property
    def _own_code(self) -> list[Any]:
        """The code of the user's own classes, on which embeddings depend as much as on weights."""
        return own_sources((type(part) for part in self.method.modules()), TextModule, Encoder)

    @property
    def kind(self) -> str:
        """The class of the method, or of a published encoder."""
        return type(self.method.encoder if self.file.startswith(PRETRAINED) else self.method).__name__

    @cached_property
    def header(self) -> dict[str, Any]:
        """The part of `evaluation.json` that is the same for all suites."""
        rows = [] if self.run is None else read_numbers(self.run.directory / "metrics.csv")
        if self.kept:
            rows = [row for row in rows if row["step"] <= (self.step or 0)]
        checkpoint = {"file": self.file, "digest": self.digest}
        ancestry = [*self.method.encoder.ancestry]
        return {
            "method": self.kind,
            "loss_unit": self.method.loss_unit,
            "checkpoint": checkpoint,
            "text": self.text,
            "cost": cost(*self.method.parameter_counts(), rows, ancestry),
            "ancestry": ancestry,
        }


def find_target(name: str) -> Target:
    """The run, checkpoint or pretrained model that a person means by `name`.

    Raises:
        UserError: there is none, or it cannot be loaded.
    """
    if name.startswith(PRETRAINED):
        return _pretrained(name.removeprefix(PRETRAINED))
    path, run = checkpoint_of(name)
    if run is None:
        return _checkpoint(name, path, record_beside(path))
    run.check_links(reads="checkpoints")
    return _checkpoint(run.name, path, run.directory / "evaluation.json", run)


def kept_targets(target: Target) -> Iterator[Target]:
    """The checkpoints that the run of a target has kept, in the order of their steps, each loaded when it is asked for.

    Raises:
        UserError: the target is not a run, or the run has kept no checkpoints.
    """
    if target.run is None:
        raise UserError(f"{target.name} is not a run, and --every evaluates the checkpoints that a run has kept")
    if not target.run.kept_checkpoints:
        raise UserError(f"{target.name} has kept no checkpoints: train a run with ssl-nlp fit --keep_every STEPS")
    for path in target.run.kept_checkpoints:
        found = _checkpoint(f"{target.name}, {path.stem}", path, record_beside(path), target.run)
        yield replace(found, kept=True)


def find_result(name: str) -> Target:
    """As `find_target`, but with the best checkpoint of a task's run, for use rather than comparison."""
    target = find_target(name)
    if target.run is None or not isinstance(target.method, Task):
        return target
    return _checkpoint(target.name, target.run.best_checkpoint(), target.record, target.run)


def _checkpoint(name: str, path: Path, record: Path, run: Run | None = None) -> Target:
    saved, digest = checkpoints.read_with_digest(path)
    method = TextModule.from_saved(saved, str(path))
    description = {name: saved["ssl_nlp"][name] for name in ("method", "tokenizer")}

    def untrained() -> TextModule:
        return TextModule.from_description(description, str(path))

    where = path if run is None else path.relative_to(run.directory)
    text, step = digests_of(saved), saved.get("global_step")
    return Target(name, method, record, str(where), digest, description, untrained, run, text, step)


def _pretrained(name: str) -> Target:
    """A model of `transformers` as it was published, with its language modelling head, pooled by the mean of its states."""
    tokenizer = load_pretrained(name)

    def build(kind: type[Method], encoder: PretrainedEncoder) -> Method:
        encoder.build(tokenizer.vocab_size, tokenizer.pad_id, None, tokenizer)
        method = kind(encoder)
        method.causal, method.pooling = encoder.causal, Method.pooling
        method.connect(tokenizer)
        return method.eval()

    def untrained() -> TextModule:
        return build(type(method), PretrainedEncoder(name, config=config, language_head="published"))

    encoder = PretrainedEncoder(name)
    method = build(Method, encoder)
    if encoder.causal or tokenizer.mask_id is not None:
        language_model = build(CausalLM if encoder.causal else MaskedLM, encoder)
        method = method if encoder.lacks_language_head else language_model
    config = encoder.hparams()["config"]
    label = name.strip("/").replace("/", "--") if not Path(name).exists() else Path(name).resolve().name
    record = RUNS.absolute() / f"pretrained-{label}" / "evaluation.json"
    description = [type(method).__name__, config, tokenizer.serialize()]
    digest, file = weights_digest(method.state_dict()), f"{PRETRAINED}{name}"
    return Target(label, method, record, file, digest, description, untrained)
