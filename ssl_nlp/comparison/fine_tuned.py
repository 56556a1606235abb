"""A fine-tuned run: where its encoder comes from, and how it was fine-tuned."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ssl_nlp.comparison import configuration as configurations
from ssl_nlp.comparison.compared_runs import ComparedRun, read_run
from ssl_nlp.comparison.items import without_items
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.record import SuiteResult

ENCODER, OWN = "model.encoder", ("model.encoder.freeze", "model.encoder.adapter", "model.encoder.decoder")


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned run and its results.

    Attributes:
        run, results: these.
        known: digests of the text of its pretraining, as settings, that other seeds of it know (`sharing_text`).
    """

    run: ComparedRun
    results: SuiteResult
    known: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """DATA.TASK, such as `sst2.classification`."""
        names = [*self.results.evaluators, *(name for name in self.results.missing if "/" not in name)]
        if not names:
            raise UserError(f"{self.run.evaluation} is broken: move it away and compare again")
        return names[0]

    @property
    def read(self) -> float:
        """The share of the characters of its texts that it reads; 1 where it is not known."""
        result = self.results.evaluators.get(self.task)
        return 1.0 if result is None or result.read is None else result.read

    @cached_property
    def settings(self) -> dict[str, str]:
        """The settings of the fine-tuning, without what the encoder is and where its weights come from."""
        found = configurations.settings(self.run)
        return {key: value for key, value in found.items() if not key.startswith(ENCODER) or key.startswith(OWN)}

    @cached_property
    def pretraining(self) -> ComparedRun | None:
        """The run that its encoder comes from, if it is still there."""
        name = self.run.ancestry[-1]["run"] if self.run.ancestry else None
        folder = self.run.folder.parent / (name or "")
        return read_run(folder) if name and (folder / "run.json").is_file() else None

    @property
    def published(self) -> str | None:
        """The name of the published model that its encoder comes from; None if that is something else."""
        last = self.run.ancestry[-1] if self.run.ancestry else None
        return None if last is None or last["digest"] is not None else last["checkpoint"]

    @cached_property
    def origin(self) -> dict[str, str]:
        """The settings of the pretraining except its seed, as far as they are known; empty without one."""
        if not self.run.ancestry:
            return {}
        last = self.run.ancestry[-1]
        where = {"checkpoint": Path(last["checkpoint"]).name, "step": str(last["step"])}
        if self.pretraining is None:
            return {"pretraining": str(last["digest"] or last["checkpoint"])} | where
        return {**self.known, **configurations.settings(self.pretraining), **where}

    @property
    def start(self) -> str:
        """A key of what it starts from: pretrainings that differ in their seed only share it."""
        return json.dumps(self.origin or ["untrained", self.run.record.get("encoder")], sort_keys=True)

    @property
    def weights(self) -> str:
        """A key of the weights that it starts from; its own name without any."""
        last = self.run.ancestry[-1] if self.run.ancestry else None
        return self.run.name if last is None else str(last["digest"] or last["checkpoint"])

    @property
    def name(self) -> str:
        """The methods that trained its encoder, one after the other, or the published model."""
        if not self.run.ancestry:
            encoder = configurations.flatten(self.run.config)
            kind = encoder.get(ENCODER, "encoder")
            if kind == "PretrainedEncoder":
                return f"untrained {Path(encoder[f'{ENCODER}.name']).name}"
            causal = "causal " if (self.run.record.get("encoder") or {}).get("causal") else ""
            return f"untrained {causal}{'encoder' if kind == 'Trained' else kind}"
        return " → ".join(one["method"] or Path(one["checkpoint"]).name for one in self.run.ancestry)


def sharing_text(tuned: Sequence[FineTuned]) -> list[FineTuned]:
    """Fine-tuned runs, of which those whose pretraining recorded no digest of its text take that of its other seeds.

    They do so where all pretrainings with the same settings and a digest have the same one: a digest that is not known
    differs from no other.
    """

    def text_and_rest(one: FineTuned) -> tuple[dict[str, str], str]:
        text = {key: value for key, value in one.origin.items() if key.startswith(configurations.TEXT)}
        return text, json.dumps({key: value for key, value in one.origin.items() if key not in text}, sort_keys=True)

    known: dict[str, dict[str, set[str]]] = {}
    for one in tuned:
        text, rest = text_and_rest(one)
        for key, digest in text.items():
            known.setdefault(rest, {}).setdefault(key, set()).add(digest)
    shared = [known.get(text_and_rest(one)[1], {}) for one in tuned]
    alike = [{key: min(found) for key, found in of.items() if len(found) == 1} for of in shared]
    return [replace(one, known=text) for one, text in zip(tuned, alike, strict=True)]


def data_of(task: str) -> str:
    """The name of the data of DATA.TASK."""
    return without_items(task).rpartition(".")[0]
