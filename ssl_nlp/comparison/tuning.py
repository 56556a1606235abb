"""The record of a search of settings: how often each method was tried, and with which scores."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ssl_nlp import durable
from ssl_nlp.errors import UserError

RECORD = "tuning.json"


@dataclass(frozen=True)
class MethodTrials:
    """The trials of one method.

    Attributes:
        method: its class.
        searched: the settings that were searched.
        lacking: settings for all methods that it does not have.
        steps: of the optimizer in a trial that was not stopped early.
        trials: the state of each, `complete`, `pruned` or `failed`, and its last score on validation items, if it has one.
    """

    method: str
    searched: Sequence[str]
    lacking: Sequence[str]
    steps: int
    trials: Sequence[tuple[str, float | None]]

    def scores(self, higher_is_better: bool) -> list[float]:
        """One score for each trial, higher being better; a failed one counts as the worst of all.

        That of a trial that was stopped early is its score when it was stopped.
        """
        sign = 1 if higher_is_better else -1
        known = [sign * score for _, score in self.trials if score is not None and math.isfinite(score)]
        return known + [min(known)] * (len(self.trials) - len(known)) if known else []


@dataclass(frozen=True)
class Tuning:
    """A search of the settings of several methods.

    Attributes:
        name: of the search.
        suite, evaluator: whose validation score decided.
        higher_is_better: whether it is good if high.
        budget: of a trial that was not stopped early, as the user gave it.
        trials: of each method.
        methods: by the name of their configuration.
    """

    name: str
    suite: str
    evaluator: str
    higher_is_better: bool
    budget: str
    trials: int
    methods: Mapping[str, MethodTrials]

    @property
    def described(self) -> str:
        """Sentences on what all searches had in common, and on the settings that each method searched."""
        said = (
            f"The settings of each method are the best of {self.trials} trials of {self.budget}, by the score of "
            f"{self.evaluator} on the validation items of {self.suite}."
        )
        for name, method in self.methods.items():
            failed = sum(state == "failed" for state, _ in method.trials)
            searched = ", ".join(
                option.removeprefix("model.").removeprefix("optimization.") for option in method.searched
            )
            said += f" {name} searched {searched}{f', and {failed} of its trials failed' if failed else ''}."
        return said


def write_tuning(tuning: Tuning, path: Path) -> None:
    """Write the record."""
    durable.write_text(path, json.dumps(asdict(tuning), indent=2) + "\n")


def read_tuning(path: Path) -> Tuning:
    """Read a record.

    Raises:
        UserError: there is none, or it is broken.
    """
    if not path.exists():
        raise UserError(f"there is no record {path} of a search: finish it with ssl-nlp tune")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        methods = {name: MethodTrials(**plain) for name, plain in content.pop("methods").items()}
        return Tuning(**content, methods=methods)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is broken ({error!r}): run ssl-nlp tune again") from error
